"""What a comparison of students says, in words: also where the labels are too few to say it."""

from collections.abc import Iterator, Mapping, Sequence
from math import isfinite
from typing import Any

from mira.config.settings import ReliabilitySettings
from mira.reliability.students.compare import Interval
from mira.reliability.students.decision import in_words
from mira.reliability.students.label_next import LabelPlan
from mira.reliability.students.results import GroupStudents, LabelCounts, Tables

__all__ = ["notes"]

NAIVE = ("constant", "source mean", "length", "n-grams")
_WIDE = 0.3
"""An interval of a cell's rho that is wider than this tells little about that cell (ours)."""


def notes(found: GroupStudents, students: Sequence[str], settings: ReliabilitySettings) -> list[str]:
    """Return lines for people.

    Args:
        found: A group's students; its `notes` are not read.
        students: Names of its students; all others in its tables are naive.
        settings: Thresholds and confidence.
    """
    lines = [line for student in students for line in _against_naive(found, student)]
    return [
        *in_words(found.decision),
        *lines,
        *_widths(found, settings),
        *_ceiling(found.labels, settings),
        *_chosen(found, students),
        *_curve(found.curve),
        *_label(found.label_next),
    ]


def _against_naive(found: GroupStudents, student: str) -> Iterator[str]:
    for tables, where in _tables(found):
        table = tables.unmasked
        if student not in table.students or not table.cells:
            continue
        own = table.students[student].of_ceiling
        naive = {n: d.of_ceiling for n, d in table.differences[student].items() if n in NAIVE}
        unclear = [f"{n} ({_signed(d)})" for n, d in naive.items() if not d.low > 0]
        closest = min(naive, key=lambda n: naive[n].value)
        says = (
            f"not clearly better than {', '.join(unclear)}"
            if unclear
            else f"better than every naive mean, than the closest, {closest}, by {_show(naive[closest])}"
        )
        yield f"{student}: {_show(own)} of the teacher's ceiling on {table.records} {where}; {says}"


def _tables(found: GroupStudents) -> Iterator[tuple[Tables, str]]:
    for tables, where in ((found.held_out, "held-out records"), (found.cross_fitted, "records, cross-fitted")):
        if tables is not None:
            yield tables, where


def _widths(found: GroupStudents, settings: ReliabilitySettings) -> Iterator[str]:
    for tables, where in _tables(found):
        table = tables.unmasked
        if table.cell_width > _WIDE:
            yield (
                f"too few labels to read single cells: on {table.records} {where}, the {settings.interval:.0%} "
                f"interval of a cell's rho is {table.cell_width:.2f} wide (median)"
            )


def _ceiling(labels: LabelCounts, settings: ReliabilitySettings) -> Iterator[str]:
    pairs = labels.doubly_judged
    if not isfinite(labels.mean_ceiling):
        yield f"the teacher's ceiling is not known: {pairs} doubly judged records; see label.replicates"
    elif pairs < 10 * settings.min_pairs:
        yield (
            f"the teacher's ceiling ({labels.mean_ceiling:.2f}) rests on {pairs} doubly judged records; the "
            "intervals hold its error"
        )


def _chosen(found: GroupStudents, students: Sequence[str]) -> Iterator[str]:
    cells = found.cells
    counts = {name: sum(c.chosen == name for c in cells) for name in students}
    masked = sum(c.chosen is None for c in cells)
    told = ", ".join(f"{name} in {n}" for name, n in counts.items() if n)
    yield f"of {len(cells)} cells, use {told or 'none'}; masked: {masked}"


def _curve(curve: Mapping[str, Any] | None) -> Iterator[str]:
    if not curve or not curve["projection"]:
        return
    now, double = curve["points"][-1], curve["projection"][0]
    yield (
        f"encoder: rho within sources {now['rho_within']:.2f} with {now['labels']} labels to train on; twice as many "
        f"are projected to give {double['rho_within']:.2f} "
        f"[{double['rho_within_low']:.2f}, {double['rho_within_high']:.2f}] "
        "(a power law fitted to the curve; the range is that of repeats, the truth may lie outside)"
    )


def _label(plans: Sequence[LabelPlan]) -> Iterator[str]:
    wanted = [plan for plan in plans if plan.unmasks]
    if not wanted:
        yield "no masked cell is projected to be trusted with more labels alone"
        return
    possible = [(step, p.source) for p in wanted for step in p.more if step.labels <= p.unlabelled]
    if not possible:
        nearest = wanted[0]
        yield (
            "no source has enough unlabelled records for more labels alone to unmask a cell: "
            f"{nearest.source} would need {nearest.labels} and has {nearest.unlabelled}"
        )
        return
    step, source = max(possible, key=lambda found: len(found[0].unmasks) / found[0].labels)
    slots = ", ".join(step.unmasks)
    yield f"label next: {step.labels} records of {source} would unmask {slots} at about even odds"


def _show(interval: Interval) -> str:
    return f"{interval.value:.2f} [{interval.low:.2f}, {interval.high:.2f}]"


def _signed(interval: Interval) -> str:
    return f"{interval.value:+.2f} [{interval.low:+.2f}, {interval.high:+.2f}]"
