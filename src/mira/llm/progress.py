"""How judging goes, live: a panel on a terminal, plain lines elsewhere."""

from collections.abc import Iterator
from contextlib import contextmanager

from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from mira.llm.stats import Stats
from mira.progress import Log, Task, Terminal, per_time

__all__ = ["render", "watch"]


@contextmanager
def watch(stats: Stats | None, log: Log, description: str, total: int | None = None) -> Iterator[Task]:
    """Show how a judge's work is doing while it goes on.

    Args:
        stats: The judge's counts (`Judge.stats`, `Client.stats`); `stats.total` is set to `total`, for the projected
            cost. None for a judge that asks no endpoint: the progress is then a plain task's.
        log: Where it is shown.
        description: What is done.
        total: Records there are.

    Yields:
        A task to advance by one for every record.
    """
    if stats is None:
        with log.task(description, total) as task:
            yield task
        return
    stats.total = total if stats.total is None else stats.total
    if not isinstance(log, Terminal) or not log.console.is_terminal or log.console.is_dumb_terminal:
        with log.task(description, total) as task:
            yield _Line(task, stats)
        return
    shown = _Shown(total)
    live = Live(
        get_renderable=lambda: render(stats, description, shown.done, total), console=log.console, transient=True,
        refresh_per_second=4,
    )  # fmt: skip
    with live:
        yield shown


def render(stats: Stats, description: str, done: int, total: int | None) -> Panel:
    """Return the panel: progress, rates, cost, retries, and failures by reason and source."""
    rate, tokens_in, tokens_out = stats.rates()
    left = f", {(total - done) / rate:,.0f} s left" if total and rate and total > done else ""
    projected = stats.projected_cost
    rows = [
        ("records", f"{done:,} of {total:,}" if total else f"{done:,}", f"{per_time(rate, ' replies')}{left}"),
        (
            "tokens",
            f"{stats.tokens_in:,} in, {stats.tokens_out:,} out",
            f"{tokens_in:,.0f} / {tokens_out:,.0f} a second",
        ),
        ("requests", f"{stats.requests:,}", f"{stats.concurrency} in flight, {stats.limit} allowed"),
    ]
    if stats.from_journal:
        rows.append(("journal", f"{stats.from_journal:,} replies reused", ""))
    if stats.cost:
        rows.append(("cost", f"{stats.cost:,.4f}", f"about {projected:,.2f} in the end" if projected else ""))
    if stats.waits:
        rows.append(("sent again", ", ".join(f"{what}: {n:,}" for what, n in stats.waits.most_common()), ""))
    for source, counts in list(stats.failures.items()):
        rows.append(("unanswered", source, ", ".join(f"{why}: {n:,}" for why, n in counts.most_common())))
    facts = Table.grid(padding=(0, 2))
    for row in rows:
        facts.add_row(*map(Text, row))
    bar = ProgressBar(total=total or 1, completed=done if total else 0, pulse=not total)
    whole = Table.grid(expand=True)
    whole.add_row(bar)
    whole.add_row(facts)
    return Panel(whole, title=Text(description), title_align="left")


class _Shown:
    def __init__(self, total: int | None) -> None:
        self.done, self.total = 0, total

    def advance(self, amount: int = 1) -> None:
        self.done += amount

    def detail(self, text: str) -> None:
        """The panel shows more than a text."""


class _Line:
    def __init__(self, task: Task, stats: Stats) -> None:
        self._task, self._stats = task, stats

    def advance(self, amount: int = 1) -> None:
        self._task.detail(self._stats.line())
        self._task.advance(amount)

    def detail(self, text: str) -> None:
        self._task.detail(text)
