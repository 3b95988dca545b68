"""The limiter against servers that exist in simulated time only: two minutes pass in a second."""

import heapq
import random
from collections.abc import Callable

import pytest

from mira.llm.limiter import Limiter, Outcome

Answer = tuple[Outcome, float, float | None]
Serve = Callable[[random.Random, float, int], Answer]

MOST = 256
SECONDS = 90


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def simulate(serve: Serve) -> tuple[list[float], float]:
    """Keep the limiter full; return the replies a second in each 10 seconds, and the share of 429s in the last 30."""
    random.seed(1)  # the limiter's own jitter
    chance, clock = random.Random(1), Clock()
    limiter = Limiter(MOST, clock)
    under_way: list[tuple[float, int, object, Outcome, float | None]] = []
    replies, sent = [0] * (SECONDS // 10 + 1), 0
    late = [0, 0]
    while clock.now < SECONDS:
        while limiter.has_room(1):
            permit = limiter.take(1)
            sent += 1
            outcome, seconds, after = serve(chance, clock.now, len(under_way))
            heapq.heappush(under_way, (clock.now + seconds, sent, permit, outcome, after))
        if not under_way or under_way[0][0] > clock.now + limiter.wait() > clock.now:
            clock.now += limiter.wait() + 1e-6
            continue
        clock.now, _, permit, outcome, after = heapq.heappop(under_way)
        limiter.give(permit, outcome, after)  # type: ignore[arg-type]
        replies[int(clock.now // 10)] += outcome is Outcome.OK
        if clock.now > SECONDS - 30:
            late[0] += 1
            late[1] += outcome is Outcome.BUSY
    return [n / 10 for n in replies[: SECONDS // 10]], late[1] / max(late[0], 1)


def faulty(busy: float = 0.0, reset: float = 0.0, room: int = 10_000) -> Serve:
    """Answer in about a second; fail at steady rates, and with 429 where more than `room` are under way."""

    def serve(chance: random.Random, now: float, under_way: int) -> Answer:
        if under_way >= room:
            return Outcome.BUSY, 0.02, None
        luck = chance.random()
        if luck < busy:
            return Outcome.BUSY, 0.05, None
        if luck < busy + reset:
            return Outcome.BROKEN, 0.05, None
        return Outcome.OK, chance.uniform(0.7, 1.3), None

    return serve


def rate_limit(most: float, after: float | None) -> Serve:
    """Answer `most` requests a second, and the others with 429."""
    tokens, at = most, 0.0

    def serve(chance: random.Random, now: float, under_way: int) -> Answer:
        nonlocal tokens, at
        tokens, at = min(most, tokens + (now - at) * most), now
        if tokens < 1:
            return Outcome.BUSY, 0.05, after
        tokens -= 1
        return Outcome.OK, chance.uniform(0.7, 1.3), None

    return serve


@pytest.mark.parametrize(("busy", "reset"), [(0.01, 0), (0.05, 0), (0.1, 0), (0, 0.05), (0, 0.15), (0.05, 0.05)])
def test_faults_that_have_nothing_to_do_with_load_leave_it_fast(busy: float, reset: float) -> None:
    replies, _ = simulate(faulty(busy, reset))
    assert min(replies[6:]) > 0.6 * MOST  # it was 1 to 20% of it


@pytest.mark.parametrize("after", [None, 1.0])
def test_a_rate_limit_is_met_and_seldom_passed(after: float | None) -> None:
    replies, refused = simulate(rate_limit(50, after))
    assert min(replies[1:]) > 45
    assert refused < 0.25


def test_a_limit_of_requests_in_flight_is_met_and_seldom_passed() -> None:
    replies, refused = simulate(faulty(room=64))
    assert min(replies[1:]) > 0.8 * 64
    assert refused < 0.15


def test_a_limit_is_met_among_faults_too() -> None:
    replies, refused = simulate(faulty(busy=0.05, room=64))
    assert min(replies[3:]) > 0.6 * 64
    assert refused < 0.25
