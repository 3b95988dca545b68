"""How a number of tokens is written in the settings."""

import re
from fractions import Fraction

from mira.errors import ConfigError

__all__ = ["parse_tokens"]

_UNITS = {"": 1, "k": 10**3, "m": 10**6, "b": 10**9, "t": 10**12}
_COUNT = re.compile(r"\s*([0-9][0-9_,]*(?:\.[0-9]+)?|\.[0-9]+)\s*([kmbt]?)\s*", re.IGNORECASE)
_PERCENT = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?)\s*%\s*")


def parse_tokens(text: str | int, total: int, where: str) -> int:
    """Return how many tokens a setting means.

    Args:
        text: A share ("50%", of `total`) or a count ("25B", "300M", "1.5k", 1000000).
        total: Tokens that a share is of.
        where: The setting's name, for the error.

    Returns:
        Tokens, rounded down; a count may exceed `total`.

    Raises:
        ConfigError: The setting is neither, is negative, or is a share above 100%.
    """
    if isinstance(text, int):
        if text >= 0:
            return text
    elif match := _PERCENT.fullmatch(text):
        share = Fraction(match[1]) / 100
        if share <= 1:
            return int(share * total)
    elif match := _COUNT.fullmatch(text):
        count = Fraction(match[1].replace(",", "").replace("_", "")) * _UNITS[match[2].lower()]
        if count == 0 or count >= 1:
            return int(count)
        raise ConfigError(f"{where}: {text!r} is less than one token", f'For a share, write "{float(count):.0%}".')
    raise ConfigError(f"{where}: {text!r} is no number of tokens", 'Write a share ("50%") or a count ("25B", "300M").')
