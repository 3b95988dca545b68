"""Features of what a record's parts do to each other, by family; text has one part, and none of them."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from mira.corpus.record import Record
from mira.distillation.encoder.pair_features import PAIR, pair_features
from mira.distillation.encoder.trace_features import TRACE, trace_features
from mira.family import FamilyName

__all__ = ["PART_FEATURES", "part_features"]

PART_FEATURES: dict[FamilyName, tuple[str, ...]] = {
    FamilyName.TEXT: (),
    FamilyName.QA: PAIR,
    FamilyName.QA_WITH_THINK: (*PAIR, *(f"thinking_{name}" for name in PAIR)),
    FamilyName.AGENT: TRACE,
}
"""Names of a family's features, in order."""


def part_features(records: Sequence[Record]) -> npt.NDArray[np.float64]:
    """Return the features of records of one family, (len(records), len(PART_FEATURES[family])), all finite."""
    width = len(PART_FEATURES[records[0].family]) if records else 0
    return np.array([_row(record) for record in records], dtype=np.float64).reshape(len(records), width)


def _row(record: Record) -> list[float]:
    if record.family is FamilyName.TEXT:
        return []
    if record.family is FamilyName.AGENT:
        return trace_features(record.parts)
    texts = {part.label: part.text for part in record.parts}
    row = pair_features(texts["Question"], texts["Answer"])
    if record.family is FamilyName.QA_WITH_THINK:  # the thinking stands to the answer as a question does
        row += pair_features(texts["Thinking"], texts["Answer"])
    return row
