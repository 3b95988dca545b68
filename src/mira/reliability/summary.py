"""What a group's figures say: agreement within sources beside what the source alone already tells."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import fields
from functools import reduce
from operator import add
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mira.arrays import Floats
from mira.reliability.ceiling import Ceilings
from mira.reliability.cells import GroupMeasure
from mira.reliability.evidence import GroupEvidence, SourceEvidence
from mira.reliability.group_figures import mean_rho, share_of_ceiling
from mira.reliability.group_summary import (
    CellCounts,
    GroupSummary,
    MeanFigures,
    OverallFigures,
    RhoOfCeiling,
    SlotFigures,
    SourceFigures,
)
from mira.reliability.masking import Verdict
from mira.rubric.slots import slot_name
from mira.stats import auc, rank_moments, spearman

__all__ = ["count_cells", "plain", "source_mean", "source_notes", "summarise"]

Verdicts = tuple[tuple[Verdict, ...], ...]


def count_cells(verdicts: Sequence[Verdict]) -> CellCounts:
    """Count cells: total, masked, masked by reason, and where their evidence comes from."""
    return CellCounts(
        total=len(verdicts),
        masked=sum(v.masked for v in verdicts),
        by_reason=dict(sorted(Counter(v.reason.value for v in verdicts if v.reason).items())),
        by_level=dict(sorted(Counter[str](v.level for v in verdicts).items())),
    )


def summarise(
    evidence: GroupEvidence, measure: GroupMeasure, ceiling: Ceilings, verdicts: Verdicts, confidence: float
) -> GroupSummary:
    """Return a group's summary: counts, means over its unmasked cells, slot by slot and source by source figures."""
    unmasked = np.array([[not v.masked and v.level == "cell" for v in row] for row in verdicts], dtype=np.bool_)
    rho = measure.rho
    of_ceiling = share_of_ceiling(rho, measure.samples, ceiling, unmasked).interval(confidence)
    above = int((unmasked & (rho > ceiling.rho) & (ceiling.rho > 0)).sum())
    _, low, high = mean_rho(rho, measure.samples, unmasked).interval(confidence)
    slots = _slots(evidence, measure)
    return GroupSummary(
        cross_fitted=evidence.cross_fitted,
        labels=sum(len(s.ids) for s in evidence.sources),
        labels_unpredicted=sum(_unpredicted(s) for s in evidence.sources),
        doubly_judged=sum(len(s.retests) for s in evidence.sources),
        resamples=measure.samples.shape[2],
        cells=count_cells([v for row in verdicts for v in row]),
        mean_rho_unmasked=_mean(rho[unmasked]),
        mean_rho_unmasked_low=low,
        mean_rho_unmasked_high=high,
        mean_rho_of_ceiling=RhoOfCeiling(*of_ceiling, int(unmasked.sum()), above),
        mean_ceiling=_mean(ceiling.rho),
        mean=MeanFigures(**{f.name: _mean(np.array([getattr(s, f.name) for s in slots])) for f in fields(MeanFigures)}),
        slots=slots,
        overall=_overall(evidence, unmasked),
        sources={s.source: _source(s, verdicts[i]) for i, s in enumerate(evidence.sources)},
    )


def source_mean(source: SourceEvidence, values: Floats) -> Floats:
    """Predict each record by the mean of its source's labels in the other folds: the source-only baseline.

    Args:
        source: Gives the folds.
        values: Labels (n,), NaN where missing.

    Returns:
        (n,); NaN where the other folds hold no label.
    """
    predicted = np.full(len(values), np.nan)
    for fold in np.unique(source.fold):
        others = values[(source.fold != fold) & np.isfinite(values)]
        if len(others):
            predicted[source.fold == fold] = others.mean()
    return predicted


def source_notes(group: str, summary: GroupSummary) -> list[str]:
    """Return lines for people on what the figures mean."""
    mean, of_ceiling, cells = summary.mean, summary.mean_rho_of_ceiling, summary.cells
    reasons = ", ".join(f"{n} {reason}" for reason, n in cells.by_reason.items())
    ratio = f"{_show(of_ceiling.value)} [{_show(of_ceiling.low)}, {_show(of_ceiling.high)}]"
    notes = [
        f"{group}: {cells.masked} of {cells.total} cells masked{f' ({reasons})' if reasons else ''}; "
        f"rho {_show(summary.mean_rho_unmasked)} over unmasked cells, {ratio} of the teacher's ceiling",
    ]
    if of_ceiling.above:
        notes.append(
            f"{group}: ceiling unknown in {of_ceiling.above} of {of_ceiling.cells} unmasked cells: rho exceeds it, "
            "and their share counts as 1"
        )
    if len(summary.sources) > 1:
        notes.append(
            f"{group}: rho within sources {_show(mean.rho_within_sources)}, "
            f"across sources {_show(mean.rho_pooled)}; the source alone reaches {_show(mean.rho_source_alone)} "
            f"(AUC {_show(mean.auc_source_alone)})"
        )
    if mean.rho_source_alone > 0.3:
        notes.append(
            f"{group}: slots sort records by source as well as by quality; across sources, trust the figure within them"
        )
    masked = [name for name, s in summary.sources.items() if len(s.masked) == len(summary.slots)]
    notes += [f"{group}: every slot of {name} is masked" for name in masked]
    return notes


def _show(value: float) -> str:
    return f"{value:.2f}" if np.isfinite(value) else "unknown"


def _mean(values: Floats) -> float:
    known = values[np.isfinite(values)]
    return float(known.mean()) if known.size else float("nan")


def _unpredicted(source: SourceEvidence) -> int:
    return int((np.isfinite(source.teacher).any(axis=1) & ~np.isfinite(source.student).any(axis=1)).sum())


def _slots(evidence: GroupEvidence, measure: GroupMeasure) -> list[SlotFigures]:
    rows = []
    for j, name in enumerate(evidence.names):
        teacher = np.concatenate([s.teacher[:, j] for s in evidence.sources])
        student = np.concatenate([s.student[:, j] for s in evidence.sources])
        alone = _source_alone(evidence, [s.teacher[:, j] for s in evidence.sources])
        judged = np.isfinite(teacher) & np.isfinite(student)
        teacher, student, alone = teacher[judged], student[judged], alone[judged]
        high = teacher > np.median(teacher) if len(teacher) else np.zeros(0, dtype=np.bool_)
        pooled = measure.pooled[j]
        rows.append(
            SlotFigures(
                slot=slot_name(j),
                name=name,
                n=pooled.n,
                rho_within_sources=pooled.rho,
                rho_within_sources_low=pooled.low,
                rho_within_sources_high=pooled.high,
                rho_pooled=spearman(teacher, student),
                rho_source_alone=spearman(teacher, alone),
                auc_pooled=auc(student, high),
                auc_source_alone=auc(alone, high),
            )
        )
    return rows


def _overall(evidence: GroupEvidence, unmasked: NDArray[np.bool_]) -> OverallFigures:
    """Compare the student's mean over unmasked slots with the teacher's overall and its keep verdict."""
    means = [_row_mean(np.where(unmasked[i], s.student, np.nan)) for i, s in enumerate(evidence.sources)]
    within = [rank_moments(s.overall, m) for s, m in zip(evidence.sources, means, strict=True)]
    scores = np.concatenate(means)
    overall = np.concatenate([s.overall for s in evidence.sources])
    keep = np.concatenate([s.keep for s in evidence.sources])
    alone = _source_alone(evidence, [s.overall for s in evidence.sources])
    keep_alone = _source_alone(evidence, [s.keep for s in evidence.sources])
    judged = np.isfinite(keep) & np.isfinite(scores)
    return OverallFigures(
        rho_within_sources=float(reduce(add, within).rho[0]),
        rho_pooled=spearman(overall, scores),
        rho_source_alone=spearman(np.where(np.isfinite(scores), overall, np.nan), alone),
        auc_keep=auc(scores[judged], keep[judged] == 1),
        auc_keep_source_alone=auc(keep_alone[judged], keep[judged] == 1),
    )


def _source_alone(evidence: GroupEvidence, values: list[Floats]) -> Floats:
    """Return the source-only baseline over the group's records; undefined where the group has one source."""
    if sum(len(s.ids) > 0 for s in evidence.sources) < 2:
        return np.full(sum(map(len, values)), np.nan)
    return np.concatenate([source_mean(s, v) for s, v in zip(evidence.sources, values, strict=True)])


def _row_mean(scores: Floats) -> Floats:
    scored = np.isfinite(scores)
    n = scored.sum(axis=1)
    total = np.where(scored, scores, 0.0).sum(axis=1)
    return np.where(n > 0, total / np.maximum(n, 1), np.nan)


def _source(source: SourceEvidence, verdicts: tuple[Verdict, ...]) -> SourceFigures:
    return SourceFigures(
        labels=len(source.ids),
        held_out=int(np.isfinite(source.held_out).any(axis=1).sum()),
        mean_teacher=_mean(source.teacher),
        mean_student=_mean(source.student),
        spread_teacher=_mean(_spreads(source.teacher)),
        spread_student=_mean(_spreads(source.student)),
        masked=[slot_name(j) for j, v in enumerate(verdicts) if v.masked],
    )


def _spreads(scores: Floats) -> Floats:
    columns = [column[np.isfinite(column)] for column in scores.T]
    return np.array([c.std(ddof=1) if len(c) > 1 else np.nan for c in columns])


def plain(value: Any) -> Any:
    """Return the value with every undefined figure as None, so that it reads the same before and after JSON."""
    if isinstance(value, dict):
        return {key: plain(v) for key, v in value.items()}
    if isinstance(value, list):
        return [plain(v) for v in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value
