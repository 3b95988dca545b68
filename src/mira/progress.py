"""Progress of stages: a live bar on a terminal, plain lines elsewhere, nothing in a library call."""

import re
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

__all__ = ["QUIET", "Log", "Quiet", "Task", "Terminal", "per_time", "printable"]

# Control characters but tab and line feed; what turns the order of letters or breaks lines; halves of characters
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def printable(text: str) -> str:
    """Return text that a terminal shows and does not obey: a corpus's ids and field names may hold escape sequences."""
    return _CONTROL.sub("\N{REPLACEMENT CHARACTER}", text)


def per_time(rate: float, what: str = "") -> str:
    """Return a rate for people: a second, or where that is a small number a minute or an hour.

    Args:
        rate: Per second.
        what: What is counted, with a space before it.
    """
    if not rate or rate >= 10:
        return f"{rate:,.0f}{what}/s"
    if rate >= 1:
        return f"{rate:.1f}{what}/s"
    return f"{60 * rate:,.0f}{what}/min" if 60 * rate >= 1 else f"{3600 * rate:,.0f}{what}/h"


class Task(Protocol):
    """A running piece of work."""

    def advance(self, amount: int = 1) -> None:
        """Report that `amount` more units are done."""
        ...

    def detail(self, text: str) -> None:
        """Show a short text beside the bar."""
        ...


class Log(Protocol):
    """What stages report to."""

    def note(self, text: str) -> None:
        """Print one line that stays."""
        ...

    def task(self, description: str, total: int | None = None) -> AbstractContextManager[Task]:
        """Open a piece of work of `total` units."""
        ...


class Quiet:
    """Reports nothing: for library calls and tests."""

    def note(self, text: str) -> None:
        """Ignore `text`."""

    @contextmanager
    def task(self, description: str, total: int | None = None) -> Iterator[Task]:
        """Open a piece of work that reports nothing."""
        yield QUIET


class _QuietTask:
    def advance(self, amount: int = 1) -> None: ...

    def detail(self, text: str) -> None: ...


QUIET: Task = _QuietTask()


class Terminal:
    """A bar with ETA on a terminal; elsewhere a plain line at most every ten seconds."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(stderr=True)

    @property
    def console(self) -> Console:
        """Where it prints."""
        return self._console

    def note(self, text: str) -> None:
        """Print one line."""
        self._console.print(printable(text), markup=False, highlight=False, soft_wrap=True)

    @contextmanager
    def task(self, description: str, total: int | None = None) -> Iterator[Task]:
        """Open a piece of work and show its bar."""
        if not self._console.is_terminal:
            yield _LineTask(self, description, total)
            return
        columns = (TextColumn("  {task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, TextColumn("{task.fields[detail]}"), console=self._console, transient=True) as bars:
            yield _BarTask(bars, bars.add_task(description, total=total, detail=""))


class _BarTask:
    def __init__(self, bars: Progress, task: TaskID) -> None:
        self._bars, self._task = bars, task

    def advance(self, amount: int = 1) -> None:
        self._bars.advance(self._task, amount)

    def detail(self, text: str) -> None:
        self._bars.update(self._task, detail=text)


class _LineTask:
    def __init__(self, log: Terminal, description: str, total: int | None) -> None:
        self._log, self._description, self._total = log, description, total
        self._done, self._detail = 0, ""
        self._started = self._said = time.monotonic()

    def advance(self, amount: int = 1) -> None:
        self._done += amount
        now = time.monotonic()
        if now - self._said < 10:
            return
        self._said = now
        rate = self._done / (now - self._started)
        to_go = self._total - self._done if self._total else 0
        left = f", {to_go / rate:,.0f} s left" if to_go > 0 and rate else ""
        total = f"{self._total:,}" if self._total else "?"
        line = f"  {self._description}: {self._done:,}/{total} ({per_time(rate)}{left}) {self._detail}"
        self._log.note(line.rstrip())

    def detail(self, text: str) -> None:
        self._detail = text
