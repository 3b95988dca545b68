"""The version of mira."""

__version__ = "0.2.0"
