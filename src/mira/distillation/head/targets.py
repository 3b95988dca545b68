"""What a head learns of the labels: scores on a scale that is centred for the group, with masked cells left out."""

from collections.abc import Collection
from hashlib import blake2b
from typing import Literal

import numpy as np
import numpy.typing as npt

from mira.distillation.encoder.cross_validation import Labels
from mira.distillation.encoder.head import TargetMap
from mira.errors import RunError
from mira.rubric.slots import slot_names

__all__ = [
    "OVERALL_TOP",
    "SLOT_TOP",
    "TARGETS",
    "TargetName",
    "back",
    "forward",
    "scales",
    "unmasked",
    "validation_rows",
]

Array = npt.NDArray[np.float64]
Rows = npt.NDArray[np.bool_]
TargetName = Literal["ranks", "zscores"]
TARGETS: tuple[TargetName, ...] = ("zscores", "ranks")
SLOT_TOP, OVERALL_TOP = 10.0, 100.0
_FEWEST = 3
"""Validation records below which a source has no rank correlation."""


def scales(target: TargetName, scores: Array) -> tuple[TargetMap, ...]:
    """Return one monotone map per column of `scores`; slots reach to 10, the last column, `overall`, to 100.

    Args:
        target: "ranks": normal quantiles of the group's mid-ranks. "zscores": the group's mean and standard deviation.
        scores: Labels of the training split (n, slots + 1); NaN = missing.
    """
    tops = [SLOT_TOP] * (scores.shape[1] - 1) + [OVERALL_TOP]
    return tuple(
        TargetMap.ranks(column) if target == "ranks" else _z_scores(column, top)
        for column, top in zip(scores.T, tops, strict=True)
    )


def _z_scores(labels: Array, top: float) -> TargetMap:
    known = labels[np.isfinite(labels)]
    if not len(known) or known.std() < 1e-9:
        return TargetMap.ranks(labels)  # nothing, or one value for all
    ends = np.array([0.0, top])
    return TargetMap((ends - known.mean()) / known.std(), ends)


def forward(maps: tuple[TargetMap, ...], scores: Array) -> Array:
    """Return scores (n, targets) on the fitted scale."""
    return np.column_stack([m.forward(scores[:, j]) for j, m in enumerate(maps)])


def back(maps: tuple[TargetMap, ...], fitted: Array) -> Array:
    """Return fitted values (n, targets) on the teacher's scale; NaN where a slot had no label, or the value is NaN."""
    scores = np.column_stack([m.back(fitted[:, j]) for j, m in enumerate(maps)])
    return np.where(np.isnan(fitted), np.nan, scores)


def unmasked(labels: Labels, masked: Collection[tuple[str, str]]) -> Array:
    """Return the scores without those of masked cells, which the loss does not count.

    Args:
        labels: A group's labels.
        masked: (source, slot) of the cells of `reliability.mask`.
    """
    scores = labels.scores.copy()
    slots = slot_names(scores.shape[1] - 1)
    for source, slot in masked:
        if slot in slots:
            scores[np.array(labels.sources) == source, slots.index(slot)] = np.nan
    return scores


def validation_rows(labels: Labels, share: float, seed: int) -> Rows:
    """Choose the validation part of the training split: of every source the same share, by a hash of the id.

    Raises:
        RunError: No source has enough labels for a rank correlation on it.
    """
    chosen = np.zeros(len(labels), dtype=bool)
    sources = np.array(labels.sources)
    for source in sorted(set(labels.sources)):
        rows = np.flatnonzero(labels.train & (sources == source))
        order = sorted(rows, key=lambda i: _hash(seed, labels.sources[i], labels.ids[i]))
        chosen[order[: round(share * len(rows))]] = True
    if max((chosen[sources == s].sum() for s in set(labels.sources)), default=0) < _FEWEST:
        raise RunError(
            f"too few labels to tune a head: the validation part has {int(chosen.sum())} of "
            f"{int(labels.train.sum())} training labels, fewer than {_FEWEST} of every source",
            "Label more records, raise distill.head.validation, or use student: encoder.",
        )
    return chosen


def _hash(seed: int, source: str, id: str) -> bytes:
    return blake2b(f"validation\0{seed}\0{source}\0{id}".encode(), digest_size=8).digest()
