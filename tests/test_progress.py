"""Progress where there is no terminal: plain lines."""

import io
import time

import pytest
from rich.console import Console

from mira.progress import Terminal, per_time, printable


@pytest.mark.parametrize(
    ("rate", "said"),
    [(1234.5, "1,234/s"), (10, "10/s"), (2.5, "2.5/s"), (0.2, "12/min"), (0.002, "7/h"), (0, "0/s")],
)
def test_a_slow_rate_is_told_a_minute(rate: float, said: str) -> None:
    assert per_time(rate) == said


def _line(monkeypatch: pytest.MonkeyPatch, done: int, total: int, seconds: float) -> str:
    out = io.StringIO()
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    with Terminal(Console(file=out, width=200)).task("labelling g", total) as task:
        now[0] += seconds
        task.advance(done)
    return out.getvalue()


def test_a_line_says_how_far_how_fast_and_how_long(monkeypatch: pytest.MonkeyPatch) -> None:
    assert _line(monkeypatch, 1721, 2464, 20) == "  labelling g: 1,721/2,464 (86/s, 9 s left)\n"
    assert _line(monkeypatch, 4, 8, 20) == "  labelling g: 4/8 (12/min, 20 s left)\n"


def test_what_is_done_has_no_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    assert _line(monkeypatch, 5, 5, 25) == "  labelling g: 5/5 (12/min)\n"


@pytest.mark.parametrize("sign", ["\x1b", "\u202e", "\u2066", "\u200f", "\u061c", "\u2028", "\ud83d"])
def test_what_a_terminal_would_obey_is_not_shown(sign: str) -> None:
    assert printable(f"a{sign}b\tc\n") == "a\N{REPLACEMENT CHARACTER}b\tc\n"
    assert printable("naïve 文字 👩\u200d💻") == "naïve 文字 👩\u200d💻"
