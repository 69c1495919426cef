"""What is clicked: pickers of models and devices, and a box to chat in."""
