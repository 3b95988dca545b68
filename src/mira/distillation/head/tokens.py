"""Labelled records as token ids on disk: memory does not grow with their number."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from mira.corpus.record import Record
from mira.distillation.encoder.cross_validation import Labels
from mira.distillation.head.reading import Reader
from mira.errors import InputError
from mira.progress import Log
from mira.run_folder.files import atomic

__all__ = ["TokenFile"]

_ROWS = 256
_SCHEMA = pa.schema([("row", pa.int64()), ("input_ids", pa.list_(pa.int32()))])


class TokenFile:
    """Token ids of a group's labelled records, in the order of its labels.

    Args:
        path: The Arrow file, memory-mapped.

    Attributes:
        lengths: Tokens of each record.
        cut: How many were cut to fit.
    """

    def __init__(self, path: Path, cut: int = 0) -> None:
        self.path, self.cut = path, cut
        table = pa.ipc.open_stream(pa.memory_map(str(path))).read_all()
        order = np.argsort(table["row"].to_numpy())
        self._table, self._order = table, order
        self.lengths = pc.list_value_length(table["input_ids"]).to_numpy()[order]

    def ids(self, rows: npt.NDArray[np.int64]) -> list[list[int]]:
        """Return the token ids of some records."""
        found: list[list[int]] = self._table["input_ids"].take(pa.array(self._order[rows])).to_pylist()
        return found

    @classmethod
    def write(cls, path: Path, labels: Labels, records: Iterable[Record], reader: Reader, log: Log) -> "TokenFile":
        """Tokenize the labelled records.

        Args:
            path: Where the ids go.
            labels: The labels.
            records: At least the labelled records; others are passed over.
            reader: How they are read.
            log: Where progress goes.

        Raises:
            InputError: A labelled record is not in `records`.
        """
        rows = {key: i for i, key in enumerate(zip(labels.sources, labels.ids, strict=True))}
        cut = 0

        def found() -> Iterator[dict[str, object]]:
            nonlocal cut
            for record in records:
                row = rows.pop((record.source, record.id), None)
                if row is not None:
                    reading = reader.read(record)
                    cut += bool(reading.notes)
                    yield {"row": row, "input_ids": reading.ids}

        with (
            atomic(path) as temporary, temporary.open("wb") as file, pa.ipc.new_stream(file, _SCHEMA) as stream,
            log.task("tokenizing labelled records", len(rows)) as task,
        ):  # fmt: skip
            block: list[dict[str, object]] = []
            for one in found():
                block.append(one)
                task.advance()
                if len(block) == _ROWS:
                    stream.write_table(pa.Table.from_pylist(block, _SCHEMA))
                    block.clear()
            stream.write_table(pa.Table.from_pylist(block, _SCHEMA))
        if rows:
            source, id = next(iter(rows))
            raise InputError(
                f"{len(rows)} labelled records are not in the corpus, e.g. {id} of {source}",
                "Label again: the corpus has changed since.",
            )
        return cls(path, cut)
