"""Two runs side by side: what changed between them, and why."""
