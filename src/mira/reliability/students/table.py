"""Students side by side on the same records and resamples: one table, with every difference that is worth telling."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mira.arrays import Floats
from mira.config.settings import ReliabilitySettings
from mira.reliability.ceiling import Ceilings
from mira.reliability.cells import GroupMeasure, measure_group, n_resamples
from mira.reliability.evidence import GroupEvidence, SourceEvidence
from mira.reliability.group_figures import Sampled, mean_rho, share_of_ceiling
from mira.reliability.students.compare import Interval, common_evidence
from mira.run_folder.results import Figure
from mira.stats import generator, rank_moments, resamples

__all__ = ["Figures", "Table", "compare_figures"]

Cells = NDArray[np.bool_]

_CHUNK = 1 << 22
"""Elements of one block of resamples over a whole group: 32 MB."""


@dataclass(frozen=True, slots=True)
class Figures:
    """A student, or the difference of two: the first minus the second.

    Attributes:
        of_ceiling: Mean over cells of Spearman's rho divided by the teacher's ceiling. A student that does not vary
            within a source has 0.
        rho: Mean over cells of Spearman's rho.
        rho_across: Mean over slots of Spearman's rho over the group's records together, so that knowing the source
            counts. Only slots with such a cell, and only its sources. NaN where the group has one source.
        mae: Mean over cells of the mean absolute error, on the 0-10 scale; smaller is better.
    """

    of_ceiling: Interval
    rho: Interval
    rho_across: Interval
    mae: Interval


@dataclass(frozen=True, slots=True)
class Table:
    """Students on the same labels.

    Attributes:
        records: Labelled records that every student predicted.
        cells: Cells that the means are over.
        cell_width: Median width of the interval of one cell's rho, over those cells and the first student.
        students: Name -> figures.
        differences: Student -> each other student -> the student's figures minus the other's, over the same resamples.
    """

    records: int
    cells: int
    cell_width: Figure
    students: Mapping[str, Figures]
    differences: Mapping[str, Mapping[str, Figures]]


def compare_figures(
    evidence: Mapping[str, GroupEvidence], ceiling: Ceilings, cells: Cells, *, settings: ReliabilitySettings, seed: int
) -> Table:
    """Compare students on the labels that all of them predicted.

    Records are resampled within their source, all slots of a record together, and so are the ceiling's pairs.

    Args:
        evidence: Name -> the group's labels with the student's predictions.
        ceiling: The teacher's ceilings with their samples; `of_ceiling` leaves out cells without one.
        cells: The cells to take the means over (sources, slots). They must not have been chosen on these labels.
        settings: Confidence and number of resamples.
        seed: Seed of the resamples.
    """
    common = common_evidence(evidence)
    measured = {
        name: measure_group(e, bootstrap=settings.bootstrap, confidence=settings.interval, seed=seed)
        for name, e in common.items()
    }
    found = {name: _ranked(measure, ceiling, cells) for name, measure in measured.items()}
    for name, figures in _across_and_errors(common, cells, settings, seed).items():
        found[name] |= figures

    def told(figures: Mapping[str, Sampled]) -> Figures:
        return Figures(**{key: Interval(*figure.interval(settings.interval)) for key, figure in figures.items()})

    return Table(
        records=_predicted(next(iter(common.values()))),
        cells=int(cells.sum()),
        cell_width=_width(next(iter(measured.values())), cells),
        students={name: told(figures) for name, figures in found.items()},
        differences={
            name: {
                other: told({key: figures[key] - theirs[key] for key in figures})
                for other, theirs in found.items()
                if other != name
            }
            for name, figures in found.items()
        },
    )


def _ranked(measure: GroupMeasure, ceiling: Ceilings, cells: Cells) -> dict[str, Sampled]:
    return {
        "of_ceiling": share_of_ceiling(measure.rho, measure.samples, ceiling, cells),
        "rho": mean_rho(measure.rho, measure.samples, cells),
    }


def _width(measure: GroupMeasure, cells: Cells) -> float:
    width = np.array([[c.high - c.low for c in row] for row in measure.cells])[cells]
    width = width[np.isfinite(width)]
    return float(np.median(width)) if len(width) else float("nan")


def _across_and_errors(
    evidence: Mapping[str, GroupEvidence], cells: Cells, settings: ReliabilitySettings, seed: int
) -> dict[str, dict[str, Sampled]]:
    first = next(iter(evidence.values()))
    plain = [np.ones((len(s.ids), 1)) for s in first.sources]
    values = {name: _moments(e, cells, plain) for name, e in evidence.items()}
    blocks: dict[str, list[tuple[Floats, Floats]]] = {name: [] for name in evidence}
    for drawn in _weights(first.sources, settings.bootstrap, seed, first.group):
        for name, e in evidence.items():
            blocks[name].append(_moments(e, cells, drawn))
    found = {}
    for name, parts in blocks.items():
        across, errors = (np.concatenate(column) for column in zip(*parts, strict=True))
        found[name] = {
            "rho_across": Sampled(float(values[name][0][0]), across),
            "mae": Sampled(float(values[name][1][0]), errors),
        }
    return found


def _weights(sources: tuple[SourceEvidence, ...], wanted: int, seed: int, group: str) -> Iterator[list[Floats]]:
    """Yield blocks of resamples: counts (n, b) of every source's records."""
    count = n_resamples(max((len(s.ids) for s in sources), default=0), wanted)
    block = max(1, _CHUNK // max(sum(len(s.ids) for s in sources), 1))
    generators = [generator(seed, group, s.source, "together") for s in sources]
    for start in range(0, count, block):
        b = min(block, count - start)
        yield [
            np.concatenate(list(resamples(len(s.ids), b, rng)), axis=1)
            for s, rng in zip(sources, generators, strict=True)
        ]


def _moments(evidence: GroupEvidence, cells: Cells, weights: list[Floats]) -> tuple[Floats, Floats]:
    """Return rho across sources and mean absolute error, (b,) each; NaN where nothing is defined."""
    across, errors = [], []
    for j in range(cells.shape[1]):
        taken = [(s, w) for i, (s, w) in enumerate(zip(evidence.sources, weights, strict=True)) if cells[i, j]]
        if sum(len(s.ids) > 0 for s, _ in taken) > 1:
            teacher, student = (np.concatenate([getattr(s, x)[:, j] for s, _ in taken]) for x in ("teacher", "student"))
            across.append(np.nan_to_num(rank_moments(teacher, student, np.concatenate([w for _, w in taken])).rho))
        errors += [_error(s.teacher[:, j], s.student[:, j], w) for s, w in taken]
    nothing = np.full(weights[0].shape[1] if weights else 1, np.nan)
    return np.mean(across, axis=0) if across else nothing, np.nanmean(errors, axis=0) if errors else nothing


def _error(teacher: Floats, student: Floats, weights: Floats) -> Floats:
    """Return the mean absolute error of every resample; that of the sample where a resample has no label."""
    both = np.isfinite(teacher) & np.isfinite(student)
    error, drawn = np.abs(teacher[both] - student[both]), weights[both]
    total = drawn.sum(axis=0)
    plain = float(error.mean()) if len(error) else float("nan")
    mean: Floats = np.where(total > 0, error @ drawn / np.maximum(total, 1), plain)
    return mean


def _predicted(evidence: GroupEvidence) -> int:
    return sum(int((np.isfinite(s.teacher) & np.isfinite(s.student)).any(axis=1).sum()) for s in evidence.sources)
