"""Bits per byte under a served causal LM: the perplexity filter with any model that `/v1/completions` can measure.

bits per byte = -sum of log2 p(token | tokens before) / bytes of the text (UTF-8). The first token of the text has no
probability unless the model's tokenizer puts a start token before it; it then counts 0 bits. Of a text that is longer
than the context only the beginning is measured, by its own bytes, and the note "cut:<tokens>" says so.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from math import isnan, log
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mira.arrays import Floats
from mira.config.settings import PplEndpoint
from mira.corpus import Shard
from mira.corpus.index_reader import Block
from mira.corpus.record import Record
from mira.corpus.sidecar import Sidecar
from mira.errors import ConfigError
from mira.llm.answer import Answer, Failed
from mira.llm.client import Client
from mira.llm.request import Request
from mira.llm.responses.prompt_logprobs import Likelihood, likelihood_form
from mira.run_folder.content import state_of
from mira.run_folder.files import hash_json
from mira.run_folder.paths import RunFolder
from mira.selection.methods.method import BaseMethod
from mira.selection.methods.rating import Rater, RatingJob, open_caller, rate_corpus, rate_records
from mira.selection.values import TOO_SHORT, Ranked, SelectionInputs
from mira.tokens import tokenizer
from mira.unscored import Unscored

__all__ = ["MeasuredPpl", "open_ppl", "ppl_job", "score_ppl"]

_READING = 1  # raised when equal replies come to be read otherwise
_SHRINK = 0.5  # the server's tokenizer may need up to twice the tokens of the one that is configured
_COLUMNS = pa.schema(
    [
        ("bits_per_byte", pa.float64()),
        ("n_bytes", pa.int64()),
        ("n_measured", pa.int32()),
        ("reason_unscored", pa.string()),
        ("notes", pa.string()),
    ]
)


class _Context(NamedTuple):
    n_bytes: int
    cut: int


@dataclass(frozen=True)
class MeasuredPpl(BaseMethod):
    """Ranks records by the bits per byte that `score_ppl` has written.

    Attributes:
        slice: low, middle or high.
    """

    slice: str
    name = "ppl"

    @property
    def to_median(self) -> bool:
        """Whether the records nearest to the pool's median are best."""
        return self.slice == "middle"

    def identity(self, run: RunFolder, shard: Shard) -> str:
        """The sidecar and the slice's direction."""
        return hash_json([self.slice == "low", state_of(_path(run, shard))])

    def rank(self, run: RunFolder, shard: Shard, blocks: Iterator[Block]) -> Iterator[Ranked]:
        """Value every record by its bits per byte; those without have the sidecar's reason.

        Raises:
            RunError: The sidecar is missing, or does not hold exactly the shard's valid records.
        """
        sidecar = Sidecar(_path(run, shard), run, shard, ["bits_per_byte", "reason_unscored"], "mira select")
        for block in blocks:
            batch = sidecar.take(block)
            bits = batch["bits_per_byte"].to_numpy(zero_copy_only=False).astype(np.float64)
            reasons = batch["reason_unscored"] if pc.any(pc.is_valid(batch["reason_unscored"])).as_py() else None
            yield Ranked(self._sign * bits, reasons)
        sidecar.finish()

    def value_records(self, inputs: SelectionInputs, records: Sequence[Record], ids: Sequence[str]) -> Floats:
        """Value records by their bits per byte under the model at `select.ppl.endpoint`; NaN if it measures none.

        Raises:
            ConfigError: There is no endpoint.
            JudgeError: The endpoint cannot be used, gave no reply to more records than `teacher.failure_budget` allows,
                or a limit of cost or requests was reached.
        """
        with open_ppl(inputs) as rater:
            rows = rate_records(rater, records, inputs.teacher.failure_budget, inputs.log)
        return self._sign * np.array([row.get("bits_per_byte", np.nan) for row in rows], dtype=np.float64)

    @property
    def _sign(self) -> float:
        return -1.0 if self.slice == "low" else 1.0


def score_ppl(inputs: SelectionInputs) -> dict[str, Any]:
    """Have the model at `select.ppl.endpoint` measure every valid record that it has not measured yet.

    Writes `<run>/ppl/<source>/<shard>.parquet`: row, id, bits_per_byte, n_bytes and n_measured (bytes and tokens that
    were measured), reason_unscored, notes. The sums are in the journal `ppl`. Limits and failure budget are those of
    `teacher`; with `teacher.offline` nothing is sent.

    Args:
        inputs: What the selection is made from; the corpus is indexed.

    Returns:
        As `rate_corpus`.

    Raises:
        ConfigError: No endpoint is configured, or its context leaves no room for a text.
        JudgeError: The endpoint cannot be used, gives no log-probabilities of prompts, or left more records unscored
            than `teacher.failure_budget` allows.
        RunError: The corpus is not indexed.
    """
    with ppl_job(inputs) as job:
        return rate_corpus(inputs, job)


@contextmanager
def ppl_job(inputs: SelectionInputs) -> Iterator[RatingJob]:
    """Open what `score_ppl` does, for workers that do a part of it; raises as `open_ppl` does."""
    with open_ppl(inputs) as rater:
        path = partial(_path, inputs.run)
        yield RatingJob("bits per byte", rater, _COLUMNS, path, excused=frozenset({TOO_SHORT}))


@contextmanager
def open_ppl(inputs: SelectionInputs) -> Iterator[Rater]:
    """Open the model at `select.ppl.endpoint`, with its journal.

    Raises:
        ConfigError: No endpoint is configured, or its context leaves no room for a text.
    """
    settings = inputs.select.ppl.endpoint
    if settings is None:
        raise ConfigError("select.ppl.endpoint is not set", "Add base_url and model of a served causal LM.")
    form = likelihood_form(settings.logprobs_from)
    with open_caller(inputs.teacher, inputs.run, inputs.log, settings, "ppl", _READING, form) as caller:
        asked = _Asked(settings, caller)
        yield Rater(caller, asked.identity, asked.request, _read)


class _Asked:
    """Makes the requests for one endpoint."""

    def __init__(self, settings: PplEndpoint, caller: Client) -> None:
        self._caller, self._tokenizer = caller, tokenizer(settings.tokenizer)
        self._room = settings.max_model_len - settings.max_tokens - 1  # the server may add a start token
        if self._room < 2:
            raise ConfigError(
                f"select.ppl.endpoint: max_model_len {settings.max_model_len:,} leaves no room for a text",
                "Set it to the model's context, e.g. 8192.",
            )
        self.identity = hash_json([caller.identity, self._room, self._tokenizer.identity])

    def request(self, record: Record, room: int = 0) -> Request:
        room = room or self._room
        text, sent, cut = self._head(record.text, room)

        def smaller(context: int | None) -> Request | None:
            left = int(_SHRINK * min(sent, context or room))
            return self.request(record, left) if left >= 2 else None

        return self._caller.request(
            text, tokens=sent, source=record.source, tag=f"{record.source}/{record.id}",
            context=_Context(len(text.encode()), cut), smaller=smaller,
        )  # fmt: skip

    def _head(self, text: str, room: int) -> tuple[str, int, int]:
        """Return a text's beginning that fits, its tokens, and how many were cut off."""
        text = text.encode("utf-8", "replace").decode()  # a lone surrogate cannot be sent
        ids = self._tokenizer.encode(text)
        if len(ids) <= room:
            return text, len(ids), 0
        return self._tokenizer.decode(ids[:room]).rstrip("\ufffd"), room, len(ids) - room


def _read(answer: Answer) -> dict[str, Any]:
    context: _Context = answer.request.context
    row: dict[str, Any] = {"n_bytes": context.n_bytes, "notes": f"cut:{context.cut}" if context.cut else None}
    if isinstance(answer.result, Failed):
        return row | {"reason_unscored": str(answer.result.reason)}
    nats, measured = Likelihood.of(answer.result)
    row["n_measured"] = measured
    if not measured:
        return row | {"reason_unscored": TOO_SHORT}
    if isnan(nats):
        return row | {"reason_unscored": str(Unscored.NOT_FINITE)}
    return row | {"bits_per_byte": nats / log(2) / context.n_bytes}


def _path(run: RunFolder, shard: Shard) -> Path:
    return run.ppl(shard.source) / f"{shard.name}.parquet"
