"""How many requests a replica gets at a time, learned from its responses.

Room is counted in permits. A request takes one permit for every 8,192 prompt tokens begun, so that a 60K-token record
counts eight times a short one: 256 permits of 8,192 tokens are 2.1M, about what the KV cache of one H200 holds for the
card's model. Concurrency starts low, doubles each round of replies up to half of what went well before, grows by a
fifth a round up to all of it, and by a twentieth beyond; 429 and timeouts halve it. A 429 without Retry-After that came
as often at lower limits has nothing to do with load, and does not. (The numbers are ours.)
"""

import random
import re
import time
from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from enum import Enum, auto
from typing import NamedTuple

__all__ = ["Limiter", "Outcome", "Permit", "permits", "retry_after"]

_TOKENS_PER_PERMIT = 8192
_START = 16
_IN_A_ROW = 3
_PAUSE_S, _MAX_PAUSE_S = 0.1, 30.0
_ENOUGH, _MEMORY = 20, 200  # answers at lower loads that show a rate of faults; answers that each load remembers
_MOST_NOISE = 0.3  # a higher rate at low limits is a storm, or a limit below one request in flight


_NUMBER = r"(\d{1,9}(?:\.\d{1,9})?)"
_DURATION = re.compile(rf"(?:{_NUMBER}h)?(?:{_NUMBER}m)?(?:{_NUMBER}s?)?|{_NUMBER}ms", re.IGNORECASE)


class Outcome(Enum):
    """What became of a request, as far as the limiter cares."""

    OK = auto()  # the server answered, be it with a refusal of this one request
    BUSY = auto()  # 429
    SLOW = auto()  # no reply in time
    BROKEN = auto()  # 5xx, or the connection was lost
    CANCELLED = auto()  # the request was withdrawn


class Permit(NamedTuple):
    """What a request in flight holds."""

    weight: int
    epoch: int
    level: int  # bits of the number of permits that were taken when it was sent


def permits(tokens: int) -> int:
    """Return how many permits a request of `tokens` prompt tokens takes."""
    return 1 + tokens // _TOKENS_PER_PERMIT


def retry_after(value: str | None) -> float | None:
    """Return the seconds that a Retry-After header asks for (a number, "1m30s" or an HTTP date), or None."""
    value = (value or "").strip()
    if not value:
        return None
    if duration := _DURATION.fullmatch(value):
        hours, minutes, seconds, milliseconds = (float(part or 0) for part in duration.groups())
        return 3600 * hours + 60 * minutes + seconds + milliseconds / 1000
    try:
        date = parsedate_to_datetime(value)
    except ValueError:
        return None
    return max(0.0, (date.replace(tzinfo=date.tzinfo or UTC) - datetime.now(UTC)).total_seconds())


class Limiter:
    """The permits of one replica. Not thread-safe: it lives in one event loop.

    Args:
        maximum: Most permits there will be.
        clock: Seconds, for tests.
        workers: How many processes ask the replica at once: each starts with its share of permits.

    Attributes:
        limit: Permits there are now.
        in_use: Permits taken.
        down: Whether the replica is taken for dead: one probe at a time until one is answered.
    """

    def __init__(self, maximum: int, clock: Callable[[], float] = time.monotonic, *, workers: int = 1) -> None:
        self._start = max(1, _START // workers)
        self.limit = float(min(maximum, self._start))
        self.in_use = 0
        self.down = False
        self._maximum, self._clock = maximum, clock
        self._peak = float(maximum)  # highest limit that is known, or hoped, to go well
        self._epoch = 0  # counts cuts and pauses; outcomes of earlier requests are ignored
        self._good = 0  # answers since the last cut
        self._broken = 0  # failures in a row
        self._pressed = False  # the last request found most permits taken
        self._probing = False  # a dead replica's one request is out
        self._pause = _PAUSE_S
        self._paused_until = 0.0
        # Answers and bare 429s with 1 permit taken, 2 to 3, 4 to 7, and so on
        self._seen = [[0.0, 0.0] for _ in range(maximum.bit_length() + 1)]

    def wait(self) -> float:
        """Return the seconds until requests may be sent again; 0 when they may now."""
        return max(0.0, self._paused_until - self._clock())

    def has_room(self, weight: int) -> bool:
        """Whether a request may be sent now. One heavier than the limit goes alone."""
        if self.wait() > 0:
            return False
        if self.down:
            return not self._probing
        return self.in_use == 0 or self.in_use + weight <= self.limit

    @property
    def load(self) -> float:
        """Share of the permits taken."""
        return self.in_use / self.limit

    def take(self, weight: int) -> Permit:
        """Take permits for a request that is being sent."""
        self.in_use += weight
        self._probing = self.down
        self._pressed = self.in_use >= 0.8 * self.limit
        return Permit(weight, self._epoch, min(self.in_use.bit_length(), len(self._seen) - 1))

    def give(self, permit: Permit, outcome: Outcome, after: float | None = None) -> None:
        """Give permits back and learn from the outcome.

        Args:
            permit: What `take` returned.
            outcome: What became of the request.
            after: Seconds that the server asked to wait, where it did.
        """
        self.in_use -= permit.weight
        if permit.epoch == self._epoch:
            self._probing = False
        if outcome is Outcome.OK:
            self._count(permit.level, 0)
            self._answered()
        elif outcome in {Outcome.BUSY, Outcome.SLOW}:
            bare = outcome is Outcome.BUSY and after is None
            if bare:
                self._count(permit.level, 1)
            if permit.epoch == self._epoch and not (bare and self._is_noise(permit.level)):
                self._cut(after)
        elif outcome is Outcome.BROKEN:
            self._break(permit, after)

    def _answered(self) -> None:
        self._broken, self._pause = 0, _PAUSE_S
        self._good += 1
        if self.down:
            self._revive()
        elif self._pressed:  # a limit that is not reached proves nothing
            step = 1.0 if self.limit < self._peak / 2 else 0.2 if self.limit < self._peak else 0.05
            self.limit = min(float(self._maximum), self.limit + step)
            self._peak = max(self._peak, self.limit)

    def _count(self, level: int, busy: int) -> None:
        seen = self._seen[level]
        seen[0] += 1
        seen[1] += busy
        if seen[0] > _MEMORY:
            seen[0], seen[1] = seen[0] / 2, seen[1] / 2

    def _is_noise(self, level: int) -> bool:
        """Return whether 429s without Retry-After came as often with half as many permits taken, and fewer."""
        answers, busy = map(sum, zip(*self._seen[: max(2, level)], strict=True))
        if self.down or answers < _ENOUGH or not 0 < busy <= _MOST_NOISE * answers:
            return False
        share = busy / answers
        here, busy_here = self._seen[level]
        if busy_here > share * here + 3 * (share * (1 - share) * here) ** 0.5 + 1:
            return False
        self._peak = max(self._peak, min(float(self._maximum), 4 * self.limit))  # hope for more again
        return True

    def _revive(self) -> None:
        self.down = False
        self._epoch += 1
        self._paused_until = 0.0
        self.limit = min(self.limit, float(self._start))

    def _cut(self, after: float | None) -> None:
        if self.down:
            self._revive()
        if self._good >= self.limit:  # a whole round went well at this limit: it, not a storm's, is what to return to
            self._peak = self.limit
        if not self._good:
            self._paused_until = self._clock() + (min(1.0, self._jitter()) if after is None else after)
        self.limit = max(1.0, self.limit / 2)
        self._good = 0
        self._epoch += 1

    def _break(self, permit: Permit, after: float | None) -> None:
        self._broken += 1
        if permit.epoch != self._epoch:
            self.down = self.down or self._broken >= max(_IN_A_ROW, self.limit)
            return
        self.down = self._broken >= _IN_A_ROW
        self._epoch += 1
        self._paused_until = self._clock() + max(self._jitter(), after or 0.0 if self.down else 0.0)

    def _jitter(self) -> float:
        pause = self._pause
        self._pause = min(_MAX_PAUSE_S, 2 * pause)
        return pause * random.uniform(0.75, 1.25)
