"""Prices, estimates and the cost guard."""

import pytest

from mira.config.settings import EndpointSettings
from mira.llm.cost import Spending, estimate, price

SETTINGS = EndpointSettings(base_url="http://x/v1", model="m", price_in=2.0, price_out=8.0, max_tokens=1000)


def test_price_is_per_million_tokens() -> None:
    assert price(SETTINGS, 1_000_000, 500_000) == 6.0


def test_an_estimate_scales_a_sample_to_all_records_and_samples() -> None:
    settings = SETTINGS.model_copy(update={"samples": 2})
    e = estimate(settings, [1000, 3000], records=100, reply_tokens=250)
    assert (e.requests, e.tokens_in, e.tokens_out) == (200, 400_000, 50_000)
    assert e.cost == pytest.approx(0.8 + 0.4)
    assert e.most == pytest.approx(0.8 + 1.6)


def test_an_estimate_without_reply_lengths_takes_the_longest() -> None:
    e = estimate(SETTINGS, [1000])
    assert e.cost == e.most == pytest.approx(0.002 + 0.008)
    assert estimate(SETTINGS, []).cost == 0


def test_the_guard_counts_what_is_in_flight() -> None:
    spending = Spending(max_cost=1.0)
    assert spending.reserve(0.6)
    assert not spending.reserve(0.6)
    spending.pay(0.6, 0.1)
    assert spending.reserve(0.6)
    assert spending.cost == pytest.approx(0.1)
    assert "--max-cost" in str(spending.stop())


def test_the_guard_counts_requests() -> None:
    spending = Spending(max_requests=2)
    assert [spending.reserve(0.0) for _ in range(3)] == [True, True, False]
    assert "2 requests" in str(spending.stop())
