"""Measure every cell of a group, and pool the group: rho with its bootstrap, errors, spreads."""

from dataclasses import dataclass, replace
from functools import reduce
from operator import add

import numpy as np
from numpy.typing import NDArray

from mira.arrays import Floats
from mira.reliability.evidence import GroupEvidence, SourceEvidence
from mira.stats import RankMoments, generator, percentile_interval, rank_moments, resamples

__all__ = ["GroupMeasure", "Measure", "measure_group", "n_resamples"]


@dataclass(frozen=True, slots=True)
class Measure:
    """One cell, or one slot of a whole group with each source's level taken out. NaN where undefined.

    Attributes:
        n: Labels with a prediction.
        mae: Mean absolute error of the student, on the 0-10 scale.
        mae_constant: The same of the best constant in hindsight, the median of the labels (each source's own when
            pooled). It never flatters the student: a constant fixed beforehand errs at least as much.
        rho: Spearman's rho of student and teacher; of ranks within each source when pooled.
        low: Lower end of its bootstrap interval.
        high: Upper end.
        spread_teacher: Standard deviation of the teacher's scores (within sources when pooled).
        spread_student: The same of the student's predictions.
        tied: Share of labels that hold the most frequent score (mean over labels when pooled).
    """

    n: int
    mae: float
    mae_constant: float
    rho: float
    low: float
    high: float
    spread_teacher: float
    spread_student: float
    tied: float

    @property
    def skill(self) -> float:
        """1 - MAE / MAE of the constant, at most 1; 0 is no better than the constant, NaN where that is exact."""
        return 1 - self.mae / self.mae_constant if self.mae_constant > 0 else float("nan")


@dataclass(frozen=True, slots=True)
class GroupMeasure:
    """All measurements of a group.

    Attributes:
        cells: One list of k measures a source.
        held_out: The same for the plain held-out predictions, without intervals.
        pooled: One measure a slot over the whole group.
        samples: Bootstrap samples of rho (sources, slots, resamples). Slots of a source share their resamples, and so
            do all students that are measured on the same labels with the same seed.
        pooled_samples: The same for the pooled rho (slots, resamples).
    """

    cells: tuple[tuple[Measure, ...], ...]
    held_out: tuple[tuple[Measure, ...], ...]
    pooled: tuple[Measure, ...]
    samples: Floats
    pooled_samples: Floats

    @property
    def rho(self) -> Floats:
        """Rho of every cell (sources, slots)."""
        return np.array([[cell.rho for cell in row] for row in self.cells]).reshape(self.samples.shape[:2])


def n_resamples(records: int, wanted: int) -> int:
    """Return how many resamples to take: `wanted`; at most 5 million drawn records, but not below 200.

    Args:
        records: Labels of the largest source.
        wanted: Resamples asked for. With more than 5,000 labels an interval is narrow enough for fewer to do.
    """
    return max(min(wanted, 200), min(wanted, 5_000_000 // max(records, 1)))


def measure_group(evidence: GroupEvidence, *, bootstrap: int, confidence: float, seed: int) -> GroupMeasure:
    """Measure all cells of a group and the group as a whole.

    Records are resampled within their source, all slots of a record together, so intervals of means over slots can
    be taken from the same samples. The pooled rho of a slot is the Pearson correlation of ranks taken within each
    source: differences between sources do not count.

    Args:
        evidence: Labels and predictions.
        bootstrap: Resamples.
        confidence: Confidence of the percentile intervals, in (0, 1).
        seed: Seed; the result also depends on names of group and sources, never on the order of rows.
    """
    count = n_resamples(max((len(s.ids) for s in evidence.sources), default=0), bootstrap)
    slots = range(len(evidence.names))
    moments = [_moments(s, count, generator(seed, evidence.group, s.source)) for s in evidence.sources]
    plain = [[rank_moments(s.teacher[:, j], s.student[:, j]) for j in slots] for s in evidence.sources]
    cells = tuple(
        tuple(
            _with_rho(_errors(s.teacher[:, j], s.student[:, j]), plain[i][j], moments[i][j], confidence) for j in slots
        )
        for i, s in enumerate(evidence.sources)
    )
    held_out = tuple(tuple(_held_out(s.teacher[:, j], s.held_out[:, j]) for j in slots) for s in evidence.sources)
    together = [reduce(add, slot) for slot in zip(*moments, strict=True)]
    pooled = tuple(
        _with_rho(_pooled([row[j] for row in cells]), reduce(add, (row[j] for row in plain)), together[j], confidence)
        for j in slots
    )
    samples = np.array([[m.rho for m in row] for row in moments]).reshape(len(moments), len(slots), count)
    return GroupMeasure(cells, held_out, pooled, samples, np.array([m.rho for m in together]))


def _moments(source: SourceEvidence, count: int, rng: np.random.Generator) -> list[RankMoments]:
    blocks = [
        [rank_moments(source.teacher[:, j], source.student[:, j], drawn) for j in range(source.teacher.shape[1])]
        for drawn in resamples(len(source.ids), count, rng)
    ]
    return [
        RankMoments(*(np.concatenate([getattr(m, part) for m in slot]) for part in ("xy", "xx", "yy")))
        for slot in zip(*blocks, strict=True)
    ]


def _errors(teacher: Floats, student: Floats) -> Measure:
    nan = float("nan")
    labels = teacher[np.isfinite(teacher)]
    both = np.isfinite(teacher) & np.isfinite(student)
    t, s = teacher[both], student[both]
    return Measure(
        n=len(t),
        mae=float(np.abs(t - s).mean()) if len(t) else nan,
        mae_constant=float(np.abs(t - np.median(t)).mean()) if len(t) else nan,
        rho=nan,
        low=nan,
        high=nan,
        spread_teacher=float(labels.std(ddof=1)) if len(labels) > 1 else nan,
        spread_student=float(s.std(ddof=1)) if len(s) > 1 else nan,
        tied=_tied(labels),
    )


def _tied(labels: Floats) -> float:
    if not len(labels):
        return float("nan")
    counts: NDArray[np.int64] = np.unique(labels, return_counts=True)[1]
    return float(counts.max() / len(labels))


def _held_out(teacher: Floats, student: Floats) -> Measure:
    return replace(_errors(teacher, student), rho=float(rank_moments(teacher, student).rho[0]))


def _with_rho(measure: Measure, plain: RankMoments, samples: RankMoments, confidence: float) -> Measure:
    rho = float(plain.rho[0])
    low, high = percentile_interval(samples.rho, confidence) if np.isfinite(rho) else (float("nan"), float("nan"))
    return replace(measure, rho=rho, low=low, high=high)


def _pooled(cells: list[Measure]) -> Measure:
    nan = float("nan")
    n = np.array([c.n for c in cells])

    def mean(values: list[float]) -> float:
        counted = np.isfinite(values) & (n > 0)
        return float(np.average(np.array(values)[counted], weights=n[counted])) if counted.any() else nan

    return Measure(
        n=int(n.sum()),
        mae=mean([c.mae for c in cells]),
        mae_constant=mean([c.mae_constant for c in cells]),
        rho=nan,
        low=nan,
        high=nan,
        spread_teacher=float(np.sqrt(mean([c.spread_teacher**2 for c in cells]))),
        spread_student=float(np.sqrt(mean([c.spread_student**2 for c in cells]))),
        tied=mean([c.tied for c in cells]),
    )
