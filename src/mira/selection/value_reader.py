"""Reading a shard's values back."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mira.arrays import Floats, Words
from mira.corpus import Shard
from mira.corpus.index_reader import BLOCK, Block, index_blocks
from mira.run_folder.paths import RunFolder
from mira.selection.units import Unit
from mira.selection.values import mismatch, values_path

__all__ = ["ValueChunk", "aligned", "read_values"]


@dataclass(frozen=True, slots=True)
class ValueChunk:
    """Consecutive records of a shard's values.

    Attributes:
        values: float64, NaN if missing.
        ties: Tie hashes.
        n_tokens: Tokens, int32.
        reasons: Why there is no value, or "masked_source"; null elsewhere.
        strata: Each record's stratum; null where the method has none.
    """

    values: Floats
    ties: Words
    n_tokens: npt.NDArray[np.int32]
    reasons: pa.Array
    strata: pa.Array

    def ranked(self, unit: Unit | None = None) -> npt.NDArray[np.bool_]:
        """Return a mask of the records that compete, in one unit or in the whole source."""
        has = ~np.isnan(self.values)
        if unit is not None and unit.stratum:
            inside = pc.fill_null(pc.equal(self.strata.cast(pa.string()), unit.stratum), False)
            has = np.asarray(has & inside.to_numpy(zero_copy_only=False))
        if unit is not None and unit != unit.whole:
            has &= (self.n_tokens >= unit.shortest) & (self.n_tokens <= unit.longest)
        return has

    def __len__(self) -> int:
        return len(self.values)

    def part(self, start: int, stop: int) -> "ValueChunk":
        """Return records `start` to `stop`."""
        return ValueChunk(
            self.values[start:stop],
            self.ties[start:stop],
            self.n_tokens[start:stop],
            self.reasons[start:stop],
            self.strata[start:stop],
        )


def read_values(path: Path) -> Iterator[ValueChunk]:
    """Yield a shard's values in row order, a block at a time."""
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(BLOCK, use_threads=False):
            yield ValueChunk(
                batch["value"].to_numpy(zero_copy_only=False), batch["tie"].to_numpy(), batch["n_tokens"].to_numpy(),
                batch["reason"], batch["stratum"],
            )  # fmt: skip


def aligned(run: RunFolder, folder: str, shard: Shard) -> Iterator[tuple[Block, ValueChunk]]:
    """Pair the index with a folder of `values/`, a part of a shard at a time: the same valid records in the same order.

    Raises:
        RunError: They are not the same number of records.
    """
    chunks = read_values(values_path(run, folder, shard.source, shard.name))
    chunk = next(chunks, None)
    at = 0
    for block in index_blocks(run, shard.source, shard.name):
        start = 0
        while start < len(block):
            if chunk is None:
                raise mismatch(shard)
            n = min(len(block) - start, len(chunk) - at)
            yield block.part(start, start + n), chunk.part(at, at + n)
            start, at = start + n, at + n
            if at == len(chunk):
                chunk, at = next(chunks, None), 0
