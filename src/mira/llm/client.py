"""Requests in, replies out: journalled, rate-limited, retried and charged.

Free judging, anchored judging and the quality raters of baselines are all streams of such requests.
"""

from collections import defaultdict
from collections.abc import Generator, Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

from mira.config.settings import EndpointSettings
from mira.llm.answer import Answer, Failed, Patience
from mira.llm.cost import Spending, recall
from mira.llm.journal.journal import Journal
from mira.llm.request import Form, Message, Request, RequestBuilder, Shrink
from mira.llm.responses.reply import Reply
from mira.llm.sender import Sender
from mira.llm.session import Session
from mira.llm.stats import Stats
from mira.llm.transport import HttpTransport, Transport
from mira.progress import Log, Quiet
from mira.sharing.lease import check_leases
from mira.sharing.worker import Worker, this_worker
from mira.unscored import Unscored

__all__ = ["Client"]

_CHUNK = 256
_MAX_BYTES = 256 << 20


class Client:
    """A stream of requests to one model.

    Nothing is sent, and no key is needed, while the journal holds all replies.

    Args:
        settings: The endpoint.
        journal: Where replies are kept. It must be open as long as the client is used.
        purpose: Hash of the purpose of the requests beyond their text, such as rubric and prompt; part of every key.
        transport: Another way to send requests; by default HTTP.
        spending: The cost guard, if it is shared with other clients.
        stats: What to count into.
        patience: How long to wait for an endpoint.
        offline: Send nothing: requests that the journal does not hold fail with NOT_RECORDED.
        log: Takes notes on retries, stops and damage to the journal.
        form: What kind of requests it makes; chat by default.

    Attributes:
        stats: Counts of this client.
        most: Requests in flight at most: this worker's share of `max_concurrency`.
        journal: The journal.
        identity: Hash of endpoint, model, sampling, extra body and purpose.

    Raises:
        JudgeError: A base URL is not valid, or carries a key.
    """

    def __init__(
        self, settings: EndpointSettings, journal: Journal, purpose: str = "", *, transport: Transport | None = None,
        spending: Spending | None = None, stats: Stats | None = None, patience: Patience | None = None,
        offline: bool = False, log: Log | None = None, form: Form | None = None,
    ) -> None:  # fmt: skip
        self.settings, self.journal = settings, journal
        self.stats = stats or Stats()
        self._builder = RequestBuilder(settings, purpose, form)
        self.identity = self._builder.identity
        self._transport, self._spending = transport, spending or Spending()
        self._patience, self._offline, self._log = patience or Patience(), offline, log or Quiet()
        if journal.recovered:
            self._log.note(f"  {journal.folder}: put there what a stopped process had left on this machine.")
            journal.recovered = 0
        self._worker = Worker(this_worker().index, settings.shared_by or this_worker().of)
        self.most = max(1, self._worker.share(settings.max_concurrency))

    def request(
        self, content: Sequence[Message] | str, *, index: Sequence[int] = (0, 0), tokens: int, source: str,
        tag: str = "", context: Any = None, smaller: Shrink | None = None,
    ) -> Request:  # fmt: skip
        """Return a request for one reply.

        Args:
            content: Chat messages or a prompt, as the form requires.
            index: (replicate, sample): independent replies to the same content have different ones.
            tokens: Prompt tokens, at least roughly, for the limiter and the cost guard.
            source: Source of the record it is about.
            tag: Its subject, for people.
            context: Any object to return beside the reply.
            smaller: Makes a smaller request when the server has no room for this one. It takes the context length that
                the server named, or None, and returns None if a smaller request is not possible.
        """
        return self._builder.request(
            content, index=index, tokens=tokens, source=source, tag=tag, context=context, smaller=smaller
        )

    def complete(self, requests: Iterable[Request]) -> Generator[Answer, None, None]:
        """Yield exactly one answer per request, in any order.

        Requests are pulled lazily, in the calling thread: at most about twice `max_concurrency` and 1,024 more, or
        256 MB, are under way. Equal requests are sent once. When the iterator is closed or interrupted, replies in
        flight are waited for and journalled.

        Raises:
            JudgeError: The endpoint cannot be used.
            SpendingStop: A limit was reached. All answers so far have been yielded.
            RunError: The journal cannot be written.
            LeaseLost: A lease under which this thread works was lost.
        """
        stream = _Stream(self, requests)
        try:
            yield from stream
        finally:
            stream.close()

    def _open(self) -> Session:
        settings, urls = self.settings, self._builder.urls
        transport = self._transport or HttpTransport.of(settings, self.most, urls)

        async def find(key: bytes) -> Reply | None:
            return self.journal.find([key]).get(key)

        def sender() -> Sender:
            return Sender(
                settings, urls, transport,
                spending=self._spending, stats=self.stats, patience=self._patience, find=find,
                say=self._log.note, maximum=self.most, workers=self._worker.of,
            )  # fmt: skip

        return Session(sender, transport, self.journal, self._patience.drain_s)


class _Stream:
    """One call of `complete`."""

    def __init__(self, client: Client, requests: Iterable[Request]) -> None:
        self._client, self._requests = client, iter(requests)
        self._session: Session | None = None
        self._asked: defaultdict[bytes, list[Request]] = defaultdict(list)  # under way; equal requests share a key
        self._count = self._bytes = 0
        self._all_read = False

    def __iter__(self) -> Iterator[Answer]:
        while not self._all_read or self._count:
            while not self._all_read and self._has_room():
                yield from self._read()
                yield from self._take(block=False)
            if self._count:
                yield from self._take(block=True)
        self._finish()

    def close(self) -> None:
        """Stop early, and journal the replies still in flight."""
        if self._session is not None:
            self._client._log.note("  Stopping: waiting for replies in flight; they are saved to the journal.")
            self._session.stop()
            journal = self._client.journal
            self._client._log.note(
                f"  Stopped. The journal holds {len(journal):,} replies, which are not requested again. "
                f"{journal.seal()}".rstrip()
            )
            self._session = None
            self._say_failures()

    def _finish(self) -> None:
        if self._session is not None:
            self._session.stop()
            self._session = None
            self._say_failures()
        journal = self._client.journal
        if journal.damaged:
            self._client._log.note(
                f"  {journal.folder}: {journal.damaged:,} damaged stretches; the replies in them are requested again."
            )

    def _say_failures(self) -> None:
        stats = self._client.stats
        if stats.first_failure:
            self._client._log.note(f"  Without a reply: {stats.failed:,} requests. The first, {stats.first_failure}")

    def _has_room(self) -> bool:
        ahead = 2 * self._client.most + 4 * _CHUNK
        return self._count < ahead and self._bytes < _MAX_BYTES

    def _read(self) -> Iterator[Answer]:
        """Read a chunk of requests; answer those that need not be sent, and send the others."""
        check_leases()
        chunk = list(islice(self._requests, _CHUNK))
        self._all_read = len(chunk) < _CHUNK
        known = self._client.journal.find({r.key for r in chunk if not r.unsendable})
        stats = self._client.stats
        missing = []
        for request in chunk:
            if request.key in known:
                recall(stats, self._client.settings, request, known[request.key])
                yield self._counted(Answer(request, request, known[request.key]))
            elif request.unsendable or self._client._offline:
                failed = Failed(request.unsendable or Unscored.NOT_RECORDED, "not sent", 0)
                yield self._counted(Answer(request, request, failed))
            else:
                if request.key not in self._asked:
                    missing.append(request)
                self._asked[request.key].append(request)
                self._count += 1
                self._bytes += len(request.body)
        if missing:
            self._session = self._session or self._client._open()
            self._session.submit(missing)

    def _take(self, *, block: bool) -> Iterator[Answer]:
        check_leases()
        if self._session is None:
            return
        for answer in self._session.answers(block=block):
            asked = self._asked.pop(answer.asked.key)
            self._count -= len(asked)
            self._bytes -= sum(len(r.body) for r in asked)
            for request in asked:
                sent = request if answer.request is answer.asked else answer.request
                yield self._counted(Answer(request, sent, answer.result))

    def _counted(self, answer: Answer) -> Answer:
        stats = self._client.stats
        stats.done += 1
        if isinstance(answer.result, Failed):
            stats.failures[answer.asked.source][str(answer.result.reason)] += 1
            if answer.result.attempts and not stats.first_failure:
                stats.first_failure = f"{answer.asked.tag or answer.asked.source}: {answer.result.detail}"
        else:
            stats.models[answer.result.model or self._client.settings.model] += 1
        return answer
