"""Records that are needed more than once, on disk."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import orjson

from mira.corpus.record import Part, Record

__all__ = ["Spool"]


class Spool:
    """Records on disk, gone through in order of (source, id), whatever order they came in.

    In memory are their keys alone.

    Args:
        path: The file; written anew.
        records: The records.
    """

    def __init__(self, path: Path, records: Iterable[Record]) -> None:
        self._path = path
        self._places: list[tuple[str, str, int, int]] = []
        with path.open("wb") as file:
            for r in records:
                parts = [[part.label, part.text] for part in r.parts]
                data = orjson.dumps([r.id, r.source, r.family, parts, r.row, r.n_tokens])
                self._places.append((r.source, r.id, file.tell(), len(data)))
                file.write(data)
        self._places.sort()

    def __iter__(self) -> Iterator[Record]:
        with self._path.open("rb") as file:
            for _, _, start, length in self._places:
                file.seek(start)
                id, source, family, parts, row, n_tokens = orjson.loads(file.read(length))
                yield Record(id, source, family, tuple(Part(*part) for part in parts), row, n_tokens)
