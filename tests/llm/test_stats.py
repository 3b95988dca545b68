"""Counts, rates and projections."""

import pytest

from mira.llm.stats import Stats


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def stats() -> Stats:
    return Stats(1000, Clock())


def work(stats: Stats, seconds: float, replies: int) -> None:
    stats._clock.now += seconds  # type: ignore[attr-defined]
    stats.done += replies
    stats.tokens_in += 1000 * replies
    stats.tokens_out += 100 * replies
    stats.cost += 0.01 * replies


def test_rates_are_of_the_last_seconds(stats: Stats) -> None:
    work(stats, 10, 100)
    assert stats.rates() == (10.0, 10_000.0, 1000.0)
    for _ in range(30):
        work(stats, 1, 50)
        stats.rates()
    assert stats.rates()[0] == pytest.approx(50, rel=0.05)


def test_replies_from_the_journal_are_free_and_not_fast(stats: Stats) -> None:
    stats.done = stats.from_journal = 400
    work(stats, 10, 100)
    assert stats.rates()[0] == 10
    assert stats.projected_cost == pytest.approx(6.0)


def test_the_line_says_all_and_is_not_made_for_every_record(stats: Stats) -> None:
    work(stats, 10, 100)
    stats.failures["s"]["overflow"] += 3
    stats.concurrency, stats.limit = 7, 9
    line = stats.line()
    assert "10 replies/s" in line
    assert "10,000/1,000 tokens/s in/out" in line
    assert "7/9 in flight" in line
    assert "cost 1.00 of about 10.00" in line
    assert "3 overflow" in line
    work(stats, 0.1, 500)
    assert stats.line() is line


def test_the_summary_is_for_the_manifest(stats: Stats) -> None:
    work(stats, 1, 10)
    stats.failures["b"]["refused"] += 1
    stats.failures["a"]["overflow"] += 2
    summary = stats.summary()
    assert summary["replies"] == 7
    assert list(summary["failures"]) == ["a", "b"]
