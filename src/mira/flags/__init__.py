"""Flags on records that selection should know of: duplicates and contamination; nothing is dropped silently."""

from mira.flags.drop import Dropped, dropped_rows
from mira.flags.stage import flag, flags_path

__all__ = ["Dropped", "dropped_rows", "flag", "flags_path"]
