"""Replicas of one model: the least loaded gets the next request, a dead one is left out and comes back."""

import asyncio
import time
from collections import deque
from collections.abc import Sequence

from mira.llm.limiter import Limiter, Outcome, Permit
from mira.urls import shown_url

__all__ = ["Replica", "ReplicaPool"]


class Replica:
    """One base URL and its permits. `shown` is the URL for messages: what may be a key is not in it."""

    def __init__(self, url: str, maximum: int, workers: int) -> None:
        self.url, self.shown = url, shown_url(url)
        self.limiter = Limiter(maximum, workers=workers)


class ReplicaPool:
    """Hands out permits, first come first served, so that a heavy request is not passed by light ones for ever.

    Args:
        urls: Base URLs.
        maximum: Permits of all replicas together.
        workers: How many processes ask the replicas at once: each starts with its share of permits.

    Attributes:
        replicas: One a URL.
        in_use: Permits taken.
        answered: Whether any replica has answered yet.
    """

    def __init__(self, urls: Sequence[str], maximum: int, workers: int = 1) -> None:
        self.replicas = [Replica(url, maximum, workers) for url in urls]
        self._maximum = maximum
        self.in_use = 0
        self._waiting: deque[tuple[int, asyncio.Future[tuple[Replica, Permit]]]] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._answered_at = time.monotonic()
        self.answered = False

    @property
    def limit(self) -> int:
        """Permits there are now, without those of dead replicas."""
        alive = sum(int(r.limiter.limit) for r in self.replicas if not r.limiter.down)
        return min(self._maximum, alive)

    @property
    def silent_s(self) -> float:
        """Seconds since any replica answered, or since the start."""
        return time.monotonic() - self._answered_at

    async def acquire(self, weight: int) -> tuple[Replica, Permit]:
        """Wait for a replica with room and take its permits."""
        weight = min(weight, self._maximum)
        if not self._waiting and (replica := self._least_loaded(weight)):
            return self._take(replica, weight)
        future: asyncio.Future[tuple[Replica, Permit]] = asyncio.get_running_loop().create_future()
        self._waiting.append((weight, future))
        self._serve()
        try:
            return await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled():
                self.give(*future.result(), Outcome.CANCELLED)
            raise

    def give(self, replica: Replica, permit: Permit, outcome: Outcome, after: float | None = None) -> None:
        """Give permits back and tell what became of the request."""
        self.in_use -= permit.weight
        replica.limiter.give(permit, outcome, after)
        if outcome is Outcome.OK:
            self.answered = True
            self._answered_at = time.monotonic()
        self._serve()

    def _take(self, replica: Replica, weight: int) -> tuple[Replica, Permit]:
        self.in_use += weight
        return replica, replica.limiter.take(weight)

    def _least_loaded(self, weight: int) -> Replica | None:
        if self.in_use and self.in_use + weight > self._maximum:
            return None
        if len(self.replicas) == 1:
            return self.replicas[0] if self.replicas[0].limiter.has_room(weight) else None
        open_ = [r for r in self.replicas if r.limiter.has_room(weight)]
        return min(open_, key=lambda r: r.limiter.load, default=None)

    def _serve(self) -> None:
        while self._waiting:
            weight, future = self._waiting[0]
            if not future.done():
                replica = self._least_loaded(weight)
                if replica is None:
                    self._look_again()
                    return
                future.set_result(self._take(replica, weight))
            self._waiting.popleft()

    def _look_again(self) -> None:
        """Come back when the first pause is over: no reply may be due that would wake the waiting."""
        waits = [wait for r in self.replicas if (wait := r.limiter.wait()) > 0]
        if not waits:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(min(waits) + 0.001, self._serve)
