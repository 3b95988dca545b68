"""A judge behind an OpenAI-compatible chat endpoint: the teacher, or a served student."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from mira.config.settings import EndpointSettings
from mira.errors import ConfigError
from mira.judging.combine import combine, read_judgement
from mira.judging.judge import Judge, JudgeTask
from mira.judging.prompt import Prompt, UserPrompt
from mira.llm.answer import Answer, Failed, Patience
from mira.llm.client import Client
from mira.llm.cost import Spending
from mira.llm.failures import Failures
from mira.llm.journal.journal import Journal
from mira.llm.request import Request, about_tokens
from mira.llm.responses.reply import Reply
from mira.llm.stats import Stats
from mira.llm.transport import Transport
from mira.progress import Log, Quiet
from mira.rubric.judgement import Judgement
from mira.rubric.rubric import Rubric
from mira.run_folder.files import hash_json
from mira.tokens import tokenizer
from mira.unscored import Unscored

__all__ = ["EndpointJudge"]

_READING = 2  # raised when equal replies come to be read as other scores
_SHRINK = 0.8


@dataclass(slots=True)
class _Asked:
    """A task and what its samples have brought so far."""

    task: JudgeTask
    waiting: int
    replies: dict[int, Judgement] = field(default_factory=dict)
    first: Reply | None = None
    failures: dict[int, Unscored] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


class _Context(NamedTuple):
    """What is kept beside a request."""

    asked: _Asked
    sample: int
    notes: tuple[str, ...]


class EndpointJudge(Judge):
    """Judges records through an endpoint; every reply goes to the journal before it counts.

    Records are cut to fit `max_model_len` minus the reply before they are sent, and once more where the server finds
    them too long all the same. Where `settings.logprobs` brings log-probabilities, scores are expected scores; with
    several samples they are means. What the endpoint does not answer stays unscored, with the reason, and is asked
    again by the next run.

    Args:
        settings: The endpoint.
        rubric: The group's rubric.
        prompt: Its prompt; `settings.slot_order` does not matter here, the prompt has one.
        journal: Where replies are kept; open as long as the judge is used.
        transport: Another way to send requests; by default HTTP.
        spending: The cost guard of the run.
        patience: How long to wait for the endpoint.
        offline: Send nothing; records that the journal has no reply for are `not_recorded`.
        log: Where it says that it stops.

    Attributes:
        failures: What counts its judgements, and stops it when too many records stay unscored; None at first.

    Raises:
        ConfigError: `max_model_len` leaves no room for a prompt, or there is no such tokenizer.
        JudgeError: A base URL is none, or carries a key.
    """

    def __init__(
        self, settings: EndpointSettings, rubric: Rubric, prompt: Prompt, journal: Journal, *,
        transport: Transport | None = None, spending: Spending | None = None, patience: Patience | None = None,
        offline: bool = False, log: Log | None = None,
    ) -> None:  # fmt: skip
        self.failures: Failures | None = None
        self._log, self._noted = log or Quiet(), False
        self._settings, self._prompt = settings, prompt
        self._tokenizer = tokenizer(settings.tokenizer)
        self._room = settings.max_model_len - settings.max_tokens
        if self._room <= prompt.system_tokens(self._tokenizer):
            raise ConfigError(
                f"max_model_len {settings.max_model_len:,} leaves no room for a record: {settings.max_tokens:,} tokens "
                f"are for the reply and {prompt.system_tokens(self._tokenizer):,} for the rubric",
                "Raise max_model_len to what the server was started with, or lower max_tokens.",
            )
        self._client = Client(
            settings, journal, hash_json([rubric.hash, prompt.hash]), transport=transport, spending=spending,
            patience=patience, offline=offline, log=log,
        )  # fmt: skip
        self.n_slots = len(prompt.names)
        self.identity = hash_json(
            [self._client.identity, settings.samples, settings.max_model_len, self._tokenizer.identity, _READING]
        )

    @property
    def stats(self) -> Stats:
        """How the work is doing."""
        return self._client.stats

    @property
    def client(self) -> Client:
        """The client that sends its requests."""
        return self._client

    def judge(self, tasks: Iterable[JudgeTask]) -> Iterator[Judgement]:
        """Yield exactly one judgement a task, in any order, pulling tasks lazily.

        Raises:
            JudgeError: The endpoint cannot be used, or more records stay unscored than `failures` allows.
            SpendingStop: A cost or request limit was reached.
            RunError: The journal cannot be written.
        """
        answers = self._client.complete(self.requests(tasks))
        try:
            for answer in answers:
                judgement = self._take(answer)
                if judgement is None:
                    continue
                if self.failures is not None:
                    self.failures.add(judgement.reason_unscored, answer.asked.context.asked.first)
                yield judgement
        finally:
            answers.close()

    def requests(self, tasks: Iterable[JudgeTask]) -> Iterator[Request]:
        """Yield the requests that the tasks need: one a sample."""
        for task in tasks:
            asked = _Asked(task, self._settings.samples)
            user = self._prompt.user(task.record, task.replicate, self._room, self._tokenizer)
            for sample in range(self._settings.samples):
                yield self._request(asked, sample, user)

    def _request(self, asked: _Asked, sample: int, user: UserPrompt | None) -> Request:
        record, replicate = asked.task
        tag = f"{record.source}/{record.id}" + (f"#{replicate}.{sample}" if replicate or sample else "")
        if user is None:
            context = _Context(asked, sample, ())
            return Request.never_sent(Unscored.OVERFLOW, source=record.source, tag=tag, context=context)
        messages = [{"role": "system", "content": self._prompt.system}, {"role": "user", "content": user.text}]
        tokens = self._prompt.system_tokens(self._tokenizer) + about_tokens(user.text)

        def smaller(context_length: int | None) -> Request | None:
            cut = self._recut(asked.task, user, context_length)
            return None if cut is None else self._request(asked, sample, cut)

        return self._client.request(
            messages, index=(replicate, sample), tokens=tokens, source=record.source, tag=tag,
            context=_Context(asked, sample, user.notes), smaller=smaller,
        )  # fmt: skip

    def _recut(self, task: JudgeTask, user: UserPrompt, context_length: int | None) -> UserPrompt | None:
        """Cut a record that the server found too long: its tokenizer or its context differs from what we were told."""
        room = self._room if context_length is None else context_length - self._settings.max_tokens
        sent = self._prompt.system_tokens(self._tokenizer) + self._tokenizer.count([user.text])[0]
        room = int(_SHRINK * min(room, sent))
        if room <= self._prompt.system_tokens(self._tokenizer):
            return None
        return self._prompt.user(task.record, task.replicate, room, self._tokenizer)

    def _take(self, answer: Answer) -> Judgement | None:
        """Note one sample's answer; return the judgement when it was the last."""
        asked, sample, _ = answer.asked.context
        notes = answer.request.context.notes
        record, replicate = asked.task
        if isinstance(answer.result, Failed):
            asked.failures[sample] = answer.result.reason
            asked.notes = asked.notes or notes
        else:
            asked.first = asked.first or answer.result
            asked.replies[sample] = read_judgement(
                answer.result, self._prompt.names, id=record.id, source=record.source, replicate=replicate,
                judge=self.identity, notes=notes,
            )  # fmt: skip
            self._note_missing_logprobs(asked.replies[sample])
        asked.waiting -= 1
        if asked.waiting:
            return None
        if not asked.replies:
            return Judgement.unscored(
                record.id, record.source, self.n_slots, asked.failures[min(asked.failures)], replicate=replicate,
                judge=self.identity, notes=asked.notes,
            )  # fmt: skip
        return combine([asked.replies[s] for s in sorted(asked.replies)], failed=len(asked.failures))

    def _note_missing_logprobs(self, judgement: Judgement) -> None:
        if self._noted or not self._settings.logprobs or judgement.reason_unscored or judgement.raw_scores:
            return
        self._noted = True
        self._log.note(
            "  logprobs: true, but a reply came without log-probabilities of its scores that can be read: such scores "
            "stay the digits as written, not expected scores."
        )
