"""Rows of numbers as judgements and as tables of predictions: what students that compute here share."""

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from mira.judging.judge import JudgeTask
from mira.rubric.judgement import Judgement
from mira.rubric.slots import slot_names
from mira.unscored import Unscored

if TYPE_CHECKING:
    from mira.distillation.encoder.cross_validation import Labels

__all__ = ["judged", "predictions_table"]

Array = npt.NDArray[np.float64]


def judged(task: JudgeTask, row: Array, identity: str, notes: tuple[str, ...] = ()) -> Judgement:
    """Return a row of scores as a judgement.

    Args:
        task: What was judged.
        row: (slots + 1,): the slots in [0, 10], then `overall` in [0, 100]; NaN = not finite.
        identity: The judge's.
        notes: What was done to the record to fit.
    """
    record, n_slots = task.record, len(row) - 1
    scores = tuple(float(v) if np.isfinite(v) else None for v in row)
    missing = {s: Unscored.NOT_FINITE for s, v in zip(slot_names(n_slots), scores, strict=False) if v is None}
    if len(missing) == n_slots:
        return Judgement.unscored(
            record.id, record.source, n_slots, Unscored.NOT_FINITE, replicate=task.replicate, judge=identity,
            notes=notes,
        )  # fmt: skip
    return Judgement(
        id=record.id, source=record.source, scores=scores[:-1], missing=missing, overall=scores[-1],
        replicate=task.replicate, judge=identity, notes=notes,
    )  # fmt: skip


def predictions_table(table: "Labels", predicted: Array, rows: npt.NDArray[np.bool_], folds: bool) -> pa.Table:
    """Return predictions of labelled records, ordered by source and id.

    Args:
        table: The labels.
        predicted: (len(table), slots + 1); NaN = none.
        rows: The records that the table is to have.
        folds: Add each record's fold.
    """
    chosen = np.array(sorted(np.flatnonzero(rows), key=lambda i: (table.sources[i], table.ids[i])), dtype=np.int64)
    values = predicted[chosen].astype(np.float32)
    columns: dict[str, pa.Array] = {
        "id": pa.array([table.ids[i] for i in chosen], pa.string()),
        "source": pa.array([table.sources[i] for i in chosen], pa.string()),
    }
    for j, name in enumerate([*slot_names(values.shape[1] - 1), "overall"]):
        columns[name] = pa.array(values[:, j], pa.float32(), from_pandas=True)
    if folds:
        columns["fold"] = pa.array(table.folds[chosen], pa.int32())
    columns["split"] = pa.array(["train" if table.train[i] else "held_out" for i in chosen], pa.string())
    return pa.table(columns)
