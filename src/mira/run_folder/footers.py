"""Footers of Parquet files: what a file says of itself, without reading the rest.

A footer holds the number of rows, statistics of columns, and the metadata that say what the file follows from. Of a run
at a URL, only the last bytes of an object are asked for.
"""

from collections.abc import Iterable
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from mira.run_folder.store import Object, each
from mira.run_folder.working_copy import WorkingCopy, working_copy_of

__all__ = ["prefetch_footers", "read_footer"]

_TAIL = 1 << 16  # bytes that are asked for first; most footers are smaller
_KEPT = 1 << 17  # footers that are kept in memory

_copies: dict[str, WorkingCopy] = {}  # by URL


def read_footer(path: Path) -> pq.FileMetaData:
    """Return the footer of a Parquet file.

    Raises:
        OSError: The file is missing or cannot be read.
        pa.ArrowException: It is damaged.
    """
    place = working_copy_of(path)
    known = place[0].find(place[1]) if place and place[0].is_shared(place[1]) else None
    if place is None or known is None or place[0].is_current(place[1]):
        return pq.read_metadata(path)
    _copies[place[0].url] = place[0]
    return pq.read_metadata(pa.BufferReader(_tail(place[0].url, place[1], known)))


def prefetch_footers(paths: Iterable[Path]) -> None:
    """Ask for the footers of many files at once, for `read_footer`; files of this machine need none of it."""
    far = {str(path): path for path in paths if working_copy_of(path)}

    def one(text: str) -> None:
        with suppress(OSError, pa.ArrowException):  # whoever reads it sees that
            read_footer(far[text])

    each(one, list(far))


@lru_cache(maxsize=_KEPT)
def _tail(url: str, name: str, known: Object) -> bytes:
    """Return the end of an object, with its footer whole; of this version of it."""
    store = _copies[url].store
    data = store.read_end(name, _TAIL)
    if len(data) >= 8:
        whole = int.from_bytes(data[-8:-4], "little") + 8  # the footer, its length and the closing mark
        if len(data) < whole <= known.size:
            data = store.read_end(name, whole)
    return data
