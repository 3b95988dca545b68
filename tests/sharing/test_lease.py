"""Leases: one holder at a time, whatever the clocks, the store and the moment at which a process dies."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from mira.run_folder.folder_store import FolderStore
from mira.run_folder.store import Object
from mira.sharing.lease import LeaseLost, Leases, check_leases, under

SHARD = ("web", "part-0")
BEAT = 10.0


class Memory:
    """A store in memory that can fail, and can lose the response of what it did."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.down = self.loses_response = False
        self._guard = threading.Lock()

    @property
    def url(self) -> str:
        return "memory://run"

    def _asked(self) -> None:
        if self.down:
            raise OSError("no answer")

    def list(self, below: str = "", *, deep: bool = True) -> dict[str, Object]:
        self._asked()
        return {n: Object(len(c), str(hash(c))) for n, c in self.objects.items() if n.startswith(f"{below}/")}

    def stat(self, name: str) -> Object | None:
        self._asked()
        content = self.objects.get(name)
        return None if content is None else Object(len(content), str(hash(content)))

    def read(self, name: str) -> bytes:
        self._asked()
        if name not in self.objects:
            raise FileNotFoundError(name)
        return self.objects[name]

    def fetch(self, name: str, path: Path) -> Object:
        raise NotImplementedError

    def put(self, name: str, content: bytes | Path) -> Object:
        self._asked()
        assert isinstance(content, bytes)
        self.objects[name] = content
        return Object(len(content), str(hash(content)))

    def put_new(self, name: str, content: bytes) -> bool:
        self._asked()
        with self._guard:
            if name in self.objects:
                return False
            self.objects[name] = content
        return not self.loses_response

    def remove(self, names: Any) -> None:
        raise NotImplementedError

    def conditional(self) -> bool:
        return True


class Clock:
    def __init__(self, now: float = 0.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def leases(store: Any, clock: Callable[[], float], room: str = "score", place: str = "") -> Leases:
    """Leases that beat only when told."""
    return Leases(store, room, place=place, beat_s=BEAT, clock=clock)


def take(own: Leases) -> bool:
    own.survey()
    return own.take(*SHARD)


def test_one_holds_and_the_next_one_has_it_after_the_release() -> None:
    store, clock = Memory(), Clock()
    first, second = leases(store, clock), leases(store, clock)
    assert take(first)
    assert not take(second)
    assert second.ready([SHARD]) == []
    assert "process" in second.holder(*SHARD)
    first.release(*SHARD, wait=True)
    assert not second.take(*SHARD), "what was done since the survey must be looked at first"
    assert second.ready([SHARD]) == [SHARD]
    assert second.take(*SHARD)
    assert second.taken_over == []
    assert sorted(store.objects) == ["leases/score/web/part-0.1.json", "leases/score/web/part-0.2.json"]


def test_a_lease_whose_holder_is_gone_is_taken_over_by_one_of_many_thieves() -> None:
    store, clock = Memory(), Clock()
    assert take(leases(store, clock))
    thieves = [leases(store, clock) for _ in range(8)]
    for thief in thieves:
        assert not take(thief)
    clock.now += 3.4 * BEAT
    assert not any(take(thief) for thief in thieves), "it may still believe that it holds it"
    clock.now += 0.2 * BEAT
    for thief in thieves:
        thief.survey()
    with ThreadPoolExecutor(8) as pool:
        won = list(pool.map(lambda thief: thief.take(*SHARD), thieves))
    assert won.count(True) == 1
    ((source, shard, holder),) = thieves[won.index(True)].taken_over
    assert (source, shard) == SHARD
    assert holder.startswith("process ")


def test_a_holder_that_beats_is_never_robbed_however_clocks_differ() -> None:
    store, here, there = Memory(), Clock(1e9), Clock(-5.0)
    holder, thief = leases(store, here), leases(store, there)
    assert take(holder)
    for _ in range(20):
        assert not take(thief)
        here.now += BEAT
        there.now += BEAT
        holder.beat()
        holder.check()
    assert holder.holds(*SHARD)


def test_a_holder_that_wakes_late_stops_and_takes_nothing_back() -> None:
    store, here, there = Memory(), Clock(), Clock(77.0)
    holder, thief = leases(store, here), leases(store, there)
    assert take(holder)
    assert not take(thief)
    there.now += 4 * BEAT
    assert take(thief)
    here.now += 0.5 * BEAT  # its machine was frozen, its clock too
    holder.beat()
    here.now += BEAT
    with pytest.raises(LeaseLost, match=r"memory://run: the lease of web/part-0 was lost"):
        holder.check()
    assert not holder.holds(*SHARD)
    assert not take(holder)
    there.now += BEAT
    thief.beat()
    thief.check()
    assert thief.holds(*SHARD)


def test_a_store_that_fails_for_a_while_costs_nothing_and_for_three_beats_the_lease() -> None:
    store, clock = Memory(), Clock()
    holder = leases(store, clock)
    assert take(holder)
    for failing in (True, True, False, True, True):
        store.down = failing
        clock.now += 0.9 * BEAT
        holder.beat()
        holder.check()
    clock.now += 1.3 * BEAT
    holder.beat()
    with pytest.raises(LeaseLost):
        holder.check()
    store.down = False
    holder.beat()
    assert not holder.holds(*SHARD), "a lost lease stays lost"
    assert take(holder), "it may have its own lost lease again"
    holder.check()


def test_a_put_whose_response_was_lost_is_known_again() -> None:
    store, clock = Memory(), Clock()
    store.loses_response = True
    holder = leases(store, clock)
    assert take(holder)
    holder.release(*SHARD, wait=True)
    assert not holder.take(*SHARD), "its own released one is not held"
    assert take(holder)


@pytest.mark.parametrize("said", [b"", b"{", b"[]", b'{"beat": "many"}'])
def test_an_unreadable_lease_counts_as_held_until_nobody_beats_it(said: bytes) -> None:
    store, clock = Memory(), Clock()
    store.objects["leases/score/web/part-0.7.json"] = said
    own = leases(store, clock)
    assert not take(own)
    clock.now += 4 * BEAT
    assert take(own)
    assert "leases/score/web/part-0.8.json" in store.objects


def test_names_of_any_characters_have_leases_of_their_own(tmp_path: Path) -> None:
    odd = ["a b", "a_b", "a/b", "..", ".", ".x", "ü", "网页", "x" * 300, "x" * 301, "a.1", "a", "a\nb", "p%20"]
    own = leases(FolderStore(tmp_path), Clock())
    own.survey()
    assert all(own.take(name, name) for name in odd)
    assert len(list(tmp_path.rglob("*.json"))) == len(odd)
    other = leases(FolderStore(tmp_path), Clock())
    other.survey()
    assert not any(other.take(name, name) for name in odd)


def test_the_thread_beats_and_the_end_releases(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    with Leases(store, "score", beat_s=1.0) as holder:
        holder.survey()
        assert holder.take(*SHARD)
        path, pause = tmp_path / "leases/score/web/part-0.1.json", threading.Event()
        for _ in range(3000):
            if b'"beat":0,' not in path.read_bytes():
                break
            pause.wait(0.02)
        assert b'"beat":0,' not in path.read_bytes()
    assert b'"released":true' in path.read_bytes()


def test_what_works_under_leases_stops_when_one_is_lost() -> None:
    store, clock = Memory(), Clock()
    own = leases(store, clock)
    assert take(own)
    clock.now += 3 * BEAT
    check_leases()
    with under(own), pytest.raises(LeaseLost):
        check_leases()
    check_leases()


class Races(RuleBasedStateMachine):
    """Any order of surveys, takes, beats, releases, deaths, and failures, by clocks that start anywhere."""

    store: Memory

    @initialize(offsets=st.lists(st.floats(-1e6, 1e6), min_size=3, max_size=3))
    def start(self, offsets: list[float]) -> None:
        self.store = Memory()
        self.clocks = [Clock(offset) for offset in offsets]
        self.all = [leases(self.store, clock) for clock in self.clocks]
        self.frozen: set[int] = set()

    def _do(self, who: int, what: Callable[[Leases], object]) -> None:
        if who not in self.frozen:
            try:
                what(self.all[who])
            except OSError:
                assert self.store.down
            except LeaseLost:
                pass

    @rule(who=st.integers(0, 2))
    def look(self, who: int) -> None:
        self._do(who, lambda own: own.survey())

    @rule(who=st.integers(0, 2))
    def take(self, who: int) -> None:
        self._do(who, lambda own: own.take(*SHARD))

    @rule(who=st.integers(0, 2))
    def look_and_take(self, who: int) -> None:
        self._do(who, take)

    @rule(who=st.integers(0, 2))
    def beat(self, who: int) -> None:
        self._do(who, lambda own: own.beat())

    @rule(who=st.integers(0, 2))
    def check(self, who: int) -> None:
        self._do(who, lambda own: own.check())

    @rule(who=st.integers(0, 2))
    def release(self, who: int) -> None:
        self._do(who, lambda own: own.release(*SHARD, wait=True))

    @rule(who=st.integers(0, 2))
    def freeze_or_wake(self, who: int) -> None:
        self.frozen ^= {who}

    @rule()
    def store_fails_or_recovers(self) -> None:
        self.store.down = not self.store.down

    @rule()
    def response_is_lost_or_not(self) -> None:
        self.store.loses_response = not self.store.loses_response

    @rule(seconds=st.floats(0, 5 * BEAT))
    def time_passes(self, seconds: float) -> None:
        for clock in self.clocks:
            clock.now += seconds

    @invariant()
    def at_most_one_holds(self) -> None:
        holders = [own for own in getattr(self, "all", []) if own.holds(*SHARD)]
        assert len(holders) <= 1


Races.TestCase.settings = settings(
    max_examples=80, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
)
TestRaces = Races.TestCase
