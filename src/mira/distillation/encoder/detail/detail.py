"""A text's syntax tree, its prose, its head against its tail, and how an agent's trace ends."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from mira.corpus.record import Record
from mira.distillation.encoder.detail.outcome import OUTCOME, outcome
from mira.distillation.encoder.detail.prose import PROSE, prose
from mira.distillation.encoder.detail.syntax import SYNTAX, syntax
from mira.distillation.encoder.structure import RATES, READ_CHARS, rates
from mira.family import FamilyName

__all__ = ["detail", "detail_names"]

_TEXT: tuple[str, ...] = (
    *(f"syntax_{name}" for name in SYNTAX),
    *(f"prose_{name}" for name in PROSE),
    *(f"tail_{name}" for name in RATES),
)


def detail_names(family: str) -> tuple[str, ...]:
    """Return the names of a family's features, in order."""
    return (*_TEXT, *OUTCOME) if family == FamilyName.AGENT else _TEXT


def detail(records: Sequence[Record]) -> npt.NDArray[np.float64]:
    """Return the features of records of one family, (len(records), features of the family), all finite.

    Of long texts, head and tail are read.
    """
    if not records:
        return np.zeros((0, 0))
    rows = [_row(record) for record in records]
    return np.array(rows, dtype=np.float64).reshape(len(rows), len(detail_names(records[0].family)))


def _row(record: Record) -> list[float]:
    text = record.text
    read = text if len(text) <= READ_CHARS else text[: READ_CHARS // 2] + "\n" + text[-READ_CHARS // 2 :]
    middle = len(read) // 2
    found = [*syntax(text), *prose(read), *(rates(read[middle:]) - rates(read[:middle]))]
    return [*found, *outcome(record.parts)] if record.family == FamilyName.AGENT else found
