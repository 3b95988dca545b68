"""The cost of judging: estimated before it starts, limited while it runs."""

import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

from mira.config.settings import EndpointSettings, TeacherSettings
from mira.errors import JudgeError
from mira.llm.request import Request, about_tokens
from mira.llm.responses.reply import Reply
from mira.llm.responses.usage import billed_tokens
from mira.llm.stats import Stats
from mira.sharing.worker import this_worker
from mira.tokens import tokenizer

__all__ = [
    "Estimate",
    "Spending",
    "SpendingStop",
    "current_spending",
    "estimate",
    "price",
    "recall",
    "reply_tokens",
    "shared_spending",
]


class SpendingStop(JudgeError):
    """The cost or request limit was reached. All paid replies are in the journal; a rerun continues from there."""


def price(settings: EndpointSettings, tokens_in: int, tokens_out: int) -> float:
    """Return the price of a number of tokens."""
    return (tokens_in * settings.price_in + tokens_out * settings.price_out) / 1e6


def reply_tokens(settings: EndpointSettings, request: Request, reply: Reply) -> tuple[int, int]:
    """Return the prompt and reply tokens to pay for a reply; see `billed_tokens`. Pooling models generate none."""
    if request.form is not None and request.form.pooling:
        return billed_tokens((reply.tokens_in, 0), request.tokens, "", 0)

    def count(text: str) -> int:  # exactly only where tokens cost something
        return tokenizer(settings.tokenizer).count([text])[0] if settings.price_out else about_tokens(text)

    usage, shown = (reply.tokens_in, reply.tokens_out), reply.text + reply.reasoning
    return billed_tokens(usage, request.tokens, shown, settings.max_tokens, count)


def recall(stats: Stats, settings: EndpointSettings, request: Request, reply: Reply) -> None:
    """Count a reply from the journal: an earlier command paid for it."""
    tokens_in, tokens_out = reply_tokens(settings, request, reply)
    stats.from_journal += 1
    stats.known_in += tokens_in
    stats.known_out += tokens_out
    stats.known_cost += price(settings, tokens_in, tokens_out)


class Spending:
    """The cost guard of one run, shared by all of its judges; thread-safe.

    A request reserves the most it can cost (its prompt and `max_tokens` of reply) before it is sent and pays the
    reply's real usage afterwards, so the limit holds even if every reply in flight has the maximum length. A request
    that times out pays its prompt, and a failed generation pays the usage that the server reports.

    Args:
        max_cost: Most that may be spent, or None.
        max_requests: Most requests that may be sent, or None.
    """

    def __init__(self, max_cost: float | None = None, max_requests: int | None = None) -> None:
        self.max_cost, self.max_requests = max_cost, max_requests
        self.cost, self.requests = 0.0, 0
        self._reserved = 0.0
        self._guard = threading.Lock()

    def reserve(self, most: float) -> bool:
        """Set `most` aside for a request that is about to be sent; False when that would break a limit."""
        with self._guard:
            if self.max_requests is not None and self.requests >= self.max_requests:
                return False
            if self.max_cost is not None and self.cost + self._reserved + most > self.max_cost:
                return False
            self.requests += 1
            self._reserved += most
            return True

    def pay(self, reserved: float, cost: float) -> None:
        """Replace a reservation by the real cost of the request."""
        with self._guard:
            self._reserved -= reserved
            self.cost += cost

    def stop(self) -> SpendingStop:
        """Return the error that names the limit and how to continue."""
        if self.max_requests is not None and self.requests >= self.max_requests:
            what, option = f"max_requests: {self.requests:,} requests were sent", "--max-requests"
        else:
            what, option = f"max_cost: {self.cost:,.4f} of {self.max_cost:,.4f} is spent", "--max-cost"
        return SpendingStop(
            f"stopped at {what}",
            f"All replies are in the journal. Run the same command again with a higher {option} to go on from here.",
        )


_SHARED: ContextVar[Spending | None] = ContextVar("spending", default=None)


@contextmanager
def shared_spending(settings: TeacherSettings) -> Iterator[None]:
    """Make all judges that are opened inside share one cost guard: the limits are a command's, not a stage's.

    Of several workers, each has its share of the limits.
    """
    token = _SHARED.set(_spending(settings))
    try:
        yield
    finally:
        _SHARED.reset(token)


def current_spending(settings: TeacherSettings) -> Spending:
    """Return the shared cost guard, or one of its own outside `shared_spending`."""
    return _SHARED.get() or _spending(settings)


def _spending(settings: TeacherSettings) -> Spending:
    """Return a cost guard with a worker's share of the limits."""
    worker = this_worker()
    cost = None if settings.max_cost is None else settings.max_cost / worker.of
    return Spending(cost, None if settings.max_requests is None else worker.share(settings.max_requests))


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a set of records will cost to judge.

    Attributes:
        requests: Requests to send.
        tokens_in: Prompt tokens.
        tokens_out: Reply tokens: expected where a reply's length is known, otherwise `max_tokens` a request.
        cost: In the currency of the settings' prices.
        most: The same if every reply were `max_tokens` long.
    """

    requests: int
    tokens_in: int
    tokens_out: int
    cost: float
    most: float


def estimate(
    settings: EndpointSettings, prompt_tokens: Iterable[int], *, records: int | None = None, reply_tokens: float = 0
) -> Estimate:
    """Estimate the cost of judging.

    Args:
        settings: The endpoint, with prices and samples a record.
        prompt_tokens: Prompt tokens of the records, or of a sample of them.
        records: How many records there are, where `prompt_tokens` is a sample.
        reply_tokens: Mean reply tokens, where known; 0 takes `max_tokens`.
    """
    measured = list(prompt_tokens)
    count = len(measured) if records is None else records
    mean = sum(measured) / len(measured) if measured else 0.0
    requests = count * settings.samples
    tokens_in = round(mean * requests)
    tokens_out = round((reply_tokens or settings.max_tokens) * requests)
    most = price(settings, tokens_in, settings.max_tokens * requests)
    return Estimate(requests, tokens_in, tokens_out, price(settings, tokens_in, tokens_out), most)
