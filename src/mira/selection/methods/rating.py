"""One question a record, one row a record: a method's scores from an endpoint, in sidecars, shard by shard.

A sidecar's existence, with the right fingerprint, means done; what the endpoint did not answer is asked again only
while more records than the failure budget allows are unscored, so that a finished selection can be looked at when the
server is gone. Every reply is journalled before it counts: what was paid for in a shard that is not done yet is not
asked again.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mira import corpus
from mira.config.settings import Config, EndpointSettings
from mira.corpus import Shard, records_key
from mira.corpus.record import Record
from mira.errors import RunError
from mira.llm.answer import Answer
from mira.llm.client import Client
from mira.llm.cost import current_spending
from mira.llm.failures import UNANSWERED, check_failures
from mira.llm.journal.journal import Journal
from mira.llm.progress import watch
from mira.llm.request import Form, Request
from mira.progress import Log, Task
from mira.run_folder.files import hash_json, write_parquet
from mira.run_folder.paths import RunFolder
from mira.unscored import Unscored

__all__ = ["Rater", "RatingJob", "Result", "open_caller", "rate_corpus"]

_BATCH = 4096  # rows held as objects; beyond that they are columns
_FINGERPRINT = b"mira.fingerprint"


class Result(NamedTuple):
    """What came of one shard: source, rows in its sidecar, and unscored rows by reason."""

    source: str
    rows: int
    unscored: Counter[str]


@dataclass(frozen=True)
class Rater:
    """A model behind an endpoint that says something of a record.

    Attributes:
        caller: The stream of requests.
        identity: Hash of everything but the record that an answer's reading depends on.
        request: Makes a record's request; its context is whatever `read` needs.
        read: Reads an answer into named values; one may be `reason_unscored`.
    """

    caller: Client
    identity: str
    request: Callable[[Record], Request]
    read: Callable[[Answer], Mapping[str, Any]]


@contextmanager
def open_caller(
    config: Config,
    run: RunFolder,
    log: Log,
    settings: EndpointSettings,
    name: str,
    reading: int,
    form: Form | None = None,
) -> Iterator[Client]:
    """Open the stream of requests to a model that rates records, with a journal of its own name and the run's limits.

    Args:
        config: The settings; the limits are those of `teacher`.
        run: The run folder.
        log: Where progress goes.
        settings: The endpoint.
        name: Name of its journal.
        reading: Version of its prompts and of how its replies are read.
        form: What the endpoint speaks; chat by default.
    """
    with Journal(run.journal, name) as journal:
        yield Client(
            settings, journal, hash_json([name, reading]), spending=current_spending(config.teacher),
            offline=config.teacher.offline, log=log, form=form,
        )  # fmt: skip


@dataclass(frozen=True)
class RatingJob:
    """What is asked of every record, and where the answers go.

    Attributes:
        name: What it is, for people.
        rater: Who is asked.
        columns: The sidecar's columns beside row and id: what the rater reads, `reason_unscored` among them.
        path: Where a shard's sidecar is.
        setting: The setting that names sidecars from elsewhere, if there is one.
        excused: Reasons that no model could do anything about: they do not count against the failure budget.
    """

    name: str
    rater: Rater
    columns: pa.Schema
    path: Callable[[Shard], Path]
    setting: str = ""
    excused: frozenset[str] = frozenset()


def rate_corpus(config: Config, run: RunFolder, log: Log, questions: RatingJob) -> dict[str, Any]:
    """Ask about every valid record whose shard is not done, and write the sidecars.

    Returns:
        rows: source -> rows in its sidecars; unscored: source -> reason -> rows; requests: the caller's counts.

    Raises:
        JudgeError: The endpoint cannot be used, or more records stayed unscored than `teacher.failure_budget` allows.
        SpendingStop: A limit of cost or requests was reached. What is paid for is in the journal.
        RunError: The corpus is not indexed, or a sidecar was made by something else.
    """
    totals = corpus.totals(config, run)
    of_source = corpus.shards(config)
    n_valid = sum(counts["valid"] for counts in totals.values())
    results, todo = _state(config, run, questions, of_source, n_valid)
    _remove_strays(questions, of_source)
    if todo:
        with watch(questions.rater.caller.stats, log, questions.name, n_valid) as task:
            task.advance(sum(result.rows for result in results))
            results += _ask(config, run, questions, todo, task)
    rows: Counter[str] = Counter()
    unscored: dict[str, Counter[str]] = {source: Counter() for source in of_source}
    for result in results:
        rows[result.source] += result.rows
        unscored[result.source] += result.unscored
    failed = {source: _failed(questions, counts) for source, counts in unscored.items()}
    check_failures(failed, rows.total(), config.teacher.failure_budget, log)
    told = {source: dict(counts) for source, counts in unscored.items()}
    return {"rows": dict(rows), "unscored": told, "requests": questions.rater.caller.stats.summary()}


def _state(
    config: Config, run: RunFolder, questions: RatingJob, of_source: Mapping[str, Sequence[Shard]], n_valid: int
) -> tuple[list[Result], list[tuple[Shard, str]]]:
    """Return what came of shards that are done, and the others with the fingerprints that they will have."""
    shards = [shard for parts in of_source.values() for shard in parts]
    marked = [(shard, hash_json([records_key(run, shard), questions.rater.identity])) for shard in shards]
    done = [_done(questions, shard, fingerprint) for shard, fingerprint in marked]
    failed = sum(_failed(questions, result.unscored).total() for result in done if result)
    if failed > config.teacher.failure_budget * n_valid:
        done = [result if result and not any(result.unscored[why] for why in UNANSWERED) else None for result in done]
    todo = [which for which, result in zip(marked, done, strict=True) if result is None]
    return [result for result in done if result], todo


def _failed(questions: RatingJob, unscored: Counter[str]) -> Counter[str]:
    return Counter({why: count for why, count in unscored.items() if why not in questions.excused})


def _ask(
    config: Config, run: RunFolder, questions: RatingJob, todo: Sequence[tuple[Shard, str]], task: Task
) -> Iterator[Result]:
    """Ask in one stream over all the shards, so that the endpoint stays busy at their ends."""
    owner: dict[tuple[str, str], _Sidecar] = {}
    finished: list[_Sidecar] = []

    def requests() -> Iterator[Request]:
        for shard, fingerprint in todo:
            sidecar = _Sidecar(questions, shard, fingerprint)
            for record in corpus.read(config, run, shard):
                request = questions.rater.request(record)
                owner[record.source, request.tag] = sidecar
                sidecar.waiting[request.tag] = (record.row, record.id)
                yield request
            sidecar.complete = True
            if sidecar.done:
                finished.append(sidecar)

    answers = questions.rater.caller.complete(requests())
    try:
        for answer in answers:
            sidecar = owner.pop((answer.asked.source, answer.asked.tag))
            sidecar.add(answer)
            task.advance()
            if sidecar.done:
                finished.append(sidecar)
            while finished:
                yield finished.pop().write()
    finally:
        answers.close()
    while finished:
        yield finished.pop().write()


@dataclass
class _Sidecar:
    """A sidecar in the making: rows still awaited, and columns so far."""

    questions: RatingJob
    shard: Shard
    fingerprint: str
    complete: bool = False
    waiting: dict[str, tuple[int, str]] = field(default_factory=dict)
    _batch: list[dict[str, Any]] = field(default_factory=list)
    _tables: list[pa.Table] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._schema = pa.schema([("row", pa.int64()), ("id", pa.string()), *self.questions.columns])

    @property
    def done(self) -> bool:
        return self.complete and not self.waiting

    def add(self, answer: Answer) -> None:
        row, id_ = self.waiting.pop(answer.asked.tag)
        self._batch.append({"row": row, "id": id_, **self.questions.rater.read(answer)})
        if len(self._batch) >= _BATCH:
            self._flush()

    def _flush(self) -> None:
        self._tables.append(pa.Table.from_pylist(self._batch, self._schema))
        self._batch = []

    def write(self) -> Result:
        self._flush()
        table = pa.concat_tables(self._tables).sort_by("row")
        table = table.replace_schema_metadata({_FINGERPRINT: self.fingerprint.encode()})
        write_parquet(self.questions.path(self.shard), table)
        return Result(self.shard.source, len(table), _reasons(table))


def _reasons(table: pa.Table) -> Counter[str]:
    counts = pc.value_counts(table["reason_unscored"].drop_null()).to_pylist()
    return Counter({item["values"]: item["counts"] for item in counts})


def _done(questions: RatingJob, shard: Shard, fingerprint: str) -> Result | None:
    path = questions.path(shard)
    if not path.is_file():
        return None
    metadata = _metadata(path)
    if metadata is None:
        return None
    if _FINGERPRINT not in metadata:
        hint = f"Move it, and name its folder in {questions.setting}." if questions.setting else "Move it elsewhere."
        raise RunError(f"{path} was not made by mira, which would write over it", hint)
    if metadata[_FINGERPRINT] != fingerprint.encode():
        return None
    try:
        table = pq.read_table(path, columns=["reason_unscored"])
    except (OSError, pa.ArrowException):
        return None
    reasons = _reasons(table)
    # Replies may have been imported since: what was never sent is looked up again.
    return None if reasons[Unscored.NOT_RECORDED] else Result(shard.source, len(table), reasons)


def _metadata(path: Path) -> Mapping[bytes, bytes] | None:
    """Return what a sidecar says of itself; None where it is damaged."""
    try:
        return pq.read_schema(path).metadata or {}
    except (OSError, pa.ArrowException):
        return None


def _remove_strays(questions: RatingJob, of_source: Mapping[str, Sequence[Shard]]) -> None:
    """Remove mira's own sidecars of shards that are no longer there."""
    wanted = {questions.path(shard) for parts in of_source.values() for shard in parts}
    for folder in {path.parent for path in wanted}:
        for path in folder.glob("*.parquet"):
            if path not in wanted and _FINGERPRINT in (_metadata(path) or {}):
                path.unlink()
