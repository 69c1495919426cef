"""The notebooks: run them, store what they show, and check what was written and stored."""
