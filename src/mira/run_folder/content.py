"""What a file is known by on every machine: its content, never a clock.

Of a run folder at a URL, it is what the store's listing says: nothing is read. Of a local or shared folder, it is the
size and the hash of the file's end. The end of a Parquet file holds what mira wrote of it (key or fingerprint of what
it follows from, and counts) and sizes, smallest and largest value of every column. Files up to 64 KiB are hashed whole.
mira puts its files whole and never edits them, and the pipeline compares their hashes before a selection, so no more
needs to be read.
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from mira.run_folder.working_copy import working_copy_of

__all__ = ["by_content", "content_state", "state_of"]

_END = 1 << 16
_MAGIC = b"PAR1"
_by_content: ContextVar[bool] = ContextVar("by_content", default=False)


@contextmanager
def by_content() -> Iterator[None]:
    """Know files by their content inside, so that identities are the same on every machine."""
    token = _by_content.set(True)
    try:
        yield
    finally:
        _by_content.reset(token)


def state_of(path: Path) -> list[Any]:
    """Return what tells whether a file has changed: of a local one size and time, which is cheap; [] if it is missing.

    Inside `by_content`, it is `content_state`.
    """
    if _by_content.get() or working_copy_of(path):
        return content_state(path)
    try:
        stat = path.stat()
    except FileNotFoundError:
        return []
    return [stat.st_size, stat.st_mtime_ns]


def content_state(path: Path) -> list[Any]:
    """Return what a file is known by on every machine; [] if it is missing."""
    if place := working_copy_of(path):
        copy, name = place
        if copy.is_shared(name):
            known = copy.find(name)
            return [] if known is None else [known.size, known.identity]
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(size - _END, 0))
            end = file.read()
            if end[-4:] == _MAGIC and (footer := int.from_bytes(end[-8:-4], "little") + 8) > len(end):
                file.seek(max(size - footer, 0))
                end = file.read()
    except (FileNotFoundError, NotADirectoryError):
        return []
    return [size, hashlib.blake2b(end, digest_size=8).hexdigest()]
