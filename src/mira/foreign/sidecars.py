"""Sidecars of foreign scores: `foreign/<score>/<source>/<shard>.parquet`, a row per valid record, in order of row.

Columns: row, id; value (float64, as the other program gave it, null if missing); reason (why it is missing, or null).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from mira.arrays import Floats
from mira.corpus import Shard
from mira.corpus.index_reader import Block
from mira.corpus.sidecar import Sidecar
from mira.errors import RunError
from mira.foreign.values import scaled
from mira.rubric.slots import is_slot
from mira.run_folder.paths import RunFolder

__all__ = [
    "MADE_BY",
    "NO_SUCH_SOURCE",
    "SCHEMA",
    "ForeignSlot",
    "foreign_path",
    "foreign_slots",
    "foreign_values",
    "read_foreign",
    "with_foreign",
]

MADE_BY = "mira join"
NO_SUCH_SOURCE = "source_without_score"
"""Reason of the records of a source that a score does not cover."""

SCHEMA = pa.schema(
    [
        ("row", pa.int64()),
        ("id", pa.string()),
        ("value", pa.float64()),
        ("reason", pa.dictionary(pa.int32(), pa.string())),
    ]
)


def foreign_path(run: RunFolder, score: str, shard: Shard) -> Path:
    """Return where a shard's values of a foreign score are."""
    return run.foreign(score, shard.source) / f"{shard.name}.parquet"


def read_foreign(run: RunFolder, score: str, shard: Shard, blocks: Iterator[Block]) -> Iterator[pa.RecordBatch]:
    """Yield row, id, value and reason of each block of a shard's valid records.

    Raises:
        RunError: The score is not joined with this shard, or with other records.
    """
    sidecar = Sidecar(foreign_path(run, score, shard), run, shard, ["value", "reason"], MADE_BY)
    for block in blocks:
        yield sidecar.take(block)
    sidecar.finish()


@dataclass(frozen=True, slots=True)
class ForeignSlot:
    """A foreign score as a slot of quality.

    Attributes:
        low: The lowest possible score.
        high: The highest.
        better: "higher" or "lower".
    """

    low: float
    high: float
    better: str

    def scaled(self, values: Floats) -> npt.NDArray[np.float32]:
        """Return values on the scale of slots, 0 to 10, higher is better."""
        return scaled(values, self.low, self.high, self.better)


def foreign_slots(run: RunFolder) -> dict[str, ForeignSlot]:
    """Return the foreign scores that are slots of this run's quality, by name."""
    if not run.foreign_slots.is_file():
        return {}
    rows = pq.read_table(run.foreign_slots, columns=["slot", "low", "high", "better"]).to_pylist()
    return {row["slot"]: ForeignSlot(row["low"], row["high"], row["better"]) for row in rows}


def with_foreign(run: RunFolder, source: str, table: pa.Table, slots: Sequence[str]) -> pa.Table:
    """Return a table of one source's records with columns for those of some slots that are foreign scores.

    Args:
        run: The run folder.
        source: The source.
        table: Its records, with their `id`; few enough for memory.
        slots: Slots; those of the rubric are left as they are.

    Raises:
        RunError: A score is not joined yet.
    """
    known: Mapping[str, ForeignSlot] | None = None
    for slot in (slot for slot in slots if not is_slot(slot)):
        known = known if known is not None else foreign_slots(run)
        values = known[slot].scaled(foreign_values(run, slot, source, table["id"]))
        table = table.append_column(slot, pa.array(values, from_pandas=True))
    return table


def foreign_values(run: RunFolder, score: str, source: str, ids: pa.Array | pa.ChunkedArray) -> Floats:
    """Return a foreign score of some records of a source, as it was given; NaN if missing.

    Args:
        run: The run folder.
        score: The score's name.
        source: The source.
        ids: Ids of its records; few enough for memory.

    Raises:
        RunError: The score is not joined with the source yet.
    """
    paths = sorted(run.foreign(score, source).glob("*.parquet"))
    if not paths:
        raise RunError(f"score '{score}' is not joined with source '{source}'", f"Run `{MADE_BY}` first.")
    wanted = ids.combine_chunks() if isinstance(ids, pa.ChunkedArray) else ids
    found = ds.dataset(paths).to_table(columns=["id", "value"], filter=ds.field("id").isin(wanted))
    at = pc.index_in(wanted, value_set=found["id"].combine_chunks())
    values = found["value"].combine_chunks().take(at).to_numpy(zero_copy_only=False)
    return np.asarray(values, dtype=np.float64)
