"""A record's foreign scores, where they are slots of quality."""

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from mira.arrays import Floats
from mira.corpus import Shard
from mira.foreign.sidecars import foreign_path, foreign_slots
from mira.run_folder.paths import RunFolder
from mira.selection.explain.results import SlotScore

__all__ = ["foreign_scores"]


def foreign_scores(run: RunFolder, shard: Shard, row: int) -> list[SlotScore]:
    """Return one entry per foreign score that is a slot of the source, with the score on the scale of slots."""
    if not run.foreign_slots.is_file():
        return []
    scales, found = foreign_slots(run), []
    for cell in pq.read_table(run.foreign_slots, filters=[("source", "=", shard.source)]).to_pylist():
        values = _value_at(foreign_path(run, cell["slot"], shard), row)
        score = scales[cell["slot"]].scaled(values)
        known = len(score) > 0 and bool(np.isfinite(score[0]))
        found.append(
            SlotScore(cell["slot"], cell["name"], float(score[0]) if known else None, cell["masked"], cell["why"])
        )
    return sorted(found, key=lambda slot: slot.slot)


def _value_at(path: Path, row: int) -> Floats:
    """Return the value of one row, NaN if missing; nothing if there is no such file or row."""
    if not path.is_file():
        return np.zeros(0)
    found = pq.read_table(path, columns=["value"], filters=[("row", "=", row)])["value"]
    return np.asarray(found.to_numpy(), dtype=np.float64)
