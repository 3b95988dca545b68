"""Several students of one group, cell by cell: which one is good enough, and is a more expensive one worth it?"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from mira.config.settings import ReliabilitySettings
from mira.reliability.ceiling import Ceilings, ceilings
from mira.reliability.cells import GroupMeasure, measure_group
from mira.reliability.evidence import GroupEvidence, Predictions, collect
from mira.reliability.group_figures import mean_rho, share_of_ceiling
from mira.reliability.masking import Level, Verdict, verdicts
from mira.rubric.slots import slot_name
from mira.run_folder.results import Figure
from mira.stats import percentile_interval

__all__ = ["CellChoice", "Comparison", "Interval", "StudentFigures", "common_evidence", "compare_students"]


@dataclass(frozen=True, slots=True)
class Interval:
    """A figure with its bootstrap interval; NaN where undefined."""

    value: Figure
    low: Figure
    high: Figure


@dataclass(frozen=True, slots=True)
class CellChoice:
    """One cell under several students.

    Attributes:
        source: The source.
        slot: "A1", ...
        name: The slot's name.
        n: Labels that all students predicted.
        level: What rho and gain are taken over: the cell, its slot over the group, or nothing that suffices.
        rho: Student -> Spearman's rho on those labels.
        gain: Student -> its rho minus that of the first student, over the same resamples; 0 for the first.
        why: Student -> why it is not trusted here, on all labels that it predicted, or None where it is.
        chosen: The student to use, or None: the cell is masked.
    """

    source: str
    slot: str
    name: str
    n: int
    level: Level
    rho: Mapping[str, Interval]
    gain: Mapping[str, Interval]
    why: Mapping[str, str | None]
    chosen: str | None


@dataclass(frozen=True, slots=True)
class StudentFigures:
    """One student over the group.

    Attributes:
        rho: Mean of Spearman's rho over the cells that any student can be trusted with on their own labels.
        gain: The same minus the first student's, over the same resamples.
        of_ceiling: Mean of rho / teacher's ceiling over those of the cells whose ceiling is known; else NaN.
        cells: Number of those cells.
        trusted: Cells where this student is trusted.
        chosen: Cells where it is chosen.
    """

    rho: Interval
    gain: Interval
    of_ceiling: Interval
    cells: int
    trusted: int
    chosen: int


@dataclass(frozen=True, slots=True)
class Comparison:
    """The students of a group compared: `cells` in order of source and slot, `students` in the given order."""

    group: str
    cells: tuple[CellChoice, ...]
    students: Mapping[str, StudentFigures]


def compare_students(
    group: str,
    names: Sequence[str],
    sources: Sequence[str],
    labels: pa.Table,
    students: Mapping[str, Predictions],
    *,
    settings: ReliabilitySettings,
    seed: int,
) -> Comparison:
    """Compare students on the same labels and the same resamples, and choose one for every cell, or mask it.

    Whether a student is trusted is decided on all labels that it predicted. Students are compared with one another on
    the labels that every one of them predicted, so one that predicts held-out records alone restricts that to those.
    Order the students from cheap to dear: the first one that passes the mask rule is chosen, and a later one that
    passes takes its place only where its rho is higher with the whole interval of the difference above 0 (ours). A
    student that the cell's own labels speak for is not displaced by a comparison over the whole group, in which
    another source may decide.

    Args:
        group: Group name.
        names: Names of the slots.
        sources: The group's sources.
        labels: The group's labels.
        students: Name -> predictions, from cheap to dear.
        settings: Thresholds of the mask rule, confidence and number of resamples.
        seed: Seed of the resamples.

    Raises:
        RunError: Predictions do not belong to the labels.
        ValueError: There is no student.
    """
    if not students:
        raise ValueError("there is no student to compare")
    own = {name: collect(group, names, sources, labels, p) for name, p in students.items()}
    evidence = common_evidence(own)
    measured = {name: _measure(own[name], e, settings, seed) for name, e in evidence.items()}
    cells = tuple(
        _choose((source, i), (name, j), measured, settings.interval)
        for i, source in enumerate(sources)
        for j, name in enumerate(names)
    )
    ceiling = ceilings(next(iter(evidence.values())), settings.min_pairs, bootstrap=settings.bootstrap, seed=seed)
    return Comparison(group, cells, _figures(cells, measured, ceiling, settings.interval))


class _Measured(NamedTuple):
    measure: GroupMeasure
    """On the labels that all students predicted."""
    compared: tuple[tuple[Verdict, ...], ...]
    """Verdicts on those labels: their level says what can be compared."""
    verdicts: tuple[tuple[Verdict, ...], ...]
    """Verdicts on all labels that this student predicted."""


def _measure(own: GroupEvidence, common: GroupEvidence, settings: ReliabilitySettings, seed: int) -> _Measured:
    measure, everything = (
        measure_group(e, bootstrap=settings.bootstrap, confidence=settings.interval, seed=seed) for e in (common, own)
    )
    return _Measured(measure, verdicts(measure, settings), verdicts(everything, settings))


def common_evidence(evidence: Mapping[str, GroupEvidence]) -> dict[str, GroupEvidence]:
    """Blank every prediction that some student lacks, so that all students are judged on the same labels."""
    blocks = zip(*(e.sources for e in evidence.values()), strict=True)
    lacking = [~np.all([np.isfinite(s.student) for s in same], axis=0) for same in blocks]
    return {
        name: replace(
            e,
            sources=tuple(
                replace(s, student=np.where(gone, np.nan, s.student))
                for s, gone in zip(e.sources, lacking, strict=True)
            ),
        )
        for name, e in evidence.items()
    }


def _choose(
    source: tuple[str, int], slot: tuple[str, int], measured: dict[str, _Measured], confidence: float
) -> CellChoice:
    (source_name, i), (title, j) = source, slot
    here = {student: m.verdicts[i][j] for student, m in measured.items()}
    level = next(iter(measured.values())).compared[i][j].level
    used = {s: m.compared[i][j].evidence or m.measure.cells[i][j] for s, m in measured.items()}
    samples = {
        s: np.nan_to_num(m.measure.pooled_samples[j] if level == "group" else m.measure.samples[i, j])
        for s, m in measured.items()
    }

    def difference(student: str, other: str) -> Interval:
        value = np.nan_to_num(used[student].rho) - np.nan_to_num(used[other].rho)
        return Interval(float(value), *percentile_interval(samples[student] - samples[other], confidence))

    first = next(iter(here))
    chosen: str | None = None
    for student, verdict in here.items():
        comparable = level == "cell" or (chosen is not None and here[chosen].level == level == "group")
        if not verdict.masked and (chosen is None or (comparable and difference(student, chosen).low > 0)):
            chosen = student
    return CellChoice(
        source=source_name,
        slot=slot_name(j),
        name=title,
        n=measured[first].measure.cells[i][j].n,
        level=level,
        rho={s: Interval(m.rho, m.low, m.high) for s, m in used.items()},
        gain={s: difference(s, first) for s in here},
        why={s: v.why for s, v in here.items()},
        chosen=chosen,
    )


def _figures(
    cells: Sequence[CellChoice], measured: dict[str, _Measured], ceiling: Ceilings, confidence: float
) -> dict[str, StudentFigures]:
    trusted = {s: np.array([[not v.masked for v in row] for row in m.verdicts]) for s, m in measured.items()}
    taken = np.array([c.chosen is not None and c.level == "cell" for c in cells]).reshape(ceiling.rho.shape)
    rho = {s: mean_rho(m.measure.rho, m.measure.samples, taken) for s, m in measured.items()}
    first = next(iter(measured))
    return {
        s: StudentFigures(
            rho=Interval(*rho[s].interval(confidence)),
            gain=Interval(*(rho[s] - rho[first]).interval(confidence)),
            of_ceiling=Interval(
                *share_of_ceiling(m.measure.rho, m.measure.samples, ceiling, taken).interval(confidence)
            ),
            cells=int(taken.sum()),
            trusted=int(trusted[s].sum()),
            chosen=sum(c.chosen == s for c in cells),
        )
        for s, m in measured.items()
    }
