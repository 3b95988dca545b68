"""Judgements of people: `labels/human/<reviewer>.jsonl`, one line per judgement, only ever added to.

A judgement is acknowledged once its line is on the disk. Of several lines on a record, the last one counts; a line
with the verdict null takes the judgement back. A line that was cut off when its process was killed was never
acknowledged: it is skipped, and the next line starts on a line of its own. Several processes may write at once.
"""

import fcntl
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from unicodedata import normalize
from urllib.parse import quote

import orjson

from mira.errors import InputError
from mira.run_folder.files import sync
from mira.run_folder.paths import RunFolder
from mira.run_folder.working_copy import upload

__all__ = [
    "DROP",
    "KEEP",
    "SKIP",
    "HumanJudgement",
    "Judgements",
    "add",
    "check_reviewer",
    "has_judgements",
    "read_all",
]

KEEP, DROP, SKIP = "keep", "drop", "skip"
_LONGEST_NAME = 200  # bytes of a file's name
_MOST = 60  # letters of a reviewer's name


@dataclass(frozen=True, slots=True)
class HumanJudgement:
    """What one reviewer says of one record.

    Attributes:
        source: The record's source.
        id: Its id.
        reviewer: Name of the reviewer.
        verdict: "keep", "drop" or "skip"; None takes an earlier judgement back.
        scores: Slot -> a score in [0, 10]; only the slots that were scored.
        note: A remark.
        at: When, in UTC: "2026-11-29T10:00:00Z".
    """

    source: str
    id: str
    reviewer: str
    verdict: str | None
    scores: Mapping[str, float] = field(default_factory=dict)
    note: str = ""
    at: str = ""

    @property
    def key(self) -> tuple[str, str]:
        """Source and id of the record."""
        return self.source, self.id

    @property
    def content(self) -> tuple[object, ...]:
        """What it says, whenever that was."""
        return self.verdict, sorted(self.scores.items()), self.note


@dataclass(frozen=True, slots=True)
class Judgements:
    """What all reviewers have said.

    Attributes:
        history: Reviewer -> their judgements in the order in which they were made.
        damaged: Lines that cannot be read: "ann.jsonl:17".
    """

    history: Mapping[str, tuple[HumanJudgement, ...]] = field(default_factory=dict)
    damaged: tuple[str, ...] = ()

    def latest(self, reviewer: str) -> dict[tuple[str, str], HumanJudgement]:
        """Return what a reviewer says now, record by record, in the order in which it was said last."""
        found: dict[tuple[str, str], HumanJudgement] = {}
        for judgement in self.history.get(reviewer, ()):
            found.pop(judgement.key, None)
            if judgement.verdict is not None:
                found[judgement.key] = judgement
        return found


def check_reviewer(name: str) -> str:
    """Return a reviewer's name without blanks around it.

    Raises:
        InputError: It is empty, too long, or holds characters that cannot be printed.
    """
    name = normalize("NFC", name).strip()
    if not name or len(name) > _MOST or not name.isprintable() or len(_file_name(name)) > _LONGEST_NAME:
        raise InputError(
            f"reviewer {name[:_MOST]!r}: this is not a name", f"Use 1 to {_MOST} letters, for example: ann"
        )
    return name


def add(run: RunFolder, judgements: Iterable[HumanJudgement]) -> None:
    """Write judgements; when this returns, they are on the disk.

    Raises:
        InputError: The name of a reviewer cannot be used.
        OSError: They cannot be written.
    """
    by_reviewer: dict[str, list[HumanJudgement]] = {}
    for judgement in judgements:
        by_reviewer.setdefault(check_reviewer(judgement.reviewer), []).append(judgement)
    for reviewer, own in by_reviewer.items():
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        lines = b"".join(orjson.dumps({**asdict(one), "at": one.at or now}) + b"\n" for one in own)
        _append(run.human / _file_name(reviewer), lines)


def read_all(run: RunFolder) -> Judgements:
    """Read the judgements of all reviewers. Lines that are not whole are left out and named."""
    history: dict[str, list[HumanJudgement]] = {}
    damaged: list[str] = []
    for path in sorted(run.human.glob("*.jsonl")):
        for number, line in _lines(path):
            judgement = _judgement(line)
            if judgement is None:
                damaged.append(f"{path.name}:{number}")
            else:
                history.setdefault(judgement.reviewer, []).append(judgement)
    return Judgements({name: tuple(own) for name, own in sorted(history.items())}, tuple(damaged))


def has_judgements(run: RunFolder) -> bool:
    """Return whether anybody has judged anything."""
    return any(path.stat().st_size for path in run.human.glob("*.jsonl"))


def _file_name(reviewer: str) -> str:
    return f"{quote(reviewer.encode(), safe=' @+').replace('.', '%2E')}.jsonl"


def _append(path: Path, lines: bytes) -> None:
    new = not path.exists()
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        size = os.fstat(descriptor).st_size
        if size and os.pread(descriptor, 1, size - 1) != b"\n":  # a line that was cut off: leave it, and begin anew
            lines = b"\n" + lines
        while lines:
            lines = lines[os.write(descriptor, lines) :]
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    upload([path])
    if new:
        for folder in (path.parent, path.parent.parent):
            sync(folder)


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if line.strip():
                yield number, line


def _judgement(line: bytes) -> HumanJudgement | None:
    try:
        value: Any = orjson.loads(line)
        found = HumanJudgement(**value)
        known = found.verdict in (KEEP, DROP, SKIP, None)
        texts = all(isinstance(text, str) for text in (found.source, found.id, found.reviewer, found.note, found.at))
        scores = {str(slot): float(score) for slot, score in found.scores.items()}
    except (ValueError, TypeError, AttributeError):
        return None
    if not (known and texts and all(0 <= score <= 10 for score in scores.values())):
        return None
    return found
