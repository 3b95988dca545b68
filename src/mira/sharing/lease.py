"""Leases: one process at a time does what costs money.

A lease has generations, the objects `leases/<room>/<name>.<n>.json`. Who puts the highest one holds the lease, until it
marks the object as released. The holder beats: every few seconds it puts its object again, with a higher count. Others
watch the object. If it stays as it is for more than three beats by their own clock, its holder is gone, and they may
put the next generation; of several thieves the store lets one win. No clocks are compared, and generations are never
removed, so that nobody mistakes an old one for the highest.

A holder stops when it finds a higher generation, and when it could not beat for three beats: by then others may have
taken over.
"""

import hashlib
import os
import re
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from types import TracebackType
from typing import NamedTuple

import orjson

from mira.errors import RunError
from mira.run_folder.store import Object, Store

__all__ = ["BEAT_S", "LEASES", "LeaseLost", "Leases", "check_leases", "under"]

LEASES = "leases"
"""Folder of leases in a run folder."""

_GIVEN = os.environ.get("MIRA_BEAT_S", "")
BEAT_S = float(_GIVEN) if re.fullmatch(r"[1-9][0-9]{0,3}(\.[0-9]{1,3})?", _GIVEN) else 10.0
"""Seconds between two beats (ours). The same for all workers of a run, whose environment may set another number."""

_MISSED = 3  # beats without which a holder stops
_GONE = 3.5  # beats without which others take over: half a beat later, for clocks that run differently
_AT_ONCE = 8
_LOOKS = 4  # per beat, for leases whose last beat is due or failed
_CHECKS = 20  # looks at the clock per beat, at most
_SAFE = re.compile(r"[A-Za-z0-9_=+-][A-Za-z0-9._=+-]{0,179}")
_OBJECT = re.compile(r"(.+)\.([1-9][0-9]*)\.json")


class LeaseLost(RunError):
    """Another process may have taken over what this one works on.

    Attributes:
        leases: Of which it was one.
    """

    def __init__(self, leases: "Leases", message: str, hint: str) -> None:
        super().__init__(message, hint)
        self.leases = leases


class _Seen(NamedTuple):
    """The highest generation of a lease, and since when it has been as it is, by this process's clock."""

    number: int
    identity: str
    since: float


@dataclass(eq=False)
class _Lease:
    """A lease that this process holds."""

    name: str
    number: int
    good_at: float  # when the last beat that went well was sent
    count: int = 0
    lost: bool = False
    guard: threading.Lock = field(default_factory=threading.Lock)


class Leases:
    """The leases of this process in one room of a store; a context manager that releases them at the end.

    Args:
        store: Where the leases are.
        room: Their folder below `leases/`, such as a stage's name.
        place: Names a folder that this process has locked. Leases of processes that had locked it are free.
        beat_s: Seconds between two beats.
        clock: Seconds; any clock of this process that does not jump.

    Attributes:
        taken_over: (source, shard, last holder) of leases that were taken over from processes that are gone.
    """

    def __init__(
        self, store: Store, room: str, *, place: str = "", beat_s: float | None = None,
        clock: Callable[[], float] | None = None,
    ) -> None:  # fmt: skip
        self._store, self._folder, self._place = store, f"{LEASES}/{room}", place
        self.taken_over: list[tuple[str, str, str]] = []
        self.beat_s, self._clock = beat_s or BEAT_S, clock or _now
        self._token, self._holder = secrets.token_hex(8), f"process {os.getpid()} on {socket.gethostname()}"
        self._seen: dict[str, _Seen] = {}
        self._changed: set[str] = set()
        self._surveyed = self._checked = 0.0
        self._held: dict[str, _Lease] = {}
        self._guard = threading.Lock()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._beat_on, name="mira-leases", daemon=True)
        self._pool = ThreadPoolExecutor(_AT_ONCE, "mira-lease")

    def __enter__(self) -> "Leases":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for name in list(self._held):
            self._release(name, wait=False)
        self._over.set()
        self._thread.join()
        self._pool.shutdown()

    # What others hold.

    def survey(self) -> None:
        """Look at all leases of the room.

        Raises:
            OSError: The store does not answer.
        """
        before = self._clock()
        highest: dict[str, tuple[int, Object]] = {}
        for path, known in self._store.list(self._folder).items():
            if found := _OBJECT.fullmatch(path.removeprefix(f"{self._folder}/")):
                name, number = found[1], int(found[2])
                if number > highest.get(name, (0, known))[0]:
                    highest[name] = number, known
        after = self._clock()
        for name, (number, known) in highest.items():
            seen = self._seen.get(name)
            if seen is None or (number, known.identity) != seen[:2]:
                if seen is not None:
                    self._changed.add(name)
                self._seen[name] = _Seen(number, known.identity, after)
        self._surveyed = before

    def take(self, source: str, shard: str) -> bool:
        """Take a lease that was free at the last survey, or whose holder is gone.

        A lease that somebody has taken since, or taken and released, is not taken: what it is about has changed.

        Returns:
            Whether this process holds the lease now.

        Raises:
            OSError: The store does not answer.
        """
        name = _name(source, shard)
        if name in self._held:
            return not self._is_lost(self._held[name])
        seen = self._seen.get(name)
        number = seen.number if seen else 0
        said: dict[str, object] = {}
        if seen is not None:
            said = self._read(name, number)
            if not self._is_gone(seen):
                now = self._store.stat(self._path(name, number))
                if now is None or now.identity != seen.identity or not self._may_take(said):
                    return False
        sent = self._clock()
        lease = _Lease(name, number + 1, sent)
        if not self._put_new(lease):
            return False
        if seen is not None and not said.get("released"):
            self.taken_over.append((source, shard, str(said.get("holder", "a worker"))))
        with self._guard:
            self._held[name] = lease
        return True

    def ready(self, shards: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
        """Look again; return those of the shards (source, name) whose lease may be had: free, released, or gone.

        Raises:
            OSError: The store does not answer.
        """
        self.survey()
        listed = list(shards)
        return [shard for shard, ready in zip(listed, self._pool.map(self._is_ready, listed), strict=True) if ready]

    def pause(self) -> None:
        """Wait before looking again."""
        time.sleep(self.beat_s / 2)

    def holder(self, source: str, shard: str) -> str:
        """Return who holds a lease, for people; "" if that cannot be known."""
        seen = self._seen.get(_name(source, shard))
        return str(self._read(_name(source, shard), seen.number).get("holder", "")) if seen else ""

    def is_beating(self, source: str, shard: str) -> bool:
        """Whether somebody took or beat a lease between this process's first and last look at it."""
        name = _name(source, shard)
        return name in self._changed

    def _is_ready(self, shard: tuple[str, str]) -> bool:
        name = _name(*shard)
        seen = self._seen.get(name)
        return seen is None or self._is_gone(seen) or self._may_take(self._read(name, seen.number))

    def _is_gone(self, seen: _Seen) -> bool:
        return self._surveyed - seen.since >= _GONE * self.beat_s

    def _may_take(self, said: dict[str, object]) -> bool:
        """Whether a lease is released, or of this process, which has lost it, or of one whose folder is locked here."""
        own = said.get("token") == self._token or (self._place and said.get("place") == self._place)
        return bool(said.get("released") or own)

    # What this process holds.

    def release(self, source: str, shard: str, *, wait: bool = False) -> None:
        """Let others have a lease.

        Args:
            source: The source.
            shard: The shard's name.
            wait: Return only once the store knows.
        """
        self._release(_name(source, shard), wait=wait)

    def _release(self, name: str, *, wait: bool) -> None:
        with self._guard:
            lease = self._held.pop(name, None)
        if lease is not None:
            told = self._pool.submit(self._put_released, lease)
            if wait:
                told.result()

    def holds(self, source: str, shard: str) -> bool:
        """Whether this process holds a lease."""
        lease = self._held.get(_name(source, shard))
        return lease is not None and not self._is_lost(lease)

    def check(self) -> None:
        """Check that every lease is still held. Cheap: to be called before anything is asked.

        Raises:
            LeaseLost: One is not. It counts as not held from now on.
        """
        now = self._clock()
        if now - self._checked < self.beat_s / _CHECKS:
            return
        self._checked = now
        with self._guard:
            lost = [lease for lease in self._held.values() if self._is_lost(lease)]
            for lease in lost:
                del self._held[lease.name]
        if lost:
            raise LeaseLost(
                self,
                f"{self._store.url}: the lease of {lost[0].name} was lost: another process may work on it",
                "This process was held up, or could not reach the store, for too long. Run the same command again.",
            )

    def _is_lost(self, lease: _Lease) -> bool:
        if self._clock() - lease.good_at >= _MISSED * self.beat_s:
            lease.lost = True
        return lease.lost

    def _beat_on(self) -> None:
        while not self._over.wait(self.beat_s / _LOOKS):
            due = self._clock() - self.beat_s * (1 - 0.5 / _LOOKS)
            with self._guard:
                held = [lease for lease in self._held.values() if lease.good_at < due]
            for lease in held:  # after a failure at every look, so that a store may fail for longer
                self._pool.submit(self._beat, lease)

    def beat(self) -> None:
        """Beat every lease once, now: what the thread does all the time."""
        for lease in list(self._held.values()):
            self._beat(lease)

    def _beat(self, lease: _Lease) -> None:
        """Put a lease's object again; find out whether somebody took over."""
        if not lease.guard.acquire(blocking=False):  # the last beat is still under way
            return
        try:
            if self._held.get(lease.name) is not lease or self._is_lost(lease):
                return
            sent = self._clock()
            lease.count += 1
            self._store.put(self._path(lease.name, lease.number), self._content(lease))
            if self._store.stat(self._path(lease.name, lease.number + 1)) is not None:
                lease.lost = True
            elif not self._is_lost(lease):
                lease.good_at = sent
        except Exception:  # whatever the store raises: three beats without success are what counts
            return
        finally:
            lease.guard.release()

    def _put_released(self, lease: _Lease) -> None:
        with lease.guard:  # no beat may come after it
            try:
                self._store.put(self._path(lease.name, lease.number), self._content(lease, released=True))
            except Exception:  # others wait for it to be gone
                return

    def _put_new(self, lease: _Lease) -> bool:
        path = self._path(lease.name, lease.number)
        if self._store.put_new(path, self._content(lease)):
            return True
        # A store that was asked twice, because its first response was lost, finds what was put the first time.
        said = self._read(lease.name, lease.number)
        return said.get("token") == self._token and not said.get("released")

    def _content(self, lease: _Lease, *, released: bool = False) -> bytes:
        facts: dict[str, object] = {"holder": self._holder, "token": self._token, "place": self._place}
        facts |= {"beat": lease.count, "released": released}
        return orjson.dumps(facts, option=orjson.OPT_APPEND_NEWLINE)

    def _path(self, name: str, number: int) -> str:
        return f"{self._folder}/{name}.{number}.json"

    def _read(self, name: str, number: int) -> dict[str, object]:
        try:
            said = orjson.loads(self._store.read(self._path(name, number)))
        except (FileNotFoundError, ValueError):
            return {}
        return said if isinstance(said, dict) else {}


def check_leases() -> None:
    """Check the leases under which this thread works, if any.

    Raises:
        LeaseLost: One was lost.
    """
    for leases in _CURRENT.get():
        leases.check()


@contextmanager
def under(leases: Leases) -> Iterator[None]:
    """Have `check_leases` check these leases, too, in what is done inside."""
    token = _CURRENT.set((*_CURRENT.get(), leases))
    try:
        yield
    finally:
        _CURRENT.reset(token)


_CURRENT: ContextVar[tuple[Leases, ...]] = ContextVar("leases", default=())


def _name(source: str, shard: str) -> str:
    return f"{_safe(source)}/{_safe(shard)}" if source else _safe(shard)


def _safe(part: str) -> str:
    """Return a part of an object's name for any text, another one for each."""
    if _SAFE.fullmatch(part):
        return part
    digest = hashlib.blake2b(part.encode("utf-8", "surrogateescape"), digest_size=8).hexdigest()
    return f"{re.sub(r'[^A-Za-z0-9_=+-]', '_', part)[:100]}-{digest}"


def _now() -> float:
    """Return seconds that also pass while the machine sleeps, where the system counts them."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()
