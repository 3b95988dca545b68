"""Features of what a record's parts do to each other, by family; text has one part, and none of them."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from mira.corpus.families import PartFeatures, find_family
from mira.corpus.record import Part, Record
from mira.distillation.encoder.pair_features import PAIR, pair_features
from mira.distillation.encoder.trace_features import TRACE, trace_features
from mira.errors import ConfigError

__all__ = ["AGENT", "QA", "QA_WITH_THINK", "part_features"]


def _pair(parts: Sequence[Part]) -> list[float]:
    texts = {part.label: part.text for part in parts}
    return pair_features(texts["Question"], texts["Answer"])


def _pair_with_thinking(parts: Sequence[Part]) -> list[float]:
    texts = {part.label: part.text for part in parts}
    # the thinking stands to the answer as a question does
    return _pair(parts) + pair_features(texts["Thinking"], texts["Answer"])


QA = PartFeatures(PAIR, _pair)
QA_WITH_THINK = PartFeatures((*PAIR, *(f"thinking_{name}" for name in PAIR)), _pair_with_thinking)
AGENT = PartFeatures(TRACE, trace_features)


def part_features(records: Sequence[Record]) -> npt.NDArray[np.float64]:
    """Return the features of records of one family, (len(records), features of the family), all finite.

    Raises:
        ConfigError: A package's family gives other numbers than it names.
    """
    if not records:
        return np.zeros((0, 0))
    own = find_family(records[0].family).part_features()
    rows = [own.measure(record.parts) for record in records]
    wrong = next((row for row in rows if len(row) != len(own.names) or not np.isfinite(row).all()), None)
    if wrong is not None:
        raise ConfigError(
            f"family {records[0].family}: it names {len(own.names)} features, each a finite number, but a record has "
            f"{len(wrong)}: {list(wrong)[:5]}",
            "This is a fault of the package that adds the family.",
        )
    return np.array(rows, dtype=np.float64).reshape(len(records), len(own.names))
