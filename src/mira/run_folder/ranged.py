"""Reading parts of a file: of an object at a URL, only what is asked for is fetched.

The footer of a Parquet file holds the number of rows, statistics of columns, and the metadata that say what the file
follows from.
"""

import io
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from mira.run_folder.store import Object, Store, each
from mira.run_folder.working_copy import working_copy_of

__all__ = ["prefetch_footers", "ranged", "read_footer", "several"]

_KEPT = 1 << 17  # footers that are kept in memory
_END = 1 << 16  # what readers of Parquet begin with

Item = TypeVar("Item")
Result = TypeVar("Result")


@contextmanager
def ranged(path: Path) -> Iterator[Any]:
    """Give what pyarrow reads a file from: its path, or a file-like object that reads parts of an object at a URL.

    Raises:
        FileNotFoundError: It is not there.
        OSError: It cannot be read.
    """
    place = working_copy_of(path)
    if place is None or not place[0].is_shared(place[1]):
        yield path
        return
    copy, name = place
    known = copy.find(name)
    if known is None:
        raise FileNotFoundError(2, os.strerror(2), f"{copy.store.url}/{name}")
    if copy.is_current(name):
        yield copy.path(name)
        return
    with _Part(copy.store, name, known.size) as file:
        yield file


def several(function: Callable[[Item], Result], items: Sequence[Item], path: Path) -> list[Result]:
    """Call a function that reads or writes small files, several at once where they lie at a URL: waiting is shared.

    Args:
        function: The function.
        items: Its arguments.
        path: Any path of the run folder.
    """
    return [function(item) for item in items] if working_copy_of(path) is None else each(function, items)


def read_footer(path: Path) -> pq.FileMetaData:
    """Return the footer of a Parquet file.

    Raises:
        OSError: The file is missing or cannot be read.
        pa.ArrowException: It is damaged.
    """
    place = working_copy_of(path)
    known = place[0].find(place[1]) if place and place[0].is_shared(place[1]) else None
    return pq.read_metadata(path) if known is None else _footer(path, known)


def prefetch_footers(paths: Iterable[Path]) -> None:
    """Ask for the footers of many files at once, for `read_footer`; files of this machine need none of it."""
    far = {str(path): path for path in paths if working_copy_of(path)}

    def one(text: str) -> None:
        with suppress(OSError, pa.ArrowException):  # whoever reads it sees that
            read_footer(far[text])

    each(one, list(far))


@lru_cache(maxsize=_KEPT)
def _footer(path: Path, known: Object) -> pq.FileMetaData:
    with ranged(path) as source:
        return pq.read_metadata(source)


class _Part(io.RawIOBase):
    """An object that is read in parts. What is read of its end is kept, for readers come back to it."""

    def __init__(self, store: Store, name: str, size: int) -> None:
        self._store, self._name, self._size = store, name, size
        self._at = 0
        self._end = b""

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        self._at = max(start + offset, 0)
        return self._at

    def read(self, size: int | None = -1) -> bytes:
        stop = self._size if size is None or size < 0 else min(self._at + size, self._size)
        found = self._bytes(self._at, stop) if stop > self._at else b""
        self._at += len(found)
        return found

    def readinto(self, buffer: Any) -> int:
        found = self.read(len(buffer))
        buffer[: len(found)] = found
        return len(found)

    def _bytes(self, start: int, stop: int) -> bytes:
        first = max(self._size - _END, 0)
        if start < first:
            return self._store.read_part(self._name, start, stop)
        if not self._end:
            self._end = self._store.read_part(self._name, first, self._size)
        return self._end[start - first : stop - first]
