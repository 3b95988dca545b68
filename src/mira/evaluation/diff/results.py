"""What a comparison of two runs finds: what `mira diff` writes as JSON. A is the first run, B the second."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Anchors", "DiffResult", "Flipped", "GroupDiff", "MaskChange", "ScopeDiff", "SlotDiff", "SourceDiff"]


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupDiff:
    """One group's rubric, labels and student.

    Attributes:
        sources_a: Its sources in A; None if A does not have the group.
        sources_b: The same of B.
        rubric_changed: Whether the rubric's content changed; None if one run has none.
        slots: Slots whose dimension has another name: "A3: Depth -> Clarity".
        labelled_a: Judged records in A.
        labelled_b: The same of B.
        labelled_both: Records judged in both.
        labels_changed: Those of them with another score on any slot, or another overall score.
        student_changed: Whether the student's weights changed; None if one run has none.
    """

    sources_a: tuple[str, ...] | None = None
    sources_b: tuple[str, ...] | None = None
    rubric_changed: bool | None = None
    slots: tuple[str, ...] = ()
    labelled_a: int = 0
    labelled_b: int = 0
    labelled_both: int = 0
    labels_changed: int = 0
    student_changed: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MaskChange:
    """A cell that is masked in one run alone."""

    source: str
    slot: str
    masked_in: str
    why: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScopeDiff:
    """One threshold: None where a run does not have the scope, or keeps all of it."""

    threshold_a: float | None = None
    threshold_b: float | None = None
    tokens_kept_a: int | None = None
    tokens_kept_b: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SlotDiff:
    """One slot of one source.

    Attributes:
        rho: Spearman's rho of both runs' scores, over a sample of the records of both.
        shift: Mean score in B less that in A.
        used_a: Whether A's quality takes it in.
        used_b: Whether B's does.
        decided: Flipped records that this slot moved most.
        contribution: Mean over flipped records of what it adds to the change of quality.
    """

    rho: float | None = None
    shift: float | None = None
    used_a: bool = False
    used_b: bool = False
    decided: int = 0
    contribution: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceDiff:
    """One source. both + only_a are A's valid records, both + only_b are B's.

    Attributes:
        both: Records in both runs.
        only_a: Records in A alone.
        only_b: Records in B alone.
        kept_a: Records that A keeps.
        kept_b: Records that B keeps.
        kept_both: Records that both keep. kept_a = kept_both + lost + kept_only_a.
        gained: Records of both that B alone keeps. kept_b = kept_both + gained + kept_only_b.
        lost: Records of both that A alone keeps.
        kept_only_a: Kept records that B does not have.
        kept_only_b: Kept records that A does not have.
        tokens_gained: Tokens of `gained`.
        tokens_lost: Tokens of `lost`.
        rho: Spearman's rho of both qualities, over a sample.
        by_threshold: Flipped records that the threshold moved most.
        by_slots: Those that a slot moved most.
        by_rest: Those that something else moved most: foreign scores, or another way to make quality of slots.
        by_reason: Reason without a quality, or without a threshold -> flipped records.
        slots: Slot -> its figures.
    """

    both: int = 0
    only_a: int = 0
    only_b: int = 0
    kept_a: int = 0
    kept_b: int = 0
    kept_both: int = 0
    gained: int = 0
    lost: int = 0
    kept_only_a: int = 0
    kept_only_b: int = 0
    tokens_gained: int = 0
    tokens_lost: int = 0
    rho: float | None = None
    by_threshold: int = 0
    by_slots: int = 0
    by_rest: int = 0
    by_reason: Mapping[str, int] = field(default_factory=dict)
    slots: Mapping[str, SlotDiff] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Flipped:
    """One record that flipped.

    Attributes:
        source: Its source.
        id: Its id.
        kept_in: "A" or "B".
        quality_a: Quality in A.
        quality_b: Quality in B.
        why: What moved it most: a slot, "threshold", "rest", or a reason.
        by: How far that moved it against the threshold; None if it is a reason.
    """

    source: str
    id: str
    kept_in: str
    quality_a: float | None
    quality_b: float | None
    why: str
    by: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Anchors:
    """Records that the teachers of both runs judged: a fixed set to measure both by.

    Attributes:
        records: How many.
        teachers: Spearman's rho of both overall scores, within sources.
        teacher_shift: Mean overall score in B less that in A.
        student_a: Rho of A's quality with A's overall score, within sources; by models that did not see the labels.
        student_b: The same of B.
        kept_a: Share of these records that A keeps.
        kept_b: The same of B.
        kept_both: Share that both keep, or both do not.
    """

    records: int = 0
    teachers: float | None = None
    teacher_shift: float | None = None
    student_a: float | None = None
    student_b: float | None = None
    kept_a: float | None = None
    kept_b: float | None = None
    kept_both: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DiffResult:
    """What changed between two runs.

    Attributes:
        a: Folder of the first run.
        b: Folder of the second.
        settings: Stage -> setting -> [value in A, value in B]; null where a run has the default.
        files: Stage -> files outside the run folder whose content differs.
        stages: Stages whose output differs.
        groups: Group -> its rubric, labels and student.
        masks: Cells that are masked in one run alone.
        scopes: Scope -> its thresholds.
        sources: Source -> its records.
        flips: Records that flipped furthest, a few per source.
        anchors: Records labelled in both.
        notes: What could not be compared, and why.
        summary: The findings in words.
    """

    a: str
    b: str
    settings: Mapping[str, Mapping[str, tuple[Any, Any]]] = field(default_factory=dict)
    files: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    stages: tuple[str, ...] = ()
    groups: Mapping[str, GroupDiff] = field(default_factory=dict)
    masks: tuple[MaskChange, ...] = ()
    scopes: Mapping[str, ScopeDiff] = field(default_factory=dict)
    sources: Mapping[str, SourceDiff] = field(default_factory=dict)
    flips: tuple[Flipped, ...] = ()
    anchors: Anchors | None = None
    notes: tuple[str, ...] = ()
    summary: tuple[str, ...] = ()
