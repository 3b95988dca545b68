"""Over whole runs and files: what a scorer, or a change, is worth."""
