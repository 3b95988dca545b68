"""Options that several commands share, and what they mean as settings."""

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from mira.errors import ConfigError
from mira.run_folder.stored import place_path, run_path

__all__ = [
    "NO_OVERRIDES",
    "ConfigPath",
    "Export",
    "FailureBudget",
    "Force",
    "Import",
    "MaxCost",
    "MaxRequests",
    "Overrides",
    "Place",
    "RunArgument",
    "limits",
    "names_in",
    "pair",
]

RunArgument = partial(typer.Argument, parser=run_path)
"""An argument that takes a run folder, which may be a URL: a `Path` has one slash where a URL has two."""
Place = partial(typer.Option, parser=place_path)
"""An option that takes a file or folder outside of a run, which may be a URL."""

ConfigPath = Annotated[Path, typer.Argument(metavar="CONFIG", help="The settings, e.g. mira.yaml.")]
Overrides = Annotated[
    list[str],
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Override a setting, e.g. --set select.budget=25% or --set sources.NAME.path=FILE.",
    ),
]
Force = Annotated[bool, typer.Option("--force", help="Run the stage even if it is up to date.")]
Export = Annotated[
    Path | None, Place("--export", metavar="FILE", help="Write the LLM requests to batch files; send nothing.")
]
Import = Annotated[list[Path] | None, Place("--import", metavar="FILE", help="Read batch results into the journal.")]
MaxCost = Annotated[
    float | None, typer.Option("--max-cost", help="Stop before the total cost exceeds this. Rerun to resume.")
]
MaxRequests = Annotated[
    int | None, typer.Option("--max-requests", help="Stop before sending more requests than this. Rerun to resume.")
]
FailureBudget = Annotated[
    str, typer.Option("--failure-budget", metavar="SHARE", help="Share of records that may stay unscored, e.g. 1%.")
]
NO_OVERRIDES: list[str] = []


def limits(max_cost: float | None, max_requests: int | None, failure_budget: str) -> list[str]:
    """Return limits as overrides. They hold for teacher and student alike, and for the whole command."""
    given = {"max_cost": max_cost, "max_requests": max_requests, "failure_budget": failure_budget or None}
    return [f"teacher.{name}={value}" for name, value in given.items() if value is not None]


def pair(text: str) -> tuple[str, str]:
    """Split NAME=VALUE.

    Raises:
        ConfigError: It is something else.
    """
    name, equals, value = text.partition("=")
    if not equals or not name or not value:
        raise ConfigError(f"{text}: expected NAME=VALUE", "For example: text=content")
    return name, value


def names_in(text: str) -> list[str]:
    """Split names that are separated by commas."""
    return [name.strip() for name in text.split(",") if name.strip()]
