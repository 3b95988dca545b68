"""Requests in, replies out: journalled, limited, retried and paid for, whatever the replies say.

Free judging, anchored judging and the quality raters of baselines are all streams of such requests.
"""

from collections import defaultdict
from collections.abc import Generator, Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

from mira.config.settings import EndpointSettings
from mira.llm.answer import Answer, Failed, Patience
from mira.llm.cost import Spending
from mira.llm.journal.journal import Journal
from mira.llm.request import Form, Message, Request, RequestBuilder, Shrink
from mira.llm.responses.reply import Reply
from mira.llm.sender import Sender
from mira.llm.session import Session
from mira.llm.stats import Stats
from mira.llm.transport import HttpTransport, Transport
from mira.progress import Log, Quiet
from mira.unscored import Unscored

__all__ = ["Client"]

_CHUNK = 256
_MAX_BYTES = 256 << 20


class Client:
    """A stream of requests to one model.

    Nothing is sent, and no key is needed, while the journal holds all replies.

    Args:
        settings: The endpoint.
        journal: Where replies are kept. It must be open as long as the caller is used.
        purpose: Hash of what the requests are for beyond their text, such as rubric and prompt; part of every key.
        transport: Another way to send requests; by default HTTP.
        spending: The cost guard, where it is shared with other callers.
        stats: What to count into.
        patience: How long to wait for an endpoint.
        offline: Send nothing: requests that the journal does not hold fail with NOT_RECORDED.
        log: Where it says why requests are sent again, that it stops, and that the journal is damaged.
        form: What kind of requests it makes; chat by default.

    Attributes:
        stats: Counts of this caller.
        journal: The journal.
        identity: Hash of endpoint, model, sampling, extra body and purpose.

    Raises:
        JudgeError: A base URL is none, or carries a key.
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

    def request(
        self, content: Sequence[Message] | str, *, index: Sequence[int] = (0, 0), tokens: int, source: str,
        tag: str = "", context: Any = None, smaller: Shrink | None = None,
    ) -> Request:  # fmt: skip
        """Return a request for one reply.

        Args:
            content: Chat messages, or a prompt, as the form wants it.
            index: (replicate, sample): independent replies to the same content have different ones.
            tokens: Prompt tokens, at least roughly: for the limiter and the cost guard.
            source: Source of the record it is about.
            tag: What it is about, for people.
            context: Whatever is wanted beside the reply.
            smaller: Gives a smaller request when the server has no room for this one; it is told the context length
                that the server named, or None, and returns None when there is no smaller one.
        """
        return self._builder.request(
            content, index=index, tokens=tokens, source=source, tag=tag, context=context, smaller=smaller
        )

    def complete(self, requests: Iterable[Request]) -> Generator[Answer, None, None]:
        """Yield exactly one answer a request, in any order.

        Requests are pulled lazily, in the calling thread: at most about twice `max_concurrency` and 1,024 more, or
        256 MB, are under way. Equal requests are sent once. When the iterator is closed or interrupted, replies in
        flight are waited for and journalled.

        Raises:
            JudgeError: The endpoint cannot be used.
            SpendingStop: A limit was reached. All answers there were have been yielded.
            RunError: The journal cannot be written.
        """
        stream = _Stream(self, requests)
        try:
            yield from stream
        finally:
            stream.close()

    def _open(self) -> Session:
        settings, urls = self.settings, self._builder.urls
        transport = self._transport or HttpTransport.of(settings, settings.max_concurrency, urls)

        async def find(key: bytes) -> Reply | None:
            return self.journal.find([key]).get(key)

        def sender() -> Sender:
            return Sender(
                settings, urls, transport,
                spending=self._spending, stats=self.stats, patience=self._patience, find=find,
                say=self._log.note,
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
        """Stop where the stream is: journal what is in flight."""
        if self._session is not None:
            self._client._log.note("  Stopping: waiting for replies in flight, which go to the journal.")
            self._session.stop()
            self._client._log.note(
                f"  Stopped. The journal holds {len(self._client.journal):,} replies, which are not asked for again."
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
                f"  {journal.folder}: {journal.damaged:,} damaged stretches; the replies in them are asked again."
            )

    def _say_failures(self) -> None:
        stats = self._client.stats
        if stats.first_failure:
            self._client._log.note(f"  Without a reply: {stats.failed:,} requests. The first, {stats.first_failure}")

    def _has_room(self) -> bool:
        ahead = 2 * self._client.settings.max_concurrency + 4 * _CHUNK
        return self._count < ahead and self._bytes < _MAX_BYTES

    def _read(self) -> Iterator[Answer]:
        """Read a chunk of requests; yield those that need not be sent, send the others."""
        chunk = list(islice(self._requests, _CHUNK))
        self._all_read = len(chunk) < _CHUNK
        known = self._client.journal.find({r.key for r in chunk if not r.unsendable})
        stats = self._client.stats
        missing = []
        for request in chunk:
            if request.key in known:
                stats.from_journal += 1
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
        return answer
