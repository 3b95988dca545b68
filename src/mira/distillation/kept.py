"""Students that would come out the same are kept: the key that they were trained under, beside their folder."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mira.distillation.bundle import SUMS, verify
from mira.errors import InputError
from mira.run_folder.files import hash_file, read_sealed, remove_others, write_sealed
from mira.run_folder.paths import RunFolder

__all__ = ["keep_student", "kept_student", "remove_other_states", "states"]


def kept_student(run: RunFolder, group: str, key: str) -> dict[str, Any] | None:
    """Return the summary of a student that is there, whole and of this key; else None."""
    folder, known = run.student(group), read_sealed(_state(run, group))
    try:
        if known.get("key") != key or known["bundle"] != hash_file(folder / SUMS):
            return None
        verify(folder)
        summary: dict[str, Any] = known["summary"]
        return summary
    except (OSError, ValueError, KeyError, TypeError, InputError):
        return None


def keep_student(run: RunFolder, group: str, key: str, summary: dict[str, Any]) -> None:
    """Note what a student was trained under."""
    bundle = hash_file(run.student(group) / SUMS)
    write_sealed(_state(run, group), {"key": key, "bundle": bundle, "summary": summary})


def remove_other_states(run: RunFolder, groups: Sequence[str]) -> None:
    """Remove the notes on students of other groups."""
    remove_others(states(run), {_state(run, group) for group in groups})


def states(run: RunFolder) -> list[Path]:
    """Return all notes."""
    return list((run.path / "students").glob(".*.json"))


def _state(run: RunFolder, group: str) -> Path:
    return run.path / "students" / f".{group}.json"
