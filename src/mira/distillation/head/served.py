"""A head behind a server: `vllm serve BUNDLE --runner pooling`, asked with `POST /classify`."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import orjson

from mira.config.settings import EndpointSettings
from mira.distillation.head.bundle import HeadBundle, read_head
from mira.distillation.head.reading import Reader
from mira.distillation.head.targets import back
from mira.distillation.scores import judged
from mira.errors import ConfigError, JudgeError
from mira.judging.judge import Judge, JudgeTask
from mira.llm.answer import Answer, Failed
from mira.llm.client import Client
from mira.llm.journal.journal import Journal
from mira.llm.request import Form, Request, base_urls
from mira.llm.responses.reply import Reply
from mira.llm.responses.usage import read_usage
from mira.rubric.judgement import Judgement
from mira.run_folder.files import hash_json
from mira.urls import shown_url

__all__ = ["CLASSIFY", "ServedHead", "is_softmax", "served_head_settings"]

_READING = 1  # raised when equal replies come to be read as other scores
_SHRINK = 0.8
_DIGITS = 5
_SOFTMAX = 1e-3
"""Rows of numbers from 0 to 1 whose sum is this near to 1 are a softmax, whatever precision it ran in (ours)."""
_NEAR = 0.15
"""A server's raw outputs may differ by this much from the bundle's: bfloat16 costs some hundredths (ours)."""
_NO_SOFTMAX = (
    "The server puts a softmax over the slots, and its numbers rank nothing. Serve the bundle with its own "
    'config.json (problem_type: "regression"), by a vLLM whose /classify obeys use_activation: false.'
)


def is_softmax(row: Iterable[float]) -> bool:
    """Tell whether numbers are probabilities that sum to 1."""
    values = list(row)
    return len(values) > 1 and all(0 <= v <= 1 for v in values) and abs(sum(values) - 1) < _SOFTMAX


def _fields(settings: EndpointSettings) -> dict[str, Any]:
    return {"model": settings.model, "use_activation": False}


def _numbers(body: Mapping[str, Any]) -> Reply:
    """Read a response of /classify; `probs` holds raw outputs, whatever its name says."""
    try:
        (found,) = body["data"]
        values = [round(float(v), _DIGITS) for v in found["probs"]]
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"not a response of /classify: {error!r}") from None
    tokens_in, _ = read_usage(body.get("usage"))
    return Reply(orjson.dumps(values).decode(), tokens_in=tokens_in, model=str(body.get("model") or ""))


def _read(body: Mapping[str, Any]) -> Reply:
    reply = _numbers(body)
    if is_softmax(orjson.loads(reply.text)):
        raise ValueError(f"a softmax over the slots, and not their scores. {_NO_SOFTMAX} It sent")
    return reply


CLASSIFY = Form("/classify", "input", _fields, _read, pooling=True)


class _Context(NamedTuple):
    task: JudgeTask
    notes: tuple[str, ...]


def served_head_settings(bundle: HeadBundle, settings: EndpointSettings) -> EndpointSettings:
    """Return an endpoint's settings, completed by what the bundle knows.

    The hash of its weights stands for what is served, so that replies of other weights behind the same URL are never
    taken for this student's. A pooling model generates nothing that `price_out` could be for.

    Raises:
        ConfigError: A setting is given that has no meaning for a head.
    """
    wrong = [name for name, off in (("samples", 1), ("logprobs", False)) if getattr(settings, name) != off]
    if wrong:
        raise ConfigError(
            f"the endpoint of a head: {', '.join(wrong)}: without effect on a model that writes nothing", "Take it out."
        )
    known: dict[str, Any] = {"identity": f"head:{bundle.identity}"}
    given = settings.model_fields_set
    return settings.model_copy(update={k: v for k, v in known.items() if k not in given} | {"price_out": 0.0})


class ServedHead(Judge):
    """A head that an endpoint serves; every reply goes to the journal before it counts.

    Before the first record, the server is asked about the bundle's own check text: what comes back must be what the
    bundle gives.

    Args:
        folder: Its bundle.
        settings: The endpoint.
        journal: Where replies are kept; open as long as the judge is used.
        options: Passed to `Client`: transport, spending, patience, offline, log.

    Raises:
        InputError: The folder is not a bundle of kind "head".
        ConfigError: The endpoint's settings do not fit a head.
        JudgeError: A base URL is not valid, or carries a key.
    """

    def __init__(self, folder: Path, settings: EndpointSettings, journal: Journal, **options: Any) -> None:
        self.bundle = read_head(folder)
        self.rubric, self.n_slots = self.bundle.rubric, self.bundle.n_slots
        self._settings = served_head_settings(self.bundle, settings)
        self._reader = Reader(folder / "tokenizer.json", self.bundle.max_length)
        self._client = Client(self._settings, journal, self.bundle.identity, form=CLASSIFY, **options)
        self._options, self._checked = options, False
        self.identity = hash_json([self.bundle.identity, self._client.identity, _READING])

    @property
    def client(self) -> Client:
        """The client that sends its requests."""
        return self._client

    def judge(self, tasks: Iterable[JudgeTask]) -> Iterator[Judgement]:
        """Yield exactly one judgement per task, in any order, pulling tasks lazily.

        Raises:
            JudgeError: The endpoint cannot be used, serves another model, or puts a softmax over the slots; or more
                records stay unscored than `failures` allows.
            SpendingStop: A cost or request limit was reached.
            RunError: The journal cannot be written.
        """
        if not self._checked:
            self._check()
        answers = self._client.complete(self._request(task) for task in tasks)
        try:
            for answer in answers:
                judgement = self._take(answer)
                if self.failures is not None:
                    first = answer.result if isinstance(answer.result, Reply) else None
                    self.failures.add(judgement.reason_unscored, first)
                yield judgement
        finally:
            answers.close()

    def requests(self, tasks: Iterable[JudgeTask]) -> Iterator[Request]:
        """Refuse: batch files are for chat endpoints.

        Raises:
            ConfigError: Always.
        """
        raise ConfigError("the requests of a head cannot be exported: batch files have no /classify", "Run: mira score")

    def _check(self) -> None:
        """Ask about the check text; a wrong answer raises before it reaches the journal."""
        form = replace(CLASSIFY, read=self._read_check)
        client = Client(
            self._settings, self._client.journal, self.bundle.identity, form=form, stats=self._client.stats,
            **self._options,
        )  # fmt: skip
        text, _ = self.bundle.probe
        request = client.request(text, tokens=len(text) // 3, source="", tag="check")
        for _ in client.complete([request]):  # why there is no answer, if so, is noted, and the records will tell
            self._checked = True

    def _read_check(self, body: Mapping[str, Any]) -> Reply:
        reply = _numbers(body)
        row, expected = orjson.loads(reply.text), self.bundle.probe[1]
        where = ", ".join(map(shown_url, base_urls(self._settings, CLASSIFY)))
        if is_softmax(row):
            raise JudgeError(f"{where}: the head's numbers are between 0 and 1 and sum to 1", _NO_SOFTMAX)
        serve = f"Serve this bundle: vllm serve {self.bundle.folder} --runner pooling"
        if len(row) != len(expected):
            raise JudgeError(f"{where}: answers with {len(row)} numbers, the bundle has {len(expected)}", serve)
        off = float(np.abs(np.array(row) - np.array(expected)).max())
        if not off <= _NEAR:
            raise JudgeError(
                f"{where}: does not serve {self.bundle.folder}: on the bundle's check text its numbers are off by "
                f"{off:.2g}",
                serve,
            )
        return reply

    def _request(self, task: JudgeTask, max_length: int | None = None) -> Request:
        record = task.record
        reading = self._reader.read(record, max_length)

        def smaller(context: int | None) -> Request | None:
            room = int(_SHRINK * min(context or len(reading.ids), len(reading.ids)))
            return self._request(task, room) if room >= 64 else None

        return self._client.request(
            reading.text, index=(task.replicate, 0), tokens=len(reading.ids), source=record.source,
            tag=f"{record.source}/{record.id}", context=_Context(task, reading.notes), smaller=smaller,
        )  # fmt: skip

    def _take(self, answer: Answer) -> Judgement:
        task, notes = answer.asked.context.task, answer.request.context.notes
        if isinstance(answer.result, Failed):
            return Judgement.unscored(
                task.record.id, task.record.source, self.n_slots, answer.result.reason, replicate=task.replicate,
                judge=self.identity, notes=notes,
            )  # fmt: skip
        row = np.array([orjson.loads(answer.result.text)], dtype=np.float64)
        if row.shape[1] != self.n_slots + 1:
            raise JudgeError(
                f"{task.record.source}/{task.record.id}: {row.shape[1]} numbers for {self.n_slots} slots and overall",
                f"Serve this bundle: vllm serve {self.bundle.folder} --runner pooling",
            )
        return judged(task, back(self.bundle.maps, row)[0], self.identity, notes)
