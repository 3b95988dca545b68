"""How a stream of requests is doing: for the live panel, the log and the manifest."""

import time
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Mapping
from typing import Any

from mira.progress import per_time

__all__ = ["Stats", "added"]

_WINDOW_S = 20.0
_EVERY_S = 0.5


class Stats:
    """Counts of one judge's work. Written by its threads, read by anyone.

    Attributes:
        total: Replies wanted, or None while unknown.
        done: Replies so far, and requests given up.
        from_journal: Replies among `done` that the journal already held.
        requests: HTTP requests sent.
        tokens_in: Prompt tokens of replies paid for in this run.
        tokens_out: Reply tokens paid for in this run.
        cost: What they cost.
        known_in: Prompt tokens of replies from the journal: paid for by an earlier command.
        known_out: Their reply tokens.
        known_cost: What they would cost at the prices of the settings.
        models: Model, in the server's words -> replies.
        cut_prompts: Requests made smaller because the server said that they did not fit.
        concurrency: Requests in flight.
        limit: Permits that the limiter allows now.
        waits: Why requests had to be sent again -> how often.
        failures: Source -> reason -> requests given up.
        first_failure: What the first request that was given up was about, and the server's words; "" for none.
    """

    def __init__(self, total: int | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self.total = total
        self.done = self.from_journal = self.requests = self.tokens_in = self.tokens_out = 0
        self.known_in = self.known_out = 0
        self.cost = self.known_cost = 0.0
        self.models: Counter[str] = Counter()
        self.cut_prompts = self.concurrency = self.limit = 0
        self.waits: Counter[str] = Counter()
        self.failures: defaultdict[str, Counter[str]] = defaultdict(Counter)
        self.first_failure = ""
        self._clock = clock
        self._samples: deque[tuple[float, int, int, int]] = deque([(clock(), 0, 0, 0)])
        self._line, self._line_at = "", -1.0

    def rates(self) -> tuple[float, float, float]:
        """Return (replies, prompt tokens, reply tokens) a second, over the last 20 seconds."""
        now = self._clock()
        if now - self._samples[-1][0] >= _EVERY_S:
            self._samples.append((now, self.done - self.from_journal, self.tokens_in, self.tokens_out))
        while len(self._samples) > 2 and now - self._samples[1][0] > _WINDOW_S:
            self._samples.popleft()
        then, asked, tokens_in, tokens_out = self._samples[0]
        seconds = max(now - then, 1e-3)
        paid = self.done - self.from_journal
        return (
            (paid - asked) / seconds,
            (self.tokens_in - tokens_in) / seconds,
            (self.tokens_out - tokens_out) / seconds,
        )

    @property
    def projected_cost(self) -> float | None:
        """What all of `total` will have cost in this run, or None while unknown."""
        paid = self.done - self.from_journal
        if self.total is None or not paid:
            return None
        return self.cost / paid * max(self.total - self.from_journal, paid)

    @property
    def failed(self) -> int:
        """Requests given up."""
        return sum(sum(counts.values()) for counts in self.failures.values())

    def line(self) -> str:
        """Return one short line, renewed twice a second at most, so it may be asked for after every record."""
        now = self._clock()
        if now - self._line_at >= _EVERY_S or self._line_at < 0:
            self._line, self._line_at = self._say(), now
        return self._line

    def _say(self) -> str:
        rate, tokens_in, tokens_out = self.rates()
        parts = [per_time(rate, " replies"), f"{tokens_in:,.0f}/{tokens_out:,.0f} tokens/s in/out"]
        parts.append(f"{self.concurrency}/{self.limit} in flight")
        if self.from_journal:
            parts.append(f"{self.from_journal:,} from the journal")
        if self.cost:
            projected = self.projected_cost
            parts.append(f"cost {self.cost:,.2f}" + (f" of about {projected:,.2f}" if projected else ""))
        reasons: Counter[str] = sum(self.failures.values(), Counter())
        parts += [f"{count:,} {reason}" for reason, count in reasons.most_common()]
        return " · ".join(parts)

    def summary(self) -> dict[str, Any]:
        """Return what belongs in the manifest."""
        return {
            "replies": self.done - self.failed,
            "from_journal": self.from_journal,
            "requests": self.requests,
            "retries": dict(sorted(self.waits.items())),
            "tokens_in": self.tokens_in,
            "tokens_out": self.tokens_out,
            "cost": round(self.cost, 6),
            "known_in": self.known_in,
            "known_out": self.known_out,
            "known_cost": round(self.known_cost, 6),
            "models": dict(sorted(self.models.items())),
            "cut_prompts": self.cut_prompts,
            "failures": {source: dict(counts) for source, counts in sorted(self.failures.items())},
        }


def added(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, Any]:
    """Return the sum of two summaries."""
    names = [*first, *(name for name in second if name not in first)]
    return {name: _sum(first.get(name), second.get(name)) for name in names}


def _sum(first: Any, second: Any) -> Any:
    if isinstance(first, Mapping) or isinstance(second, Mapping):
        return added(first or {}, second or {})
    return (first or 0) + (second or 0)
