"""The choice of features and target by cross-validation inside the training split."""

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt

from mira.config.settings import WindowSettings
from mira.distillation.encoder.agreement import agreement
from mira.distillation.encoder.features import FeatureStore
from mira.distillation.encoder.head import NystroemBasis, TargetMap
from mira.distillation.encoder.kernel import FeatureBlocks
from mira.judging.windows import aggregate

__all__ = ["BLOCKS", "LANDMARKS", "Choice", "Labels", "by_record", "choose", "cross_fit", "target_maps", "together"]

Array = npt.NDArray[np.float64]
Rows = npt.NDArray[np.bool_]
TargetName = Literal["scores", "ranks"]

BLOCKS = (FeatureBlocks(structure=False), FeatureBlocks(), FeatureBlocks(embedding=True))
"""Candidates by rising cost of scoring."""
TARGETS: tuple[TargetName, ...] = ("scores", "ranks")
LANDMARKS = 1024


@dataclass(frozen=True, slots=True)
class Labels:
    """One row a labelled record; replicates are averaged.

    Attributes:
        ids: Record ids.
        sources: Their sources.
        scores: (n, slots + 1): the slots, then `overall`; NaN = missing.
        train: True for the training split.
        folds: Fold of each record, by a hash of the id.
        priority: A hash of the id; lower comes first where a subset is taken.
    """

    ids: tuple[str, ...]
    sources: tuple[str, ...]
    scores: Array
    train: Rows
    folds: npt.NDArray[np.int64]
    priority: npt.NDArray[np.uint64]

    def __len__(self) -> int:
        return len(self.ids)

    def take(self, rows: npt.NDArray[np.int64]) -> "Labels":
        """Return the labels of `rows`."""
        return Labels(
            tuple(self.ids[i] for i in rows), tuple(self.sources[i] for i in rows), self.scores[rows],
            self.train[rows], self.folds[rows], self.priority[rows],
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Choice:
    """What cross-validation chose.

    Attributes:
        blocks: FeatureBlocks of features.
        target: Whether the ridge fits scores or their normal quantiles.
        table: One row a candidate: blocks, target, rho, rho_within, mae, behind (paired difference to the best, mean
            over folds of the mean of rho and rho_within) and its standard error, chosen.
    """

    blocks: FeatureBlocks
    target: TargetName
    table: list[dict[str, object]] = field(default_factory=list)


def target_maps(target: TargetName, scores: Array) -> tuple[TargetMap, ...]:
    """Return one map a column of `scores`: slots reach to 10, the last column, `overall`, to 100."""
    tops = [10.0] * (scores.shape[1] - 1) + [100.0]
    if target == "ranks":
        return tuple(TargetMap.ranks(column) for column in scores.T)
    return tuple(
        TargetMap.scores_as_they_are(top) if np.isfinite(column).any() else TargetMap.ranks(column)
        for column, top in zip(scores.T, tops, strict=True)
    )


def cross_fit(span: NystroemBasis, labels: Labels, rows: Rows, target: TargetName) -> Array:
    """Predict every one of `rows` by a fit on those of the other folds.

    Returns:
        (len(labels), targets); NaN outside `rows`, and where the other folds hold no label.
    """
    predicted = np.full(labels.scores.shape, np.nan)
    for fold in np.unique(labels.folds[rows]):
        inside, outside = rows & (labels.folds == fold), rows & (labels.folds != fold)
        if outside.any():
            maps = target_maps(target, labels.scores[outside])
            predicted[inside] = span.fit(outside, labels.scores, maps).predict(inside)
    return predicted


def choose(
    store: FeatureStore,
    labels: Labels,
    blocks: tuple[FeatureBlocks, ...] = BLOCKS,
    tolerance: float = 0.01,
    landmarks: int = LANDMARKS,
) -> Choice:
    """Cross-validate every candidate on the training rows of `labels`.

    The best has the highest mean, over folds, of (rho + rho_within) / 2. Chosen is the cheapest candidate whose paired
    difference to the best is at most one standard error or `tolerance`, whichever is larger (ours): embedding a text
    of 2,000 characters costs some twenty-five times all else.

    Args:
        store: Features, with embeddings where a candidate uses them.
        labels: Rows of the store.
        blocks: Candidates by rising cost.
        tolerance: Correlation that a cheaper candidate may be behind.
        landmarks: Landmarks at most.
    """
    results: dict[tuple[FeatureBlocks, TargetName], tuple[Array, dict[str, float]]] = {}
    for candidate in blocks:
        seen = store if candidate.embedding else store.without_embedding()
        with NystroemBasis(seen, labels.train, candidate, labels.priority, landmarks) as span:
            for target in TARGETS:
                predicted = cross_fit(span, labels, labels.train, target)
                results[candidate, target] = _by_fold(predicted, labels), _overall(predicted, labels)
    best = max(results, key=lambda key: float(results[key][0].mean()))
    behind = {key: results[best][0] - folds for key, (folds, _) in results.items()}
    errors = {key: float(d.std(ddof=1) / np.sqrt(len(d))) if len(d) > 1 else 0.0 for key, d in behind.items()}
    chosen = best
    for candidate in blocks:
        key = max(((candidate, t) for t in TARGETS), key=lambda k: float(results[k][0].mean()))
        if behind[key].mean() <= max(errors[key], tolerance):
            chosen = key
            break
    table: list[dict[str, object]] = [
        {
            "features": key[0].name, "target": key[1], **results[key][1], "behind": float(behind[key].mean()),
            "behind_error": errors[key], "chosen": key == chosen,
        }
        for key in results
    ]  # fmt: skip
    return Choice(chosen[0], chosen[1], table)


def _by_fold(predicted: Array, labels: Labels) -> Array:
    values = []
    for fold in np.unique(labels.folds[labels.train]):
        rows = np.flatnonzero(labels.train & (labels.folds == fold))
        names = [labels.sources[i] for i in rows]
        found = agreement(predicted[rows, :-1], labels.scores[rows, :-1], names)
        values.append((found["rho"] + found["rho_within"]) / 2)
    return np.array(values)


def _overall(predicted: Array, labels: Labels) -> dict[str, float]:
    rows = np.flatnonzero(labels.train)
    return agreement(predicted[rows, :-1], labels.scores[rows, :-1], [labels.sources[i] for i in rows])


def together(scores: Array, counts: npt.NDArray[np.int64], windows: WindowSettings) -> tuple[Array, Array]:
    """Return the scores of records, and their spread, from those of their windows.

    Args:
        scores: (windows of all records, columns), record by record; the last column is `overall`.
        counts: Windows of each record, at least 1.
        windows: How slots are taken together.
    """
    found = [aggregate(rows, windows) for rows in np.split(scores, np.cumsum(counts)[:-1])]
    shape = (len(counts), scores.shape[1])
    return np.array([f[0] for f in found]).reshape(shape), np.array([f[1] for f in found]).reshape(shape)


def by_record(
    table: Labels, predictions: tuple[Array, ...], windows: WindowSettings
) -> tuple[npt.NDArray[np.int64], tuple[Array, ...]]:
    """Return the first row of every record, and predictions with one row a record.

    Args:
        table: Labels, one row a window; windows of a record follow each other.
        predictions: One row a window.
        windows: How slots are taken together.
    """
    keys = list(zip(table.sources, table.ids, strict=True))
    first = np.array([i for i, key in enumerate(keys) if i == 0 or key != keys[i - 1]], dtype=np.int64)
    counts = np.diff(np.append(first, len(keys)))
    return first, tuple(together(values, counts, windows)[0] for values in predictions)
