"""What a source's file is like, without reading it: whether it has changed since it was found."""

from pathlib import Path
from typing import Any

from fsspec.core import url_to_fs

from mira.corpus.files.lines import is_remote

__all__ = ["file_state", "remote_state"]


def file_state(path: str) -> str:
    """Return size and times of a local file, or what a remote file system tells about its file."""
    if is_remote(path):
        fs, inside = url_to_fs(path)
        fs.invalidate_cache()
        return remote_state(fs, inside)
    stat = Path(path).stat()
    return f"{stat.st_size} {stat.st_mtime_ns} {stat.st_ctime_ns}"


def remote_state(fs: Any, path: str) -> str:
    """Return what a remote file system says of a file's content."""
    try:
        return str(fs.checksum(path))
    except (NotImplementedError, AttributeError):
        return str(fs.ukey(path))
