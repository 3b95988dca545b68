"""The live panel, and its plain form."""

import io
import time

from rich.console import Console

from mira.llm.progress import render, watch
from mira.llm.stats import Stats
from mira.progress import Terminal


def worked() -> Stats:
    stats = Stats(200)
    stats.done = stats.requests = 100
    stats.tokens_in, stats.tokens_out, stats.cost, stats.concurrency, stats.limit = 123_456, 7_890, 1.25, 12, 64
    stats.failures["wiki"]["overflow"] = 3
    stats.waits["HTTP 429"] = 5
    return stats


def printed(stats: Stats) -> str:
    console = Console(file=io.StringIO(), width=120, force_terminal=False)
    console.print(render(stats, "label g", 97, 200))
    return console.file.getvalue()  # type: ignore[attr-defined]


def test_the_panel_shows_progress_rates_cost_and_failures_by_reason_and_source() -> None:
    text = printed(worked())
    for part in ("label g", "97 of 200", "123,456 in, 7,890 out", "12 in flight, 64 allowed", "1.2500", "about 2.50",
                 "HTTP 429: 5", "wiki", "overflow: 3"):  # fmt: skip
        assert part in text, part


def test_on_a_terminal_the_panel_is_live() -> None:
    out = io.StringIO()
    stats = worked()
    console = Console(file=out, force_terminal=True, width=120, _environ={"TERM": "xterm"})
    with watch(stats, Terminal(console), "label g", 200) as task:
        for _ in range(7):
            task.advance()
        time.sleep(0.6)  # it is drawn four times a second
    assert "7 of 200" in out.getvalue()


def test_elsewhere_lines_say_the_same() -> None:
    lines: list[str] = []

    class Task:
        def advance(self, amount: int = 1) -> None:
            lines.append(f"advance {amount}")

        def detail(self, text: str) -> None:
            lines.append(text)

    class Lines(Terminal):
        def task(self, description: str, total: int | None = None):  # type: ignore[no-untyped-def, override]
            from contextlib import nullcontext

            lines.append(f"{description} {total}")
            return nullcontext(Task())

    stats = worked()
    stats.total = None
    with watch(stats, Lines(Console(file=io.StringIO())), "label g", 200) as task:
        task.advance(2)
    assert lines[0] == "label g 200"
    assert "12/64 in flight" in lines[1]
    assert lines[2] == "advance 2"
    assert stats.total == 200
