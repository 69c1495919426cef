"""From a model's name to a folder with its files, and whether it fits this machine."""
