"""Numbers of tokens as the settings write them: a share ("50%") or a count ("25B")."""

import math
import re
from dataclasses import dataclass
from fractions import Fraction
from typing import Annotated, Any

from pydantic import AfterValidator, PlainSerializer, PlainValidator

from mira.config.base import Kind

__all__ = ["BudgetField", "Tokens", "TokensField"]

_UNITS = {"": 1, "k": 10**3, "m": 10**6, "b": 10**9, "t": 10**12}
_COUNT = re.compile(r"\s*([0-9][0-9_,]*(?:\.[0-9]*)?|\.[0-9]+)\s*(?:e\+?([0-9]{1,2})|([kmbt])?)\s*", re.IGNORECASE)
_PERCENT = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?|\.[0-9]+)\s*%\s*")
_FORMS = 'Write a share ("50%") or a count ("25B", "300M", 1e9, 1000000).'
_MOST = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Tokens:
    """A number of tokens, parsed once when the settings are read.

    Attributes:
        written: As it was written.
        share: Of all tokens, 0 to 1; None for a count.
        count: Tokens; 0 for a share.
    """

    written: str | int
    share: Fraction | None = None
    count: int = 0

    @classmethod
    def parse(cls, written: Any) -> "Tokens":
        """Read a share ("50%") or a count ("25B", "300M", "1.5k", 1e9, 1000000).

        Raises:
            ValueError: It is neither, is negative, is less than one token, is a share above 100%, or is too large.
        """
        if isinstance(written, Tokens):
            return written
        if isinstance(written, bool) or not isinstance(written, int | float | str):
            raise ValueError("expected a share of the tokens or a count of them: 50%, 25B or 1000000")
        if isinstance(written, str) and (match := _PERCENT.fullmatch(written)):
            share = Fraction(match[1]) / 100
            if share > 1:
                raise ValueError(f"{written!r} is more than all tokens. A share is from 0% to 100%.")
            return cls(written, share=share)
        count = _count(written)
        if count is None or count < 0:
            raise ValueError(f"{written!r} is not a number of tokens. {_FORMS}")
        if 0 < count < 1:
            raise ValueError(f'{written!r} is less than one token. For a share, write "{float(100 * count):g}%".')
        if count > _MOST:
            raise ValueError(f"{written!r} is too large: no corpus has so many tokens.")
        return cls(written if isinstance(written, str) else int(count), count=int(count))

    def of(self, total: int) -> int:
        """Return the tokens it means, rounded down; a share is of `total`, a count may exceed it."""
        return self.count if self.share is None else int(self.share * total)

    def __str__(self) -> str:
        return str(self.written)


def _count(written: str | int | float) -> Fraction | None:
    if not isinstance(written, str):
        return Fraction(written) if math.isfinite(written) else None
    match = _COUNT.fullmatch(written)
    if match is None:
        return None
    factor = 10 ** int(match[2]) if match[2] else _UNITS[(match[3] or "").lower()]
    return Fraction(match[1].replace(",", "").replace("_", "").removesuffix(".")) * factor


TokensField = Annotated[
    Tokens,
    PlainValidator(Tokens.parse, json_schema_input_type=str | int),
    PlainSerializer(lambda tokens: tokens.written, return_type=str | int),
    Kind('tokens: a share such as "50%", or a count such as 25B, 300M, 1e9 or 1000000'),
]
"""The type of a setting that holds a number of tokens."""


def _some(tokens: Tokens) -> Tokens:
    if not (tokens.count or tokens.share):
        raise ValueError(f"{tokens} keeps nothing. {_FORMS}")
    return tokens


BudgetField = Annotated[TokensField, AfterValidator(_some)]
"""The type of a budget: a number of tokens above 0."""
