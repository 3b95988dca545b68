"""DataMan ratings of a corpus by a served DataMan model (arXiv 2502.19363).

The released models are RuPeng/DataMan-1.5B-EN, DataMan-1.5B-ZH, DataMan-MoE-A2.7B-EN and DataMan-MoE-A2.7B-ZH on the
hub; any OpenAI-compatible server works, e.g. `vllm serve RuPeng/DataMan-1.5B-EN`. Prompt and reply are those of
`mira.selection.methods.dataman_rubric`: a reply with a missing line is refused, and its record stays unscored.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa

from mira.config.settings import DataManEndpoint
from mira.corpus import Shard
from mira.corpus.record import Record
from mira.errors import ConfigError
from mira.llm.answer import Answer, Failed
from mira.llm.client import Client
from mira.llm.request import Request, about_tokens
from mira.run_folder.files import hash_json
from mira.selection.methods import dataman_rubric as dataman
from mira.selection.methods.rating import Rater, RatingJob, open_caller, rate_corpus
from mira.selection.values import SelectionInputs
from mira.tokens import tokenizer
from mira.unscored import Unscored

__all__ = ["dataman_job", "open_dataman", "score_dataman"]

_READING = 1  # raised when equal replies come to be read otherwise, or other prompts are sent
_TEMPLATE_TOKENS = 40  # of the chat template and its default system message
_SHRINK = 0.8
_COLUMNS = pa.schema(
    [
        ("overall", pa.float32()),
        ("domain_tag", pa.string()),
        ("ratings", pa.list_(pa.int8())),
        ("reason_unscored", pa.string()),
        ("notes", pa.string()),
    ]
)


class _Context(NamedTuple):
    room: int
    notes: tuple[str, ...]


def score_dataman(inputs: SelectionInputs) -> dict[str, Any]:
    """Have the model at `select.dataman.endpoint` judge every valid record that it has not judged yet.

    Writes `<run>/dataman/<source>/<shard>.parquet`: row, id, overall (1-5), domain_tag (one of the 15 domains),
    ratings (14, 1-5, in the order of `dataman_rubric.CRITERIA`), reason_unscored, notes. Replies are in the journal
    `dataman`. Limits and failure budget are those of `teacher`; with `teacher.offline` nothing is sent.

    Args:
        inputs: What the selection is made from; the corpus is indexed.

    Returns:
        As `rate_corpus`.

    Raises:
        ConfigError: No endpoint is configured, or its context leaves no room for a text.
        JudgeError: The endpoint cannot be used, or more records stayed unscored than `teacher.failure_budget` allows.
        RunError: The corpus is not indexed, or `<run>/dataman` holds sidecars of other making.
    """
    with dataman_job(inputs) as job:
        return rate_corpus(inputs, job)


@contextmanager
def dataman_job(inputs: SelectionInputs) -> Iterator[RatingJob]:
    """Open what `score_dataman` does, for workers that do a part of it; raises as `open_dataman` does."""

    def path(shard: Shard) -> Path:
        return inputs.run.dataman(shard.source) / f"{shard.name}.parquet"

    with open_dataman(inputs) as rater:
        yield RatingJob("DataMan", rater, _COLUMNS, path, "select.dataman.scores")


@contextmanager
def open_dataman(inputs: SelectionInputs) -> Iterator[Rater]:
    """Open the model at `select.dataman.endpoint`, with its journal.

    Raises:
        ConfigError: No endpoint is configured, or its context leaves no room for a text.
    """
    settings = inputs.select.dataman.endpoint
    if settings is None:
        raise ConfigError(
            "select.dataman.endpoint is not set",
            "Add base_url and model of a served DataMan model, such as RuPeng/DataMan-1.5B-EN.",
        )
    with open_caller(inputs.teacher, inputs.run, inputs.log, settings, "dataman", _READING) as caller:
        asked = _Asked(settings, caller)
        yield Rater(caller, asked.identity, asked.request, _read)


class _Asked:
    """Makes the requests for one endpoint."""

    def __init__(self, settings: DataManEndpoint, caller: Client) -> None:
        self._caller, self._tokenizer = caller, tokenizer(settings.tokenizer)
        self._form = self._tokenizer.count([dataman.prompt("", self._tokenizer)[0]])[0]
        self._around = self._form + _TEMPLATE_TOKENS + settings.max_tokens
        self._room = min(dataman.MAX_TEXT_TOKENS, settings.max_model_len - self._around)
        if self._room < 2:
            raise ConfigError(
                f"select.dataman.endpoint: max_model_len {settings.max_model_len:,} leaves no room for a text",
                f"{self._around:,} tokens are for prompt and reply; the paper's context is 2,048.",
            )
        self.identity = hash_json([caller.identity, self._room, self._tokenizer.identity])

    def request(self, record: Record, room: int = 0) -> Request:
        room = room or self._room
        text, notes = dataman.prompt(record.text, self._tokenizer, room)

        def smaller(context: int | None) -> Request | None:
            sent = self._tokenizer.count([text])[0] - self._form
            left = int(_SHRINK * min(room, sent, (context or room + self._around) - self._around))
            return self.request(record, left) if left >= 2 else None

        return self._caller.request(
            [{"role": "user", "content": text}], tokens=about_tokens(text), source=record.source,
            tag=f"{record.source}/{record.id}", context=_Context(room, notes), smaller=smaller,
        )  # fmt: skip


def _read(answer: Answer) -> dict[str, Any]:
    notes = ";".join(answer.request.context.notes) or None
    reply = answer.result
    if isinstance(reply, Failed):
        return {"reason_unscored": str(reply.reason), "notes": notes}
    rating = dataman.parse(reply.text)
    if rating is None:
        refused, cut = Unscored.REFUSED if reply.refused else None, Unscored.TRUNCATED if reply.truncated else None
        return {"reason_unscored": str(refused or cut or Unscored.UNPARSABLE), "notes": notes}
    return {"overall": rating.overall, "domain_tag": rating.domain, "ratings": list(rating.ratings), "notes": notes}
