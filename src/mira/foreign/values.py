"""What a foreign score may be: numbers in their range; everything else is missing, with a reason."""

from collections.abc import Sequence
from enum import StrEnum
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from mira.arrays import Floats
from mira.config.scores import ForeignSettings

__all__ = ["REASONS", "Codes", "Missing", "check_column", "check_numbers", "check_objects", "ids_of", "scaled"]

Codes = npt.NDArray[np.uint8]
"""Why values are missing: 0 where they are not, else the place of the reason in `REASONS`, from 1."""

_EXACT = 2**53  # from here on, floating-point numbers stand for several whole numbers


class Missing(StrEnum):
    """Why a record has no foreign score. The list is closed."""

    NO_ROW = "no_row"
    NULL = "null"
    NOT_FINITE = "not_finite"
    OUT_OF_RANGE = "out_of_range"
    NOT_A_NUMBER = "not_a_number"
    CONFLICTING = "conflicting"


REASONS = tuple(Missing)
"""Reasons in the order of their codes, which begin at 1."""


def code_of(reason: Missing) -> int:
    """Return the code of a reason."""
    return REASONS.index(reason) + 1


def check_numbers(values: Floats, null: npt.NDArray[np.bool_], settings: ForeignSettings) -> tuple[Floats, Codes]:
    """Return values, NaN if missing, and why they are missing.

    Args:
        values: Numbers.
        null: Where a value is missing.
        settings: The score's range.
    """
    codes = np.zeros(len(values), np.uint8)
    if settings.range:
        with np.errstate(invalid="ignore"):
            outside = (values < settings.range[0]) | (values > settings.range[1])
        codes[outside] = code_of(Missing.OUT_OF_RANGE)
    codes[~np.isfinite(values)] = code_of(Missing.NOT_FINITE)
    codes[null] = code_of(Missing.NULL)
    return np.where(codes > 0, np.nan, values), codes


def check_column(column: pa.Array, settings: ForeignSettings) -> tuple[Floats, Codes]:
    """Return the values of a column of numbers or booleans (true is 1, false 0), NaN if missing, and why."""
    null = column.is_null().to_numpy(zero_copy_only=False)
    plain = column.cast(pa.uint8()) if pa.types.is_boolean(column.type) else column
    numbers = np.asarray(plain.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False))
    return check_numbers(numbers, null, settings)


def check_objects(found: Sequence[Any], settings: ForeignSettings) -> tuple[Floats, Codes]:
    """Return the numbers among values as JSON gives them, NaN if missing, and why. Text is never read as a number."""
    values, null = np.full(len(found), np.nan), np.zeros(len(found), np.bool_)
    strange = np.zeros(len(found), np.bool_)
    for at, value in enumerate(found):
        if value is None:
            null[at] = True
        elif isinstance(value, bool | int | float):
            values[at] = _number(value)
        else:
            strange[at] = True
    numbers, codes = check_numbers(values, null, settings)
    codes[strange] = code_of(Missing.NOT_A_NUMBER)
    return numbers, codes


def _number(value: float) -> float:
    try:
        return float(value)
    except OverflowError:  # a whole number of more than 308 digits
        return float("inf")


def ids_of(column: pa.Array) -> pa.Array | None:
    """Return a column of ids as strings, as those of records are; "" as null. None if it cannot hold ids.

    Whole numbers become their digits, also where they are stored as floating-point numbers up to 2^53, as tables do
    that have a missing one.
    """
    kind = column.type
    if pa.types.is_dictionary(kind):
        column, kind = column.cast(kind.value_type), kind.value_type
    if pa.types.is_floating(kind):
        numbers = column.drop_null().to_numpy(zero_copy_only=False)
        if not np.all((np.floor(numbers) == numbers) & (np.abs(numbers) < _EXACT)):
            return None
        column = column.cast(pa.int64())
    elif not (pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_integer(kind)):
        return None
    texts = column.cast(pa.string())
    return pc.if_else(pc.equal(texts, ""), None, texts)


def scaled(values: Floats, low: float, high: float, better: str) -> npt.NDArray[np.float32]:
    """Return values on the scale of slots: 0 is the worst of the range, 10 the best (ours)."""
    shares = (np.asarray(values, dtype=np.float64) - low) / (high - low)
    return np.asarray(10 * (1 - shares if better == "lower" else shares), dtype=np.float32)
