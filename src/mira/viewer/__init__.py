"""A run folder in the browser: `mira view`."""
