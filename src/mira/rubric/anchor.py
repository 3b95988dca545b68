"""An anchor: one slot of a rubric, with the real judgments that fix its scale."""

from dataclasses import dataclass

__all__ = ["Anchor", "Reference"]


@dataclass(frozen=True, slots=True)
class Reference:
    """A real judgment point that fixes the scale.

    Attributes:
        record: Id of the judged record.
        score: 0 to 10, or None where a released file gives a reason alone.
        reason: Why the teacher gave this score.
        source: The record's source.
        dimension: The name that the teacher used.
    """

    record: str
    score: float | None
    reason: str
    source: str = ""
    dimension: str = ""


@dataclass(frozen=True, slots=True)
class Anchor:
    """One slot of a rubric. Its identity is the slot: names repeat and are never merged.

    Attributes:
        slot: "A1", "A2", ... in order of cluster size.
        name: The dimension's name, verbatim from the exemplar.
        cluster_size: Judgment points in the cluster.
        exemplar: The real point nearest the centroid.
        near_names: Frequent other names in the cluster.
        references: Calibration references, by ascending score.
        cohesion: Mean cosine of the cluster's points to its centroid, or None where unknown.
    """

    slot: str
    name: str
    cluster_size: int
    exemplar: Reference
    near_names: tuple[str, ...] = ()
    references: tuple[Reference, ...] = ()
    cohesion: float | None = None
