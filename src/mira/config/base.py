"""The base of every section of the settings."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from mira import plugins

__all__ = ["HEADER", "Kind", "Settings", "Share", "known_names"]


class Settings(BaseModel):
    """Base of every section: unknown keys are errors, values do not change."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        use_attribute_docstrings=True,
        allow_inf_nan=False,
        serialize_by_alias=True,  # under earlier names (`renamed`), so that hashes of settings stay what they were
    )


HEADER = r"^[A-Za-z0-9!#$%&'*+.^_`|~-]+$"
"""What the name of an HTTP header looks like."""

_PERCENT = re.compile(r"\s*([+-]?[0-9]+(?:\.[0-9]+)?|[+-]?\.[0-9]+)\s*%\s*")


@dataclass(frozen=True, slots=True)
class Kind:
    """What the settings page calls a type of settings, with the forms that are accepted."""

    name: str


def _share(written: Any) -> Any:
    """Turn a share in percent into a number; refuse what lies outside 0 to 1 with the form that may be meant."""
    value = written
    if isinstance(written, str):
        match = _PERCENT.fullmatch(written)
        try:
            value = float(Fraction(match[1]) / 100) if match else float(written)
        except ValueError:
            raise ValueError(f'{written!r} is not a share. Write 0.5 or "50%".') from None
    if isinstance(value, bool):
        raise ValueError('true and false are not shares. Write 0.5 or "50%".')
    if isinstance(value, int | float):
        if value < 0:
            raise ValueError(f"{written} is below 0. A share is from 0 to 1, or from 0% to 100%.")
        if value > 1:
            meant = f" Did you mean {value:g}%?" if value <= 100 and "%" not in str(written) else ""
            raise ValueError(f"{written} is more than the whole. A share is from 0 to 1, or from 0% to 100%.{meant}")
    return value


Share = Annotated[float, BeforeValidator(_share), Field(ge=0, le=1), Kind('share: 0.5 or "50%"')]
"""The type of a setting that holds a share of something."""


def known_names(kind: str) -> Callable[[str], str]:
    """Return a check that a name is built in, or added by an installed package."""

    def check(name: str) -> str:
        if not plugins.is_known(kind, name):
            raise ValueError(f"input should be {', '.join(map(repr, plugins.names(kind)))}")
        return name

    return check
