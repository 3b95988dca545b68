"""Footers of Parquet files: what a file says of itself, without reading the rest.

A footer holds the number of rows, statistics of columns, and the metadata that say what the file follows from. Of a run
at a URL, only the end of an object is asked for.
"""

from collections.abc import Iterable
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from mira.run_folder.ranged import ranged
from mira.run_folder.store import Object, each
from mira.run_folder.working_copy import working_copy_of

__all__ = ["prefetch_footers", "read_footer"]

_KEPT = 1 << 17  # footers that are kept in memory


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
