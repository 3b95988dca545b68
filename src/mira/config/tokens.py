"""Numbers of tokens as the settings write them: a share ("50%") or a count ("25B")."""

import re
from dataclasses import dataclass
from fractions import Fraction
from typing import Annotated, Any

from pydantic import PlainSerializer, PlainValidator

__all__ = ["Tokens", "TokensField"]

_UNITS = {"": 1, "k": 10**3, "m": 10**6, "b": 10**9, "t": 10**12}
_COUNT = re.compile(r"\s*([0-9][0-9_,]*(?:\.[0-9]+)?|\.[0-9]+)\s*([kmbt]?)\s*", re.IGNORECASE)
_PERCENT = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?)\s*%\s*")
_FORMS = 'Write a share ("50%") or a count ("25B", "300M", 1000000).'


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
        """Read a share ("50%") or a count ("25B", "300M", "1.5k", 1000000).

        Raises:
            ValueError: It is neither, is negative, is less than one token, or is a share above 100%.
        """
        if isinstance(written, Tokens):
            return written
        if isinstance(written, bool) or not isinstance(written, int | str):
            raise ValueError("expected a share of the tokens or a count of them: 50%, 25B or 1000000")
        if isinstance(written, int):
            if written >= 0:
                return cls(written, count=written)
        elif match := _PERCENT.fullmatch(written):
            share = Fraction(match[1]) / 100
            if share <= 1:
                return cls(written, share=share)
        elif match := _COUNT.fullmatch(written):
            count = Fraction(match[1].replace(",", "").replace("_", "")) * _UNITS[match[2].lower()]
            if count == 0 or count >= 1:
                return cls(written, count=int(count))
            raise ValueError(f'{written!r} is less than one token. For a share, write "{float(count):.0%}".')
        raise ValueError(f"{written!r} is not a number of tokens. {_FORMS}")

    def of(self, total: int) -> int:
        """Return the tokens it means, rounded down; a share is of `total`, a count may exceed it."""
        return self.count if self.share is None else int(self.share * total)

    def __str__(self) -> str:
        return str(self.written)


TokensField = Annotated[
    Tokens,
    PlainValidator(Tokens.parse, json_schema_input_type=str | int),
    PlainSerializer(lambda tokens: tokens.written, return_type=str | int),
]
"""The type of a setting that holds a number of tokens."""
