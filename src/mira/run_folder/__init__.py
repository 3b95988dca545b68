"""The run folder: its paths, and the only way mira puts a file in place."""
