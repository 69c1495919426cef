"""The same chain in many processes and on many machines: Ray runs it, and no row is lost."""
