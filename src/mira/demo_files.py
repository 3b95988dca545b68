"""The files that ship with the demo: the teacher's recorded judgments, its rubrics, the settings."""

from collections.abc import Collection
from importlib import resources

from mira.family import FamilyName

__all__ = ["RECORDED", "recorded", "shipped"]

RECORDED = {
    "free_judgments.jsonl": ("free_judgments.jsonl", "free_judgments2.jsonl"),
    "teacher_replies.jsonl": ("teacher_replies.jsonl", "teacher_replies2.jsonl"),
}
"""File of the demo's folder -> the shipped files that make it up: of family text, and of the others."""


def recorded(name: str, families: Collection[str] = tuple(FamilyName)) -> bytes:
    """Return the recordings of some families.

    Args:
        name: A key of `RECORDED`.
        families: The families. Those of qa and agent are one file.
    """
    of_text, of_others = RECORDED[name]
    files = [of_text] * (FamilyName.TEXT in families) + [of_others] * bool({*families} - {FamilyName.TEXT})
    return b"".join(map(shipped, files))


def shipped(name: str) -> bytes:
    """Return a file that ships with the demo."""
    return (resources.files("mira") / "demo_project" / "data" / name).read_bytes()
