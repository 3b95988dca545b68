"""Folders of this machine that runs share."""

import os
from pathlib import Path

import platformdirs

__all__ = ["user_cache"]


def user_cache() -> Path:
    """Return mira's cache folder, which all runs share: $MIRA_CACHE, or the user's cache folder."""
    return Path(os.environ.get("MIRA_CACHE") or platformdirs.user_cache_dir("mira"))
