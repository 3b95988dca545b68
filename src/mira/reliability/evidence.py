"""What a group's cells are judged on: teacher labels beside student predictions, one block a source."""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from mira.arrays import Floats
from mira.errors import RunError
from mira.rubric.judgement import Recommendation
from mira.rubric.slots import slot_columns

__all__ = [
    "GroupEvidence",
    "Predictions",
    "SourceEvidence",
    "collect",
    "folds_of",
    "matrix",
    "read_labels",
    "read_predictions",
]

_SEPARATOR = "\x1f"


@dataclass(frozen=True, slots=True)
class SourceEvidence:
    """Labels and predictions of one source; n records, k slots. Missing scores are NaN.

    Attributes:
        source: The source.
        ids: Record ids (n,), ascending.
        teacher: Teacher's scores (n, k), 0-10: each record's first scored judgement.
        student: Student's predictions (n, k) by a model that did not see the record.
        held_out: Predictions (n, k) of the model trained on the training split, NaN for records of that split.
        overall: Teacher's overall (n,), 0-100.
        keep: Teacher's verdict (n,): 1 keep, 0 downsample or drop, NaN where it gave none.
        retests: Doubly judged records (m, 2, k): two independent judgements of the same record.
        retested: Their rows among the n records (m,).
        fold: Cross-validation fold of each record (n,), by a hash of its id, for the cross-fitted baselines.
    """

    source: str
    ids: tuple[str, ...]
    teacher: Floats
    student: Floats
    held_out: Floats
    overall: Floats
    keep: Floats
    retests: Floats
    retested: NDArray[np.int64]
    fold: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class GroupEvidence:
    """All sources of a group.

    Attributes:
        group: Group name.
        names: Names of its k slots, in rubric order.
        sources: One entry a source, in the group's order; a source without labels has n = 0.
        cross_fitted: Whether predictions cover all labels (out of fold) or held-out records alone.
    """

    group: str
    names: tuple[str, ...]
    sources: tuple[SourceEvidence, ...]
    cross_fitted: bool


@dataclass(frozen=True, slots=True)
class Predictions:
    """What a student predicted for labelled records: tables of id, source, A1..Ak, in any order.

    Attributes:
        out_of_fold: Cross-fitted predictions over all labels, or None for a student that cannot refit.
        held_out: Predictions of the train-only model over the held-out split, or None. Rows of records that are not
            in that split are ignored.
    """

    out_of_fold: pa.Table | None = None
    held_out: pa.Table | None = None


def read_labels(path: Path) -> pa.Table:
    """Read the columns of a group's labels that reliability needs.

    Raises:
        RunError: The labels are not there.
    """
    if not path.exists():
        raise RunError(
            f"{path}: there are no labels",
            "Run `mira label` first, or name a released mask in reliability.mask (an empty file masks nothing).",
        )
    slots = slot_columns(pq.read_schema(path).names)
    return pq.read_table(path, columns=["id", "source", "replicate", "overall", "recommendation", "split", *slots])


def read_predictions(path: Path, slots: Sequence[str]) -> pa.Table | None:
    """Read a student's predictions, or None where it has none.

    Args:
        path: `out_of_fold.parquet` or `held_out.parquet` of a scorer bundle: id, source, A1..An.
        slots: The slots that the labels have.

    Raises:
        RunError: The predictions were made for another rubric.
    """
    if not path.exists():
        return None
    found = slot_columns(pq.read_schema(path).names)
    if found != list(slots):
        raise RunError(
            f"{path}: the predictions have {len(found)} slots, the labels have {len(slots)}",
            "The rubric changed since the student was trained. Run `mira distill` again.",
        )
    return pq.read_table(path, columns=["id", "source", *slots])


def collect(
    group: str, names: Sequence[str], sources: Sequence[str], labels: pa.Table, predictions: Predictions
) -> GroupEvidence:
    """Join labels with predictions.

    Args:
        group: Group name.
        names: Names of the slots.
        sources: The group's sources.
        labels: Teacher judgements: id, source, replicate, overall, recommendation, split, A1..Ak; in any order.
        predictions: The student's.

    Raises:
        RunError: Labels or predictions do not belong together, or there are no predictions.
    """
    slots = slot_columns(labels.schema.names)
    _check_labels(group, names, sources, labels, slots)
    labels = labels.sort_by([("source", "ascending"), ("id", "ascending"), ("replicate", "ascending")])
    held_out = predictions.held_out
    if held_out is not None:
        held_out = held_out.filter(pc.is_in(_keys(held_out), value_set=_held_out_keys(labels)))
    seen = held_out if predictions.out_of_fold is None else predictions.out_of_fold
    if seen is None:
        raise RunError(f"{group}: the student has made no predictions", "Run `mira distill` first.")
    for table in (seen, held_out):
        if table is not None and len(pc.unique(_keys(table))) != table.num_rows:
            raise RunError(f"{group}: the student predicted a record twice", "Run `mira distill` again.")
    blocks = tuple(_source(source, labels, slots, seen, held_out) for source in sources)
    if labels.num_rows and not any(np.isfinite(b.student).any() for b in blocks):
        raise RunError(
            f"{group}: no prediction of the student is for a labelled record",
            "The labels changed since the student was trained. Run `mira distill` again.",
        )
    return GroupEvidence(group, tuple(names), blocks, cross_fitted=predictions.out_of_fold is not None)


def _check_labels(
    group: str, names: Sequence[str], sources: Sequence[str], labels: pa.Table, slots: Sequence[str]
) -> None:
    strangers = sorted(set(pc.unique(labels["source"]).to_pylist()) - set(sources))
    if strangers:
        raise RunError(
            f"{group}: labels of sources that are not in the group: {', '.join(strangers)}",
            "The grouping changed since labelling. Run `mira label` again.",
        )
    if len(names) != len(slots):
        raise RunError(
            f"{group}: the rubric has {len(names)} slots, the labels have {len(slots)}",
            "The rubric changed since labelling. Run `mira label` again.",
        )


def _source(
    source: str, labels: pa.Table, slots: list[str], seen: pa.Table, held_out: pa.Table | None
) -> SourceEvidence:
    own = labels.filter(pc.equal(labels["source"], source))
    scores = matrix(own, slots)
    ids = own["id"].to_numpy(zero_copy_only=False)
    is_first = np.concatenate([[True], ids[1:] != ids[:-1]]) if len(ids) else np.zeros(0, dtype=bool)
    record = np.cumsum(is_first) - 1
    first = _first_scored(scores, record, int(is_first.sum()))
    verdicts = own["recommendation"].take(pa.array(first)).to_pylist()
    return SourceEvidence(
        source=source,
        ids=tuple(map(str, ids[first])),
        teacher=scores[first],
        student=_aligned(seen, source, ids[first], slots),
        held_out=_aligned(held_out, source, ids[first], slots),
        overall=own["overall"].to_numpy(zero_copy_only=False).astype(np.float64)[first],
        keep=np.array([np.nan if v is None else float(v == Recommendation.KEEP) for v in verdicts], dtype=np.float64),
        retests=_retests(scores, record),
        retested=record[1:][record[1:] == record[:-1]],
        fold=folds_of(ids[first]),
    )


def _first_scored(scores: Floats, record: NDArray[np.int64], n: int) -> NDArray[np.int64]:
    """Return the row of each record's first judgement that has a score, or its first row where none has."""
    rows = np.arange(len(record))
    unscored = ~np.isfinite(scores).any(axis=1)
    best = np.full(n, 2 * len(record), dtype=np.int64)
    np.minimum.at(best, record, rows + unscored * len(record))
    return best % max(len(record), 1)


def _retests(scores: Floats, record: NDArray[np.int64]) -> Floats:
    """Return every two consecutive judgements of the same record: (m, 2, k)."""
    again = np.flatnonzero(record[1:] == record[:-1])
    return np.stack([scores[again], scores[again + 1]], axis=1)


def _aligned(table: pa.Table | None, source: str, ids: NDArray[Any], slots: list[str]) -> Floats:
    """Return predictions in the order of `ids`, NaN if missing."""
    if table is None:
        return np.full((len(ids), len(slots)), np.nan)
    own = table.filter(pc.equal(table["source"], source))
    found = pc.index_in(pa.array(ids, pa.string()), value_set=own["id"].combine_chunks())
    position = found.fill_null(own.num_rows).to_numpy(zero_copy_only=False)
    padded = np.vstack([matrix(own, slots), np.full((1, len(slots)), np.nan)])
    result: Floats = padded[position]
    return result


def matrix(table: pa.Table, slots: Sequence[str]) -> Floats:
    """Return the slot columns as (n, k) float64 with NaN for missing and non-finite scores."""
    matrix = np.empty((table.num_rows, len(slots)))
    for j, slot in enumerate(slots):
        matrix[:, j] = table[slot].to_numpy(zero_copy_only=False)
    matrix[~np.isfinite(matrix)] = np.nan
    return matrix


def _keys(table: pa.Table) -> pa.ChunkedArray:
    return pc.binary_join_element_wise(table["source"], table["id"], _SEPARATOR)


def _held_out_keys(labels: pa.Table) -> pa.Array:
    keys = _keys(labels.filter(pc.equal(labels["split"], "held_out")))
    return pa.chunked_array(keys, type=pa.string()).combine_chunks()


def folds_of(ids: Sequence[str] | NDArray[Any], folds: int = 5) -> NDArray[np.int64]:
    """Return a fold in [0, folds) of each record, by a hash of its id."""
    return np.array([zlib.crc32(str(i).encode()) % folds for i in ids], dtype=np.int64)
