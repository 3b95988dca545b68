"""A family: a record format, described by one object that every room reads.

mira's own families and those of installed packages are found by name alike (`mira.plugins.FAMILIES`).
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mira import plugins
from mira.corpus.record import Part, Record, Rejection
from mira.corpus.values import FieldProblem, kind_of, look_up
from mira.errors import ConfigError
from mira.family import FamilyName

__all__ = ["Family", "Fields", "PartFeatures", "Spoil", "find_family", "split_group"]

_NAME = re.compile(r"[a-z][a-z0-9_]*")

Spoil = Callable[[Record, np.random.Generator, Record | None], Sequence[Part] | None]
"""Spoils a record: (record, chance, another record of the source) -> its spoiled parts, or None where it cannot be."""


@dataclass(slots=True)  # not frozen: one is made per record
class Fields:
    """One object of a source, read by mira's names of its fields.

    Attributes:
        value: The parsed object.
        names: mira's name of a field -> the user's, where the source maps it.
        left_out: Takes the type of each content part that is shown as a placeholder only.
    """

    value: Mapping[str, Any]
    names: Mapping[str, str]
    left_out: list[str] = field(default_factory=list)

    def name(self, field: str) -> str:
        """Return what the user calls a field."""
        return self.names.get(field, field)

    def get(self, field: str) -> Any:
        """Return what a field holds, of any type; None where it is missing."""
        return look_up(self.value, self.name(field))

    def text(self, field: str) -> str:
        """Return a field's text.

        Raises:
            FieldProblem: The field is missing, blank or not a string: the record is rejected with that reason.
        """
        name = self.names.get(field, field)
        found = look_up(self.value, name)
        if type(found) is not str:
            if found is None:
                raise FieldProblem(Rejection.MISSING_FIELD, name, "is missing")
            if isinstance(found, bytes):
                found = _decode(found, name)
            else:
                raise FieldProblem(Rejection.BAD_FIELD, name, f"is {kind_of(found)}, not a string")
        if not found or found.isspace():
            raise FieldProblem(Rejection.EMPTY_TEXT, name, "is blank")
        return found


def _decode(data: bytes, name: str) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise FieldProblem(Rejection.INVALID_UTF8, name, f"is not UTF-8 at byte {error.start}") from None


@dataclass(frozen=True, slots=True)
class PartFeatures:
    """What the encoder reads of a record's parts besides their text.

    Attributes:
        names: Names of the numbers, in order. A bundle holds them: rename one whose meaning changes.
        measure: Returns the numbers of a record's parts, as many as there are names, all finite.
    """

    names: tuple[str, ...]
    measure: Callable[[Sequence[Part]], Sequence[float]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """A record format.

    Attributes:
        name: What `family` in the settings says. Groups and their files begin with it.
        required: Fields that a record must have, by mira's names.
        optional: Fields that it may have, besides `id`.
        records: What prompts call the records: "a corpus of questions and answers".
        render: Returns the parts that a judge reads; never none, never all blank.
        guide: Returns a further block of the prompt of a rubric with so many slots; "" for none.
        version: Changed whenever the same fields give other parts: sources of the family are then indexed again.
        features: What the encoder reads of the parts besides their text, or "module:attribute" of that.
        faults: Name -> how to spoil a record, or "module:attribute" of that. Without any, `mira evaluate` plants the
            faults of text.
    """

    name: str
    required: tuple[str, ...]
    optional: tuple[str, ...] = ()
    records: str
    render: Callable[[Fields], tuple[Part, ...]]
    guide: Callable[[int], str] = lambda _n: ""
    version: str = ""
    features: PartFeatures | str = PartFeatures((), lambda _parts: ())
    faults: Mapping[str, Spoil] | str = field(default_factory=dict)

    @property
    def fields(self) -> tuple[str, ...]:
        """All fields that a source may map."""
        return (*self.required, "id", *self.optional)

    @property
    def identity(self) -> str:
        """Name and version: what the index of a source depends on."""
        return f"{self.name} {self.version}".strip()

    def part_features(self) -> PartFeatures:
        """Return `features`, loaded."""
        found: PartFeatures = plugins.resolve(self.features)
        return found

    def own_faults(self) -> Mapping[str, Spoil]:
        """Return `faults`, loaded."""
        found: Mapping[str, Spoil] = plugins.resolve(self.faults)
        return found


def find_family(name: str) -> Family:
    """Return a family by name.

    Raises:
        ConfigError: No family has this name, or the package that adds it does not work.
    """
    found = plugins.load(plugins.FAMILIES, name)
    if not isinstance(found, Family) or found.name != name or not _NAME.fullmatch(name) or "_group_" in name:
        raise ConfigError(
            f"{plugins.FAMILIES}: '{name}' does not name a mira.Family of that name",
            "A family's name has small letters, digits and underscores, and is that of its entry point.",
        )
    return found


def split_group(group: str) -> tuple[str, str]:
    """Return family and letter of a group's name; a name of another form is all letter, of the family text."""
    family, _, letter = group.partition("_group_")
    if letter and plugins.is_known(plugins.FAMILIES, family):
        return family, letter
    bare = group.removeprefix("group_")
    return FamilyName.TEXT.value, bare or group
