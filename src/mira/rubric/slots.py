"""Slots: A1, A2, ... in rubric order. Nothing else in mira takes their names apart."""

import re
from collections.abc import Iterable

__all__ = ["is_slot", "slot_columns", "slot_index", "slot_name", "slot_names"]

_SLOT = re.compile(r"A[1-9][0-9]*")


def is_slot(name: str) -> bool:
    """Return whether a name is that of a rubric's slot."""
    return _SLOT.fullmatch(name) is not None


def slot_name(index: int) -> str:
    """Return the name of a slot by its position, counted from 0: 0 -> "A1"."""
    return f"A{index + 1}"


def slot_index(name: str) -> int:
    """Return a slot's position, counted from 0: "A1" -> 0."""
    return int(name[1:]) - 1


def slot_names(n_slots: int) -> list[str]:
    """Return the names of the first `n_slots` slots."""
    return [slot_name(index) for index in range(n_slots)]


def slot_columns(names: Iterable[str]) -> list[str]:
    """Return those of a table's column names that are slots, in rubric order."""
    return sorted((name for name in names if is_slot(name)), key=slot_index)
