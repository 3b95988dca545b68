"""Scores that other programs gave the records: where they are, their range and direction."""

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, model_validator

from mira.config.base import Settings
from mira.config.paths import SourcePath

__all__ = ["ForeignSettings", "ScoreName"]

_SLOT = re.compile(r"[Aa][0-9]+")
_TAKEN = frozenset({"row", "id", "source", "overall", "value", "quality", "reason"})


def _free_name(name: str) -> str:
    if _SLOT.fullmatch(name) or name in _TAKEN:
        raise ValueError(f"'{name}' is a name of mira's own: choose another name for the score")
    return name


ScoreName = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_]{0,63}$"), AfterValidator(_free_name)]
"""Name of a foreign score: letters, digits and underscores."""


class ForeignSettings(Settings):
    """A score that another program gave the records."""

    path: SourcePath | list[SourcePath] = Field(default_factory=list)
    """Parquet files with one row per record, or folders, globs or fsspec URLs of them. Leave out with `field`."""
    id: str = "id"
    """Column of the files with the records' ids."""
    column: str = ""
    """Column of the files with the score. Default: the score's name."""
    source_column: str = ""
    """Column of the files with the source of each id, for ids that several sources have. Default: an id's score is
    that of all records with the id."""
    field: str = ""
    """Field of the records themselves that holds the score, e.g. meta.edu, in the place of files."""
    range: list[float] = Field(default_factory=list)
    """Lowest and highest possible score, e.g. [0, 5]. A score outside counts as missing. Needed for a slot."""
    better: Literal["higher", "lower"] = "higher"
    """Whether a higher or a lower score is better."""
    sources: list[str] = Field(default_factory=list)
    """Sources that have the score. Default: all."""
    slot: Literal["none", "tested", "trusted"] = "none"
    """Whether quality takes it in as a slot beside the rubric's, rescaled to 0-10 by its range (ours). none: no.
    tested: where it agrees with the teacher's overall score on labelled records, by the rules of `reliability`.
    trusted: in all of its sources."""
    conflicts: Literal["refuse", "missing"] = "refuse"
    """If one id has different scores in the files: refuse the files, or count the score of that id as missing."""

    @model_validator(mode="before")
    @classmethod
    def _plain_path(cls, given: Any) -> Any:
        if isinstance(given, dict) and given.get("path") == "":
            return {key: value for key, value in given.items() if key != "path"}
        return given

    @model_validator(mode="after")
    def _says_where_and_how(self) -> "ForeignSettings":
        if bool(self.path) == bool(self.field):
            raise ValueError("give path (files of scores) or field (of the records): one of the two")
        if self.field and (self.column or self.source_column):
            raise ValueError("column and source_column belong to files: with field, leave them out")
        if self.range and (len(self.range) != 2 or not self.range[0] < self.range[1]):
            raise ValueError("range is two numbers, the lower one first, e.g. [0, 5]")
        if self.slot != "none" and not self.range:
            raise ValueError(f"slot: {self.slot} needs range, e.g. range: [0, 5]: scores are rescaled to 0-10 by it")
        return self

    @property
    def paths(self) -> list[str]:
        """The files, folders, globs and URLs."""
        return [self.path] if isinstance(self.path, str) else list(self.path)

    def covers(self, source: str) -> bool:
        """Return whether a source has the score."""
        return not self.sources or source in self.sources
