"""A judgment point: one dimension that the teacher invents for a record, with its score and reason."""

from dataclasses import dataclass

__all__ = ["JudgmentPoint"]


@dataclass(frozen=True, slots=True)
class JudgmentPoint:
    """One (dimension, score, reason) that the teacher invented for a record."""

    record: str
    source: str
    dimension: str
    score: float
    reason: str
