"""The translations: units out of the English sources, catalogues, and pages built from both.

A *unit* is what a translator sees as one text: a block of Markdown, a Python comment, a string.
"""
