"""A group's figures, as `mira reliability` leaves them in the manifest. NaN where undefined, null in the file."""

from dataclasses import dataclass, field

from mira.run_folder.results import Figure

__all__ = [
    "CellCounts",
    "GroupSummary",
    "MeanFigures",
    "OverallFigures",
    "RhoOfCeiling",
    "SlotFigures",
    "SourceFigures",
]

_UNKNOWN = float("nan")


@dataclass(frozen=True, slots=True)
class CellCounts:
    """Cells: total, masked, masked by reason, and where their evidence comes from."""

    total: int = 0
    masked: int = 0
    by_reason: dict[str, int] = field(default_factory=dict)
    by_level: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RhoOfCeiling:
    """Mean of rho divided by the teacher's ceiling, with its interval.

    Attributes:
        value: The mean; a cell whose rho exceeds its ceiling counts as 1.
        low: Lower end of its interval.
        high: Upper end.
        cells: Unmasked cells.
        above: Those whose rho exceeds their ceiling, which is thus not known well enough.
    """

    value: Figure = _UNKNOWN
    low: Figure = _UNKNOWN
    high: Figure = _UNKNOWN
    cells: int = 0
    above: int = 0


@dataclass(frozen=True, slots=True)
class MeanFigures:
    """Means over slots; see `SlotFigures`."""

    rho_within_sources: Figure = _UNKNOWN
    rho_pooled: Figure = _UNKNOWN
    rho_source_alone: Figure = _UNKNOWN
    auc_pooled: Figure = _UNKNOWN
    auc_source_alone: Figure = _UNKNOWN


@dataclass(frozen=True, slots=True)
class SlotFigures:
    """One slot over the group's sources.

    Attributes:
        slot: "A1", ...
        name: The slot's name.
        n: Labels with a prediction.
        rho_within_sources: Spearman's rho within sources.
        rho_within_sources_low: Lower end of its interval.
        rho_within_sources_high: Upper end.
        rho_pooled: Spearman's rho across sources.
        rho_source_alone: The same of the source-only baseline.
        auc_pooled: AUC of the student for records above the teacher's median.
        auc_source_alone: The same of the source-only baseline.
    """

    slot: str
    name: str = ""
    n: int = 0
    rho_within_sources: Figure = _UNKNOWN
    rho_within_sources_low: Figure = _UNKNOWN
    rho_within_sources_high: Figure = _UNKNOWN
    rho_pooled: Figure = _UNKNOWN
    rho_source_alone: Figure = _UNKNOWN
    auc_pooled: Figure = _UNKNOWN
    auc_source_alone: Figure = _UNKNOWN


@dataclass(frozen=True, slots=True)
class OverallFigures:
    """The student's mean over unmasked slots against the teacher's overall, and against its "keep"."""

    rho_within_sources: Figure = _UNKNOWN
    rho_pooled: Figure = _UNKNOWN
    rho_source_alone: Figure = _UNKNOWN
    auc_keep: Figure = _UNKNOWN
    auc_keep_source_alone: Figure = _UNKNOWN


@dataclass(frozen=True, slots=True)
class SourceFigures:
    """One source: its labels, means and spreads of both judges over slots, and its masked slots."""

    labels: int = 0
    held_out: int = 0
    mean_teacher: Figure = _UNKNOWN
    mean_student: Figure = _UNKNOWN
    spread_teacher: Figure = _UNKNOWN
    spread_student: Figure = _UNKNOWN
    masked: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class GroupSummary:
    """One group.

    Attributes:
        cross_fitted: Every label was predicted by a model that had not seen its record.
        labels: Labelled records.
        labels_unpredicted: Those without a prediction.
        doubly_judged: Those that the teacher judged twice.
        resamples: Bootstrap resamples.
        cells: Counts of cells.
        mean_rho_unmasked: Mean Spearman's rho over unmasked cells.
        mean_rho_unmasked_low: Lower end of its interval.
        mean_rho_unmasked_high: Upper end.
        mean_rho_of_ceiling: The same as a share of the teacher's ceiling.
        mean_ceiling: Mean ceiling over cells.
        mean: Means over slots.
        slots: Slot by slot.
        overall: Against the teacher's overall.
        sources: Source by source.
    """

    cross_fitted: bool = False
    labels: int = 0
    labels_unpredicted: int = 0
    doubly_judged: int = 0
    resamples: int = 0
    cells: CellCounts = field(default_factory=CellCounts)
    mean_rho_unmasked: Figure = _UNKNOWN
    mean_rho_unmasked_low: Figure = _UNKNOWN
    mean_rho_unmasked_high: Figure = _UNKNOWN
    mean_rho_of_ceiling: RhoOfCeiling = RhoOfCeiling()
    mean_ceiling: Figure = _UNKNOWN
    mean: MeanFigures = MeanFigures()
    slots: list[SlotFigures] = field(default_factory=list)
    overall: OverallFigures = OverallFigures()
    sources: dict[str, SourceFigures] = field(default_factory=dict)
