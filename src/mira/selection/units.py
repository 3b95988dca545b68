"""Units: sources, or parts of sources, whose records share a cutoff."""

from typing import NamedTuple

__all__ = ["MOST_TOKENS", "Unit"]

MOST_TOKENS = (1 << 31) - 1
"""No record has more."""


class Unit(NamedTuple):
    """A source, one stratum of it, or its records of some lengths: its records share a cutoff.

    Attributes:
        source: The source.
        stratum: A stratum that the method names; "" for all.
        shortest: Tokens of its shortest record.
        longest: Tokens of its longest record.
    """

    source: str
    stratum: str = ""
    shortest: int = 0
    longest: int = MOST_TOKENS

    @property
    def whole(self) -> "Unit":
        """The unit of all lengths."""
        return Unit(self.source, self.stratum)

    def __str__(self) -> str:
        """Return its name in files: "source", followed by its stratum and lengths after tabs, where it has these."""
        lengths = f"{self.shortest}-{self.longest} tokens" if self != self.whole else ""
        return "\t".join(filter(None, (self.source, self.stratum, lengths)))
