"""The limiter alone, with a clock of its own."""

import asyncio
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from mira.llm.limiter import Limiter, Outcome, Permit, permits, retry_after
from mira.llm.replicas import ReplicaPool


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def round_trip(limiter: Limiter, outcome: Outcome = Outcome.OK, after: float | None = None) -> int:
    """Fill the limiter, then give all permits back; return how many there were."""
    taken: list[Permit] = []
    while limiter.has_room(1):
        taken.append(limiter.take(1))
    for permit in taken:
        limiter.give(permit, outcome, after)
    return len(taken)


def test_it_grows_to_its_maximum_within_a_few_rounds(clock: Clock) -> None:
    limiter = Limiter(256, clock)
    rounds = [round_trip(limiter) for _ in range(12)]
    assert rounds[0] == 16
    assert rounds == sorted(rounds)
    assert rounds[-1] == 256
    assert round_trip(limiter) == 256


def test_a_limit_that_is_not_used_does_not_grow(clock: Clock) -> None:
    limiter = Limiter(256, clock)
    for _ in range(100):
        limiter.give(limiter.take(1), Outcome.OK)
    assert limiter.limit == 16


def test_429_halves_once_a_round_not_once_a_reply(clock: Clock) -> None:
    limiter = Limiter(256, clock)
    for _ in range(12):
        round_trip(limiter)
    round_trip(limiter, Outcome.BUSY)
    assert limiter.limit == 128
    round_trip(limiter)
    round_trip(limiter, Outcome.BUSY)
    assert 64 <= limiter.limit < 90


def test_a_storm_waits_as_asked_and_recovers_to_what_went_well(clock: Clock) -> None:
    limiter = Limiter(256, clock)
    for _ in range(12):
        round_trip(limiter)
    for _ in range(20):
        round_trip(limiter, Outcome.BUSY, 2.0)
        clock.now += 0.05
    assert not limiter.has_room(1)
    assert 1.0 < limiter.wait() <= 2.0
    clock.now += 2.0
    rounds = [round_trip(limiter) for _ in range(25)]
    assert rounds[0] < 100
    assert rounds[-1] > 200


def test_one_5xx_is_a_short_pause_and_many_are_a_death(clock: Clock) -> None:
    limiter = Limiter(64, clock)
    round_trip(limiter)
    limiter.give(limiter.take(1), Outcome.BROKEN)
    assert not limiter.down
    assert 0 < limiter.wait() < 0.2
    clock.now += 0.2
    round_trip(limiter, Outcome.BROKEN)
    assert limiter.down
    waits = []
    for _ in range(12):
        clock.now += limiter.wait()
        assert round_trip(limiter, Outcome.BROKEN) == 1  # one probe
        waits.append(limiter.wait())
    assert waits[5] > 4 * waits[0]
    assert max(waits) <= 30 * 1.25
    clock.now += limiter.wait()
    assert round_trip(limiter) == 1
    assert not limiter.down
    assert round_trip(limiter) > 4


def test_a_probe_goes_out_although_a_hung_request_holds_its_permit(clock: Clock) -> None:
    limiter = Limiter(64, clock)
    hung = limiter.take(1)
    for _ in range(4):
        limiter.give(limiter.take(1), Outcome.BROKEN)
        clock.now += 1.0
    assert limiter.down
    assert limiter.has_room(1)
    probe = limiter.take(1)
    assert not limiter.has_room(1)
    limiter.give(hung, Outcome.SLOW)
    assert not limiter.has_room(1)
    limiter.give(probe, Outcome.OK)
    assert limiter.has_room(1)


def test_a_long_record_counts_for_several_short_ones(clock: Clock) -> None:
    assert (permits(200), permits(8191), permits(60_000)) == (1, 1, 8)
    limiter = Limiter(16, clock)
    first = limiter.take(permits(60_000))
    limiter.take(permits(60_000))
    assert not limiter.has_room(1)
    limiter.give(first, Outcome.OK)
    assert limiter.has_room(8)
    assert not limiter.has_room(9)


def test_a_record_heavier_than_the_limit_goes_alone(clock: Clock) -> None:
    limiter = Limiter(4, clock)
    assert limiter.has_room(9)
    limiter.take(9)
    assert not limiter.has_room(1)


def test_the_pool_serves_in_order_and_does_not_starve_the_heavy() -> None:
    async def go() -> list[str]:
        pool, order = ReplicaPool(["http://a"], 4), []
        held = [await pool.acquire(1) for _ in range(4)]

        async def want(name: str, weight: int) -> None:
            place = await pool.acquire(weight)
            order.append(name)
            await asyncio.sleep(0.001)
            pool.give(*place, Outcome.OK)

        wanted = [asyncio.create_task(want("heavy", 100)), *(asyncio.create_task(want(f"{i}", 1)) for i in range(3))]
        await asyncio.sleep(0)
        for place in held:
            pool.give(*place, Outcome.OK)
            await asyncio.sleep(0.002)
        await asyncio.gather(*wanted)
        return order

    assert asyncio.run(go()) == ["heavy", "0", "1", "2"]


def test_a_withdrawn_request_gives_its_permit_back() -> None:
    async def go() -> int:
        pool = ReplicaPool(["http://a"], 1)
        place = await pool.acquire(1)
        waiting = asyncio.create_task(pool.acquire(1))
        await asyncio.sleep(0)
        pool.give(*place, Outcome.OK)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        return pool.in_use

    assert asyncio.run(go()) == 0


def test_a_pause_ends_by_itself() -> None:
    async def go() -> None:
        pool = ReplicaPool(["http://a"], 4)
        pool.give(*await pool.acquire(1), Outcome.BUSY, 0.1)
        await asyncio.wait_for(pool.acquire(1), 1.0)

    asyncio.run(go())


@pytest.mark.parametrize(
    ("value", "seconds"),
    [("7", 7.0), ("0.25", 0.25), ("30s", 30.0), ("1m30s", 90.0), ("1500ms", 1.5), ("-3", None), ("inf", None),
     (None, None), (" ", None), ("soon", None)],
)  # fmt: skip
def test_retry_after_in_seconds(value: str | None, seconds: float | None) -> None:
    assert retry_after(value) == seconds


def test_retry_after_as_a_date() -> None:
    later = retry_after(format_datetime(datetime.now(UTC) + timedelta(seconds=90), usegmt=True))
    assert later is not None
    assert 85 < later <= 90
    assert retry_after("Wed, 21 Oct 2015 07:28:00 GMT") == 0.0
