"""Whether a source's file is still as it was when it was found."""

from pathlib import Path
from typing import Any

from fsspec.core import url_to_fs

from mira.corpus.lines import is_remote
from mira.corpus.shards import Shard
from mira.errors import RunError

__all__ = ["check_unchanged", "file_state", "told_of"]


def check_unchanged(shard: "Shard") -> None:
    """Check that a shard's file is still as it was when the shard was found: a look at its size and time, no reading.

    Who reads a shard checks it before and after, so that nothing is taken for the text that was indexed and is not.

    Raises:
        RunError: The file has changed, or is gone.
    """
    try:
        same = not shard.state or file_state(shard.path) == shard.state
    except FileNotFoundError:
        same = False
    if not same:
        raise RunError(
            f"source '{shard.source}': {shard.path} has changed while mira was at work",
            "Run again when nothing writes to it: mira run reads what has changed.",
        )


def file_state(path: str) -> str:
    """Return size and times of a local file, or what a remote file system tells about its file."""
    if is_remote(path):
        fs, inside = url_to_fs(path)
        fs.invalidate_cache()
        return told_of(fs, inside)
    stat = Path(path).stat()
    return f"{stat.st_size} {stat.st_mtime_ns} {stat.st_ctime_ns}"


def told_of(fs: Any, path: str) -> str:
    """Return what a remote file system says of a file's content."""
    try:
        return str(fs.checksum(path))
    except (NotImplementedError, AttributeError):
        return str(fs.ukey(path))
