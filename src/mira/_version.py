"""The version of mira."""

__version__ = "0.1.0"
