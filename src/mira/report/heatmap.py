"""How far each student can be trusted: reliability.parquet as heat maps, and its summary from the manifest."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any

import pyarrow.parquet as pq

from mira.grouping.groups import Group
from mira.reliability.group_summary import GroupSummary
from mira.report.charts import heat_step
from mira.rubric.slots import slot_index
from mira.run_folder.paths import RunFolder
from mira.run_folder.results import from_plain

__all__ = ["Cell", "GroupFigures", "HeatMap", "MaskedCell", "SlotRow", "heat_maps"]


@dataclass(frozen=True, slots=True)
class Cell:
    """One (source, slot): its figures as in reliability.parquet (None where unknown), and its colour.

    Attributes:
        source: The source.
        n: Labels with a prediction.
        rho: Student-teacher Spearman, of `level`.
        low: Lower end of its interval.
        high: Upper end.
        ceiling: The teacher's own test-retest Spearman.
        of_ceiling: rho / ceiling, at most 1.
        step: Colour step of that share, or of rho where there is no ceiling.
        mae: Mean absolute error.
        mae_constant: That of a constant.
        skill: 1 - mae / mae_constant.
        rho_held_out: Spearman over held-out labels alone.
        n_held_out: Held-out labels.
        spread_teacher: Standard deviation of the teacher's scores.
        spread_student: That of the student's.
        level: Where the figures come from: cell, group or none.
        masked: Left out of quality.
        why: Why it is masked.
    """

    source: str
    n: int
    rho: float | None
    low: float | None
    high: float | None
    ceiling: float | None
    of_ceiling: float | None
    step: int | None
    mae: float | None
    mae_constant: float | None
    skill: float | None
    rho_held_out: float | None
    n_held_out: int
    spread_teacher: float | None
    spread_student: float | None
    level: str
    masked: bool
    why: str


@dataclass(frozen=True, slots=True)
class SlotRow:
    """One slot over the group's sources, and the slot's figures over the whole group."""

    slot: str
    name: str
    cells: tuple[Cell | None, ...]
    within: float | None
    alone: float | None


@dataclass(frozen=True, slots=True)
class MaskedCell:
    """One masked cell, for the list below the map."""

    source: str
    slot: str
    name: str
    why: str


@dataclass(frozen=True, slots=True)
class GroupFigures:
    """What a group's student is worth; None where the manifest does not say.

    Attributes:
        labels: Labelled records.
        doubly_judged: Records that the teacher judged twice.
        cross_fitted: Every label was predicted by a model that had not seen its record.
        rho: Mean Spearman over unmasked cells.
        cells: How many these are.
        of_ceiling: Mean of rho / ceiling over them.
        of_ceiling_low: Lower end of its interval.
        of_ceiling_high: Upper end.
        ceiling: Mean ceiling.
        within: Mean Spearman within sources.
        pooled: Mean Spearman across sources.
        alone: What the source alone reaches, as Spearman.
        auc_keep: AUC of the teacher's "keep".
        auc_keep_alone: What the source alone reaches there.
        overall_within: Spearman of quality against the teacher's overall, within sources.
        features: What the student reads, where it says so.
        held_out_rho: Mean Spearman over the held-out split alone, as the student's training tells.
        held_out_mae: Mean absolute error there.
    """

    labels: int
    doubly_judged: int
    cross_fitted: bool
    rho: float | None
    cells: int
    of_ceiling: float | None
    of_ceiling_low: float | None
    of_ceiling_high: float | None
    ceiling: float | None
    within: float | None
    pooled: float | None
    alone: float | None
    auc_keep: float | None
    auc_keep_alone: float | None
    overall_within: float | None
    features: str
    held_out_rho: float | None
    held_out_mae: float | None


@dataclass(frozen=True, slots=True)
class HeatMap:
    """One group: slots x sources."""

    group: str
    sources: tuple[str, ...]
    rows: tuple[SlotRow, ...]
    masked: tuple[MaskedCell, ...]
    n_cells: int
    student: GroupFigures | None

    @property
    def has_slot_figures(self) -> bool:
        """Whether the slots' figures over the whole group are known."""
        return any(row.within is not None or row.alone is not None for row in self.rows)


def heat_maps(run: RunFolder, groups: Sequence[Group], manifest: Mapping[str, Any]) -> tuple[HeatMap, ...]:
    """Return one heat map a group; none where there is no reliability.parquet."""
    if not run.reliability.is_file():
        return ()
    rows = pq.read_table(run.reliability).to_pylist()
    found = []
    for group in groups:
        own = [row for row in rows if row["source"] in group.sources]
        if own:
            told = _get(manifest, "stages", "reliability", "summary", "groups", group.name)
            summary = from_plain(GroupSummary, told, run.manifest) if told else None
            trained = _get(manifest, "stages", "distill", "summary", "groups", group.name) or {}
            found.append(_heat_map(group, own, summary, trained))
    return tuple(found)


def _heat_map(
    group: Group, rows: Sequence[Mapping[str, Any]], summary: GroupSummary | None, trained: Mapping[str, Any]
) -> HeatMap:
    names = dict(sorted({r["slot"]: str(r.get("name") or "") for r in rows}.items(), key=lambda s: slot_index(s[0])))
    cells = {(r["source"], r["slot"]): _cell(r) for r in rows}
    over_group = {s.slot: s for s in summary.slots} if summary else {}
    slots = tuple(
        SlotRow(
            slot=slot,
            name=name,
            cells=tuple(cells.get((source, slot)) for source in group.sources),
            within=_known(over_group[slot].rho_within_sources) if slot in over_group else None,
            alone=_known(over_group[slot].rho_source_alone) if slot in over_group else None,
        )
        for slot, name in names.items()
    )
    masked = tuple(
        MaskedCell(cell.source, row.slot, row.name, cell.why)
        for row in slots
        for cell in row.cells
        if cell and cell.masked
    )
    student = _student(summary, trained) if summary else None
    return HeatMap(group.name, group.sources, slots, masked, len(cells), student)


def _cell(row: Mapping[str, Any]) -> Cell:
    rho, ceiling = row.get("rho"), row.get("ceiling")
    of_ceiling = min(rho / ceiling, 1.0) if rho is not None and ceiling is not None and ceiling > 0 else None
    return Cell(
        source=row["source"],
        n=row.get("n") or 0,
        rho=rho,
        low=row.get("rho_low"),
        high=row.get("rho_high"),
        ceiling=ceiling,
        of_ceiling=of_ceiling,
        step=heat_step(rho if of_ceiling is None else of_ceiling),
        mae=row.get("mae"),
        mae_constant=row.get("mae_constant"),
        skill=row.get("skill"),
        rho_held_out=row.get("rho_held_out"),
        n_held_out=row.get("n_held_out") or 0,
        spread_teacher=row.get("spread_teacher"),
        spread_student=row.get("spread_student"),
        level=row.get("level") or "none",
        masked=bool(row["masked"]),
        why=str(row.get("why") or ""),
    )


def _student(summary: GroupSummary, trained: Mapping[str, Any]) -> GroupFigures:
    ratio, mean, overall = summary.mean_rho_of_ceiling, summary.mean, summary.overall
    held_out = trained.get("held_out")
    if not isinstance(held_out, Mapping):  # a student that learned elsewhere only has the number of records
        held_out = {}
    return GroupFigures(
        labels=summary.labels,
        doubly_judged=summary.doubly_judged,
        cross_fitted=summary.cross_fitted,
        rho=_known(summary.mean_rho_unmasked),
        cells=ratio.cells,
        of_ceiling=_known(ratio.value),
        of_ceiling_low=_known(ratio.low),
        of_ceiling_high=_known(ratio.high),
        ceiling=_known(summary.mean_ceiling),
        within=_known(mean.rho_within_sources),
        pooled=_known(mean.rho_pooled),
        alone=_known(mean.rho_source_alone),
        auc_keep=_known(overall.auc_keep),
        auc_keep_alone=_known(overall.auc_keep_source_alone),
        overall_within=_known(overall.rho_within_sources),
        features=str(trained.get("features") or ""),
        held_out_rho=held_out.get("rho"),
        held_out_mae=held_out.get("mae"),
    )


def _known(value: float) -> float | None:
    return value if isfinite(value) else None


def _get(value: Any, *keys: str) -> Any:
    for key in keys:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value
