"""Which cells are trusted: one rule, its reasons in plain words."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

import numpy as np

from mira.config.settings import ReliabilitySettings
from mira.reliability.cells import GroupMeasure, Measure

__all__ = ["Level", "Reason", "Verdict", "judge_cell", "verdicts"]

Level = Literal["cell", "group", "none"]


class Reason(StrEnum):
    """Why a cell is masked. The list is closed; `why` starts with one of these."""

    TOO_FEW = "too few labels"
    COLLAPSED = "collapsed"
    UNDEFINED = "undefined"
    WEAK = "weak ranking"
    NO_SKILL = "no skill"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was decided for a cell.

    Attributes:
        level: Where the evidence comes from.
        evidence: The measure that decided; None at level "none".
        reason: Why the cell is masked, or None when it is trusted.
        why: The reason with its numbers, for people; None when the cell is trusted.
    """

    level: Level
    evidence: Measure | None
    reason: Reason | None
    why: str | None

    @property
    def masked(self) -> bool:
        """Whether aggregation leaves the cell out."""
        return self.reason is not None


def verdicts(measure: GroupMeasure, settings: ReliabilitySettings) -> tuple[tuple[Verdict, ...], ...]:
    """Return one verdict a cell: sources x slots.

    A cell with at least `min_n` labels is judged on its own. A smaller one is judged on its slot pooled over the
    group, sources centred; where the group has fewer than `min_n` labels too, the cell is masked. The order of levels
    is the method's, the thresholds are ours.
    """
    return tuple(
        tuple(_verdict(cell, pooled, settings) for cell, pooled in zip(row, measure.pooled, strict=True))
        for row in measure.cells
    )


def _verdict(cell: Measure, pooled: Measure, settings: ReliabilitySettings) -> Verdict:
    if cell.n >= settings.min_n:
        reason, why = judge_cell(cell, settings)
        return Verdict("cell", cell, reason, why)
    if pooled.n >= settings.min_n:
        reason, why = judge_cell(pooled, settings)
        return Verdict(
            "group", pooled, reason, f"{why} (the group's figures; the source has {cell.n})" if why else None
        )
    why = f"{Reason.TOO_FEW}: {cell.n} in the source, {pooled.n} in the group, {settings.min_n} are needed"
    return Verdict("none", None, Reason.TOO_FEW, why)


def judge_cell(measure: Measure, settings: ReliabilitySettings) -> tuple[Reason, str] | tuple[None, None]:
    """Return why a measure does not earn trust, or None twice.

    In this order: the teacher's scores hardly vary; the student's do not vary at all; the lower end of rho's interval
    is below `min_rho`; the error is not smaller than a constant's. Low error alone never earns trust, since on a
    collapsed dimension a constant beats a student with real signal.
    """
    if measure.spread_teacher < settings.min_spread or measure.tied >= settings.max_tied:
        return Reason.COLLAPSED, (
            f"{Reason.COLLAPSED}: the teacher's scores hardly vary "
            f"(sd {measure.spread_teacher:.2f}, {measure.tied:.0%} of labels share one score)"
        )
    if not np.isfinite(measure.rho):
        return Reason.UNDEFINED, f"{Reason.UNDEFINED}: the student gives every record the same score"
    if measure.low < settings.min_rho:
        return Reason.WEAK, (
            f"{Reason.WEAK}: rho {measure.rho:.2f} may be as low as {measure.low:.2f}, "
            f"{settings.min_rho:.2f} is needed (n = {measure.n})"
        )
    if not measure.skill > settings.min_skill:
        return Reason.NO_SKILL, (
            f"{Reason.NO_SKILL}: mean error {measure.mae:.2f}, a constant has {measure.mae_constant:.2f}"
        )
    return None, None
