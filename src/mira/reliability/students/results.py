"""The result of `mira students`: the content of students.json."""

from dataclasses import dataclass
from math import isfinite
from typing import Any

from mira.html import block, paragraph, table
from mira.reliability.students.compare import CellChoice
from mira.reliability.students.decision import Decision
from mira.reliability.students.label_next import LabelPlan
from mira.reliability.students.table import Table
from mira.run_folder.results import Figure

__all__ = ["GroupStudents", "LabelCounts", "StudentEntry", "StudentsResult", "Tables"]


@dataclass(frozen=True, slots=True)
class StudentEntry:
    """One student: its kind, its folder, and whether it has cross-fitted predictions."""

    kind: str
    folder: str
    cross_fitted: bool


@dataclass(frozen=True, slots=True)
class LabelCounts:
    """Labelled records of a group.

    Attributes:
        records: All of them.
        held_out: Those of the held-out split.
        doubly_judged: Those that the teacher judged twice.
        mean_ceiling: The teacher's mean ceiling over cells; NaN if none is known.
    """

    records: int
    held_out: int
    doubly_judged: int
    mean_ceiling: Figure


@dataclass(frozen=True, slots=True)
class Tables:
    """Students compared over the cells that a student is trusted with, and over all whose teacher's scores vary."""

    unmasked: Table
    all: Table


@dataclass(frozen=True, slots=True)
class GroupStudents:
    """The students of one group.

    Attributes:
        students: Name -> student, from cheap to dear.
        labels: The labelled records.
        held_out: On held-out records; None if no student has predictions for them.
        cross_fitted: On all labelled records, each predicted by models that have not seen it; None without such.
        decision: All ways to score in order of cost, and the cheapest that is not worse; None without comparable cells.
        cells: Which student to use in each cell, if any.
        curve: `learning_curve` of the encoder; None without an encoder or texts.
        label_next: Which sources to label next, best first.
        notes: The findings in words.
    """

    students: dict[str, StudentEntry]
    labels: LabelCounts
    held_out: Tables | None
    cross_fitted: Tables | None
    decision: Decision | None
    cells: tuple[CellChoice, ...]
    curve: dict[str, Any] | None
    label_next: list[LabelPlan]
    notes: list[str]


@dataclass(frozen=True, slots=True)
class StudentsResult:
    """All groups, and the confidence of all intervals."""

    interval: float
    groups: dict[str, GroupStudents]

    def _repr_html_(self) -> str:
        """Return every group's students on held-out labels, and the notes, for notebooks."""
        return block(*(part for name, group in self.groups.items() for part in _shown(name, group)))


def _shown(name: str, group: GroupStudents) -> list[str]:
    parts = [paragraph(name, strong=True)]
    if group.held_out is not None:
        rows = [
            (
                student,
                *(e.value if e.value is not None and isfinite(e.value) else None
                  for e in (own.of_ceiling, own.rho, own.rho_across, own.mae)),
            )
            for student, own in group.held_out.unmasked.students.items()
        ]  # fmt: skip
        columns = ("student", "rho / teacher's ceiling", "rho in sources", "rho across sources", "MAE")
        parts.append(table(columns, rows))
    return [*parts, *map(paragraph, group.notes)]
