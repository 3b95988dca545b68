"""Which sources to label next: where more labels alone would make cells trusted.

The rule is ours. The lower end of a cell's interval is below rho because labels are few. On Fisher's z scale, the
distance between the two shrinks with 1 / sqrt(n - 3) (Fisher 1921; for Spearman's rho it does so too: Bonett and Wright
2000), so the cell's own bootstrap interval at n labels tells the number of labels at which its lower end reaches the
threshold, if rho stays where it is. It will not stay exactly: at that number the odds are about even. They are better
where the student is trained on the new labels, too.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import atanh, ceil, isfinite
from typing import Literal

from mira.config.settings import ReliabilitySettings
from mira.reliability.cells import Measure
from mira.reliability.masking import Reason, Verdict

__all__ = ["NEAR", "LabelPlan", "LabelStep", "Need", "label_next", "need", "needed_labels"]

NEAR = 0.05
"""A trusted cell is near the threshold when its lower bound is less than this above it (ours)."""

_MOST = 1_000_000
"""More labels than this are not a plan."""

Outlook = Literal["masked", "near", "too few to tell", "hopeless"]


@dataclass(frozen=True, slots=True)
class Need:
    """What a cell needs.

    Attributes:
        slot: "A1", ...
        name: The slot's name.
        outlook: "masked": more labels are likely to unmask it. "near": trusted, but barely; more labels would make it
            safe. "too few to tell": nothing can be projected below `min_n` labels. "hopeless": masked for a reason that
            more labels are not known to change.
        labels: Further records of the source to label; None where hopeless.
        chance: Probability that rho is above the threshold, i.e. that any number of labels would do; None where it
            cannot be estimated.
        why: Why it is masked, or barely trusted.
    """

    slot: str
    name: str
    outlook: Outlook
    labels: int | None
    chance: float | None
    why: str


@dataclass(frozen=True, slots=True)
class LabelStep:
    """A number of records to label, and the slots that this is projected to unmask."""

    labels: int
    unmasks: list[str]


@dataclass(frozen=True, slots=True)
class LabelPlan:
    """What labelling a source would unmask.

    Attributes:
        source: The source.
        labels: Records to label.
        unmasks: Slots that this is projected to unmask.
        chance: Mean chance over those slots; None if it cannot be estimated.
        per_100: Cells per 100 labels.
        unlabelled: Valid records without a label.
        enough: Whether the source has as many unlabelled records.
        more: The same plan for every further cell.
        near: Cells that are barely trusted.
        too_few: Masked cells with too few labels to tell.
        hopeless: Cells masked for a reason that more labels are not known to change.
    """

    source: str
    labels: int
    unmasks: list[str]
    chance: float | None
    per_100: float
    unlabelled: int
    enough: bool
    more: list[LabelStep]
    near: list[Need]
    too_few: list[Need]
    hopeless: list[Need]


def needed_labels(rho: float, low: float, n: int, threshold: float) -> int | None:
    """Return the number of labels at which the lower bound is projected to reach `threshold`.

    Args:
        rho: Spearman's rho.
        low: Lower end of its interval, below rho.
        n: Labels behind both, above 3.
        threshold: Where the lower end is to be.

    Returns:
        3 + (n - 3) * ((z(rho) - z(low)) / (z(rho) - z(threshold)))^2 with z = atanh; None where rho does not exceed the
        threshold, or a million labels would not be enough.
    """
    if not (rho > threshold and low < rho < 1 and n > 3):
        return None
    found = 3 + (n - 3) * ((atanh(rho) - atanh(max(low, -0.999))) / (atanh(rho) - atanh(threshold))) ** 2
    return ceil(found - 1e-9) if found <= _MOST else None


def need(
    slot: str, name: str, n: int, verdict: Verdict, settings: ReliabilitySettings, share: float = 1.0
) -> Need | None:
    """Return what a cell needs; None for a cell that is safely trusted.

    A cell that is judged on its group's evidence is projected from that, to at least `min_n` labels of its own.

    Args:
        slot: "A1", ...
        name: Name of the slot.
        n: Labels of the cell.
        verdict: What was decided for it, and on what.
        settings: Thresholds.
        share: Share of newly labelled records that count as evidence: 1 for cross-fitted students, the held-out share
            for those that only held-out records can judge.
    """
    if verdict.evidence is None:
        missing = ceil(max(settings.min_n - n, 1) / share - 1e-9)
        return Need(slot, name, "too few to tell", missing, None, verdict.why or "")
    measure = verdict.evidence
    if verdict.reason not in (None, Reason.WEAK):
        return Need(slot, name, "hopeless", None, None, verdict.why or "")
    near = verdict.reason is None
    if near and not measure.low < settings.min_rho + NEAR:
        return None
    threshold = settings.min_rho + (NEAR if near else 0)
    total = needed_labels(measure.rho, measure.low, measure.n, threshold)
    why = verdict.why or f"rho {measure.rho:.2f} may be as low as {measure.low:.2f} (n = {measure.n})"
    if total is None:
        return None if near else Need(slot, name, "hopeless", None, _chance(measure, settings), why)
    if verdict.level == "group":
        total = max(total, settings.min_n)
    labels = ceil(max(total - n, 1) / share - 1e-9)
    return Need(slot, name, "near" if near else "masked", labels, _chance(measure, settings), why)


def _chance(measure: Measure, settings: ReliabilitySettings) -> float | None:
    from scipy.special import ndtr, ndtri  # noqa: PLC0415 - slow to import

    if not (isfinite(measure.low) and measure.low < measure.rho < 1):
        return None
    error = (atanh(measure.rho) - atanh(max(measure.low, -0.999))) / ndtri((1 + settings.interval) / 2)
    return float(ndtr((atanh(measure.rho) - atanh(settings.min_rho)) / error))


def label_next(needs: Mapping[str, Sequence[Need]], unlabelled: Mapping[str, int]) -> list[LabelPlan]:
    """Rank sources by what labelling them would unmask.

    One judgement of a record labels all of its slots, so a source's labels serve all of its cells: the plan of a source
    is the number of records at which cells unmasked per record labelled is highest; sources are ranked by that.

    Args:
        needs: Source -> its cells' needs.
        unlabelled: Source -> valid records without a label.

    Returns:
        One plan per source, best first.
    """
    found = [_plan(source, cells, unlabelled.get(source, 0)) for source, cells in needs.items()]
    return sorted(found, key=lambda entry: (-entry.per_100, -len(entry.near), entry.source))


def _plan(source: str, needs: Sequence[Need], unlabelled: int) -> LabelPlan:
    steps = list(_steps(needs))
    best = max(steps, key=lambda step: len(step.unmasks) / step.labels, default=None)
    chances = [n.chance for n in needs if best and n.slot in best.unmasks and n.chance is not None]
    return LabelPlan(
        source=source,
        labels=best.labels if best else 0,
        unmasks=best.unmasks if best else [],
        chance=sum(chances) / len(chances) if chances else None,
        per_100=100 * len(best.unmasks) / best.labels if best else 0.0,
        unlabelled=unlabelled,
        enough=best is None or best.labels <= unlabelled,
        more=steps,
        near=[n for n in needs if n.outlook == "near"],
        too_few=[n for n in needs if n.outlook == "too few to tell"],
        hopeless=[n for n in needs if n.outlook == "hopeless"],
    )


def _steps(needs: Sequence[Need]) -> Iterator[LabelStep]:
    wanted = sorted((n.labels, i) for i, n in enumerate(needs) if n.outlook == "masked" and n.labels)
    for k, (labels, _) in enumerate(wanted, 1):
        yield LabelStep(labels, [needs[i].slot for _, i in wanted[:k]])
