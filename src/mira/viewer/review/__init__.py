"""Blind review in the browser: `mira review`."""
