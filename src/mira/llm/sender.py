"""One request, from its permit to its answer: retries, budget, and the point where an endpoint is given up."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable

from mira.config.settings import EndpointSettings
from mira.errors import JudgeError
from mira.llm.answer import Answer, Failed, Patience
from mira.llm.cost import Spending, price, recall, reply_tokens
from mira.llm.limiter import Outcome, Permit, permits
from mira.llm.replicas import Replica, ReplicaPool
from mira.llm.request import Request
from mira.llm.responses.reply import Reply
from mira.llm.responses.response import Busy, Rejected, Retryable, Unusable, Verdict, listed_models, verdict
from mira.llm.responses.usage import billed_tokens
from mira.llm.stats import Stats
from mira.llm.transport import Lost, TimedOut, TooLarge, Transport
from mira.unscored import Unscored
from mira.urls import join_url, shown_url

__all__ = ["Sender", "Withdrawn"]

_MAX_BACKOFF_S = 30.0
_REJECTIONS = 20
_NOT_COMPLETIONS = 8
_REFUSED, _REFUSED_S = 3, 20.0
_ERRORS_UNDER_200_S = 60.0
_NOTE_EVERY_S = 60.0
_BUSY_TRIES = 10


class Withdrawn(Exception):
    """The work is being stopped; this request is not sent (again)."""


class Sender:
    """Sends requests; lives in one event loop.

    Args:
        settings: The endpoint.
        urls: Its base URLs.
        transport: How requests are sent.
        spending: The cost guard.
        stats: Counted up.
        patience: How long to wait.
        find: Looks a key up in the journal.
        say: Called at most once per minute and cause with the reason why requests are sent again.
        maximum: Permits at most; by default, `max_concurrency` of the settings.
        workers: How many processes ask the endpoint at once.

    Attributes:
        flying: Tasks whose request is at the server.
        closing: Set to stop sending.
    """

    def __init__(
        self, settings: EndpointSettings, urls: list[str], transport: Transport, *, spending: Spending, stats: Stats,
        patience: Patience, find: Callable[[bytes], Awaitable[Reply | None]], say: Callable[[str], None],
        maximum: int = 0, workers: int = 1,
    ) -> None:  # fmt: skip
        self._settings, self._urls, self._transport = settings, urls, transport
        self._spending, self._stats, self._patience, self._find = spending, stats, patience, find
        self._pool = ReplicaPool(urls, maximum or settings.max_concurrency, workers)
        self._shown = ", ".join(map(shown_url, urls))
        self._returned = asyncio.Event()
        self._say = say
        self._rejected = 0
        self._not_completions = 0  # such answers since the last reply
        self._replied = False
        self._refused: set[bytes] = set()  # requests that were refused as Unusable since the last reply
        self._refused_since = 0.0
        self._noted_at: dict[str, float] = {}
        self.flying: set[asyncio.Task[None]] = set()
        self.closing = False

    async def answer(self, asked: Request) -> Answer:
        """Return what comes of a request; asked once more, smaller, when the server has no room for it.

        Raises:
            JudgeError: The endpoint cannot be used at all, or the spending limit is reached.
            Withdrawn: The work is being stopped.
        """
        result = await self._ask(asked)
        if not (isinstance(result, Rejected) and result.reason is Unscored.OVERFLOW and asked.smaller):
            return _answer(asked, asked, result)
        request = asked.smaller(result.context)
        if request is None:
            return _answer(asked, asked, result)
        self._stats.cut_prompts += 1
        if (known := await self._find(request.key)) is not None:
            recall(self._stats, self._settings, request, known)
            return Answer(asked, request, known)
        return _answer(asked, request, await self._ask(request))

    async def _ask(self, request: Request) -> Reply | Rejected | Failed:
        tries = busy = 0
        while True:
            replica, result = await self._send(request)
            if isinstance(result, Reply):
                self._rejected, self._not_completions, self._replied = 0, 0, True
                self._refused.clear()
                return result
            if isinstance(result, Rejected):
                self._count_rejection(replica, result)
                return result
            if isinstance(result, Unusable):
                if self._is_refused(request, result, tries):
                    raise await self._unusable(replica, result)
                result = Retryable(f"HTTP {result.status}", result.detail)
            if self.closing:
                raise Withdrawn
            self._check_not_a_completion(replica, result)
            self._check_silence(replica, result)
            self._note_trouble(replica, result)
            # A 429 speaks of the crowd, not of this request, so it may be sent again more often.
            busy, tries = (busy + 1, tries) if isinstance(result, Busy) else (busy, tries + 1)
            if tries > self._settings.max_retries or busy > _BUSY_TRIES * (self._settings.max_retries + 1):
                return Failed(Unscored.ENDPOINT_ERROR, _describe(result), tries + busy)
            await asyncio.sleep(self._backoff(tries + busy, result.after))

    def _backoff(self, tries: int, after: float | None) -> float:
        longest = min(_MAX_BACKOFF_S, self._patience.backoff_s * 2.0 ** (tries - 1))
        return max(after or 0.0, longest * random.uniform(0.5, 1.0))

    async def _send(self, request: Request) -> tuple[Replica, Verdict]:
        most = price(self._settings, request.tokens, self._settings.max_tokens)
        replica, permit = await self._acquire(request, most)
        task = asyncio.current_task()
        assert task is not None
        self.flying.add(task)
        stats = self._stats
        stats.requests, stats.concurrency, stats.limit = stats.requests + 1, len(self.flying), self._pool.limit
        outcome, after, cost = Outcome.CANCELLED, None, 0.0
        try:
            result = await self._post(replica, request)
            outcome, after = _outcome(result)
            cost = self._count(request, result)
            return replica, result
        finally:
            self.flying.discard(task)
            stats.concurrency = len(self.flying)
            self._spending.pay(most, cost)
            self._pool.give(replica, permit, outcome, after)
            self._returned.set()

    async def _acquire(self, request: Request, most: float) -> tuple[Replica, Permit]:
        while not self.closing:
            replica, permit = await self._pool.acquire(permits(request.tokens))
            if not self.closing and self._spending.reserve(most):
                return replica, permit
            self._pool.give(replica, permit, Outcome.CANCELLED)
            if not self.flying:  # nothing will come back and cost less than was reserved
                raise self._spending.stop()
            self._returned.clear()
            await self._returned.wait()
        raise Withdrawn

    async def _post(self, replica: Replica, request: Request) -> Verdict:
        assert request.form is not None, "unsendable requests are not sent"
        url = request.form.url(replica.url)
        try:
            response = await self._transport.post(url, request.body, self._settings.timeout_s)
            return verdict(response, request.form.read, request.body)
        except TimedOut as error:
            return Retryable("timeout", str(error))
        except TooLarge as error:
            return Retryable(
                "too large", f"{replica.shown} sent a response that is {error}", not_a_completion=str(error)
            )
        except Lost as error:
            return Retryable("connection", f"no connection to {replica.shown} ({error})")

    def _count(self, request: Request, result: Verdict) -> float:
        """Count a response and return what it costs."""
        if isinstance(result, Reply):
            return self._bill(*reply_tokens(self._settings, request, result))
        if isinstance(result, Busy | Retryable):
            self._stats.waits[result.what if isinstance(result, Retryable) else "HTTP 429"] += 1
            if _timed_out(result):
                return price(self._settings, request.tokens, 0)
        if isinstance(result, Retryable | Rejected) and any(result.usage):
            most = self._settings.max_tokens
            return self._bill(*billed_tokens(result.usage, request.tokens, "", most))
        return 0.0

    def _bill(self, tokens_in: int, tokens_out: int) -> float:
        cost = price(self._settings, tokens_in, tokens_out)
        self._stats.tokens_in += tokens_in
        self._stats.tokens_out += tokens_out
        self._stats.cost += cost
        return cost

    def _count_rejection(self, replica: Replica, result: Rejected) -> None:
        """Stop if the endpoint rejects everything: the settings are wrong, not the records."""
        if result.reason is not Unscored.ENDPOINT_ERROR:
            return
        self._rejected += 1
        if self._rejected >= _REJECTIONS:
            raise JudgeError(
                f"{replica.shown} rejected {self._rejected} requests in a row: {result.detail}",
                "Check model, temperature, max_tokens and extra_body (null removes a field).",
            )

    def _is_refused(self, request: Request, result: Unusable, tries: int) -> bool:
        """Whether the endpoint refuses every request.

        Before the first answer one refusal shows it. Later a gateway may refuse for a moment, and a firewall single
        records, so some requests must be refused for a while with no reply in between.
        """
        if not self._pool.answered or result.status not in {401, 403, 404}:
            return True
        now = time.monotonic()
        if not self._refused:
            self._refused_since = now
        self._refused.add(request.key)
        if result.status == 401 and tries >= self._settings.max_retries:
            return True
        return len(self._refused) >= _REFUSED and now - self._refused_since > _REFUSED_S

    async def _unusable(self, replica: Replica, result: Unusable) -> JudgeError:
        name = self._settings.api_key_env
        if result.status == 404:
            hint = f"Check base_url (it usually ends in /v1) and the model {self._settings.model!r}. "
            hint += await self._models(replica)
        elif result.status in {401, 403}:
            hint = f"Check the key in ${name}." if name else "Name the variable that holds the key in api_key_env."
        elif result.status in {402, 429}:
            hint = "The account has no credit or quota left. Add credit, then run the same command again to continue."
        else:
            key = f"the key in ${name}" if name else "the key"
            hint = f"Check {key}, the model {self._settings.model!r} and the account's credit, then run again."
        return JudgeError(f"{replica.shown} cannot be used: {result.detail}", hint.strip())

    async def _models(self, replica: Replica) -> str:
        try:
            names = sorted(listed_models(await self._transport.get(join_url(replica.url, "/models"), 10.0)))
        except (Lost, TimedOut, ValueError):
            return ""
        return f"It offers: {', '.join(names[:10])}." if names else ""

    def _check_not_a_completion(self, replica: Replica, result: Busy | Retryable) -> None:
        """Stop if the URL never responds with a completion, instead of retrying for ever."""
        if not isinstance(result, Retryable) or not result.not_a_completion:
            return
        self._not_completions += 1
        if self._not_completions >= _NOT_COMPLETIONS and (not self._replied or self._pool.silent_s > _REFUSED_S):
            raise JudgeError(
                f"{replica.shown} does not answer these requests: its response is {result.not_a_completion}",
                "Check base_url (it usually ends in /v1), and that no login page or proxy answers in its place.",
            )

    def _note_trouble(self, replica: Replica, result: Busy | Retryable) -> None:
        """Report trouble: while all requests are retried, nothing else would show it."""
        what, now = result.what if isinstance(result, Retryable) else "HTTP 429", time.monotonic()
        if now - self._noted_at.get(what, -_NOTE_EVERY_S) >= _NOTE_EVERY_S:
            self._noted_at[what] = now
            self._say(f"  {replica.shown}: {_describe(result)}; sent again so far: {self._stats.waits[what]:,}")

    def _check_silence(self, replica: Replica, result: Busy | Retryable) -> None:
        patience = self._patience
        if (result.after or 0.0) > patience.outage_s:
            raise JudgeError(
                f"{replica.shown} asks to wait for {result.after:,.0f} s", "Run the same command again after that time."
            )
        limit = patience.outage_s
        if _timed_out(result):
            limit = max(limit, self._settings.timeout_s * (self._settings.max_retries + 1))
        elif isinstance(result, Retryable) and result.what == "connection" and not self._pool.answered:
            limit = patience.start_s
        elif isinstance(result, Retryable) and result.what.startswith("HTTP 200"):
            limit = min(limit, _ERRORS_UNDER_200_S)
        if self._pool.silent_s > limit:
            raise JudgeError(
                f"no reply from {self._shown} for {self._pool.silent_s:,.0f} s: {_describe(result)}",
                f"{_hint(result)} Paid replies are in the journal: run the same command again to continue.",
            )


def _answer(asked: Request, request: Request, result: Reply | Rejected | Failed) -> Answer:
    if isinstance(result, Rejected):
        return Answer(asked, request, Failed(result.reason, result.detail, 1))
    return Answer(asked, request, result, fresh=isinstance(result, Reply))


def _outcome(result: Verdict) -> tuple[Outcome, float | None]:
    if isinstance(result, Busy):
        return Outcome.BUSY, result.after
    if isinstance(result, Retryable):
        return Outcome.SLOW if _timed_out(result) else Outcome.BROKEN, result.after
    # An endpoint that has turned unusable is left out like a dead one.
    return (Outcome.BROKEN if isinstance(result, Unusable) else Outcome.OK), None


def _hint(result: Busy | Retryable) -> str:
    if isinstance(result, Retryable) and not result.what.startswith("HTTP"):
        return "Is the server running?"
    return "The server responds, with this error."


def _timed_out(result: Busy | Retryable) -> bool:
    return isinstance(result, Retryable) and result.what == "timeout"


def _describe(result: Busy | Retryable) -> str:
    return result.detail if isinstance(result, Retryable) else "HTTP 429, too many requests"
