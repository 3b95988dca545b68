"""The base of every section of the settings."""

from collections.abc import Callable
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from mira import plugins

__all__ = ["HEADER", "Fraction", "Settings", "known_names"]


class Settings(BaseModel):
    """Base of every section: unknown keys are errors, values do not change."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False)


HEADER = r"^[A-Za-z0-9!#$%&'*+.^_`|~-]+$"
"""What the name of an HTTP header looks like."""

Fraction = Annotated[float, Field(ge=0, le=1)]


def known_names(kind: str) -> Callable[[str], str]:
    """Return a check that a name is built in, or added by an installed package."""

    def check(name: str) -> str:
        if not plugins.is_known(kind, name):
            raise ValueError(f"input should be {', '.join(map(repr, plugins.names(kind)))}")
        return name

    return check
