"""Streams over a shard's sidecars: valid records of the index, and rows that must line up with them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mira.errors import RunError
from mira.run_folder.paths import RunFolder

__all__ = ["BLOCK", "Batches", "Block", "RowCounts", "Rows", "index_blocks"]

BLOCK = 1 << 16
"""Records that are worked on at once: memory is a few of these, however large the shard."""


@dataclass(frozen=True, slots=True)
class Block:
    """Consecutive valid records of one shard.

    Attributes:
        rows: Row numbers in the shard, int64, ascending.
        ids: Record ids.
        n_tokens: Their tokens, int32.
    """

    rows: npt.NDArray[np.int64]
    ids: pa.Array
    n_tokens: npt.NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.rows)

    def part(self, start: int, stop: int) -> "Block":
        """Return records `start` to `stop`."""
        return Block(self.rows[start:stop], self.ids[start:stop], self.n_tokens[start:stop])


@dataclass(slots=True)
class RowCounts:
    """Rows of a shard, and how many of them are rejected or later duplicates of an id."""

    rows: int = 0
    rejected: int = 0


def index_blocks(run: RunFolder, source: str, shard: str, counts: RowCounts | None = None) -> Iterator[Block]:
    """Yield the valid records of a shard in row order: not rejected, and not a later duplicate of an id.

    Args:
        run: The run folder.
        source: The shard's source.
        shard: The shard's name.
        counts: Counts the rows that are read.

    Raises:
        RunError: The shard is not indexed yet.
    """
    duplicates = _duplicates(run.index(source) / "duplicates.parquet", shard)
    columns = ["row", "id", "n_tokens", "reason_rejected"]
    for batch in _batches(run.index(source) / f"{shard}.parquet", columns, "mira index"):
        valid = pc.is_null(batch["reason_rejected"])
        if len(duplicates):
            valid = pc.and_(valid, pc.invert(pc.is_in(batch["row"], value_set=duplicates)))
        n_valid = valid.true_count
        if counts is not None:
            counts.rows, counts.rejected = counts.rows + len(batch), counts.rejected + len(batch) - n_valid
        kept = batch if n_valid == len(batch) else batch.filter(valid)
        if len(kept):
            yield Block(kept["row"].to_numpy(), kept["id"], kept["n_tokens"].to_numpy())


class Batches:
    """Batches, taken a given number of rows at a time.

    Args:
        batches: The batches.
    """

    def __init__(self, batches: Iterator[pa.RecordBatch]) -> None:
        self._batches = batches
        self._left: pa.RecordBatch | None = None

    def take(self, n: int) -> pa.RecordBatch | None:
        """Return the next `n` rows; fewer at the end of the file, None after it."""
        parts: list[pa.RecordBatch] = []
        while n > 0:
            batch = self._left if self._left is not None else next(self._batches, None)
            if batch is None:
                break
            parts.append(batch.slice(0, n))
            self._left = batch.slice(n) if len(batch) > n else None
            n -= len(parts[-1])
        if not parts:
            return None
        return parts[0] if len(parts) == 1 else pa.concat_batches(parts)


class Rows(Batches):
    """A Parquet file read a given number of rows at a time.

    Args:
        path: The file.
        columns: What to read.
        made_by: Command that makes the file, for the error where it is missing.

    Raises:
        RunError: The file is missing or is not Parquet.
    """

    def __init__(self, path: Path, columns: Sequence[str], made_by: str) -> None:
        super().__init__(_batches(path, columns, made_by))


def _batches(path: Path, columns: Sequence[str], made_by: str) -> Iterator[pa.RecordBatch]:
    hint = f"Run `{made_by}` first (it makes only what is missing)."
    if not path.is_file():
        raise RunError(f"{path} is not there yet", hint)
    try:
        with pq.ParquetFile(path) as file:
            lacking = sorted(set(columns) - set(file.schema_arrow.names))
            if lacking:
                raise RunError(f"{path}: columns {', '.join(lacking)} are missing", f"Remove the file. {hint}")
            yield from file.iter_batches(BLOCK, columns=list(columns), use_threads=False)
    except pa.ArrowInvalid as error:
        raise RunError(f"{path}: not a Parquet file: {error}", f"Remove the file. {hint}") from None


def _duplicates(path: Path, shard: str) -> pa.Array:
    try:
        stat = path.stat()
    except FileNotFoundError:
        return _NO_ROWS
    table = _doubled(path, stat.st_size, stat.st_mtime_ns)
    if not len(table):
        return _NO_ROWS
    return table.filter(pc.equal(table["shard"], shard))["row"].combine_chunks().cast(pa.int64())


_NO_ROWS = pa.array([], pa.int64())


@lru_cache(maxsize=4)
def _doubled(path: Path, _size: int, _time: int) -> pa.Table:
    """Read a source's duplicates, once for all its shards."""
    return pq.read_table(path, columns=["shard", "row"])
