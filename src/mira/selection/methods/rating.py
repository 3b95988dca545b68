"""Rate every record with an endpoint; write one row per record to a sidecar file, shard by shard.

A shard is done if its sidecar has the right fingerprint. Unanswered records are sent again only while more records are
unscored than the failure budget allows, so that a finished selection can be read when the server is gone. Every reply
is journalled before it counts, so a stopped shard pays nothing twice.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from mira import corpus
from mira.config.settings import CorpusSettings, EndpointSettings, TeacherSettings
from mira.corpus import Shard, records_key
from mira.corpus.index_reader import index_blocks
from mira.corpus.record import Record
from mira.corpus.sidecar_writer import FINGERPRINT, Place, ShardResult, SidecarWriter, read_result, write_sidecars
from mira.errors import RunError
from mira.leased.shards import do_shards
from mira.llm.answer import Answer
from mira.llm.client import Client
from mira.llm.cost import current_spending
from mira.llm.failures import UNANSWERED, check_failures
from mira.llm.journal.journal import Journal
from mira.llm.progress import watch
from mira.llm.request import Form, Request
from mira.progress import Log, Task
from mira.run_folder.files import hash_json
from mira.run_folder.paths import RunFolder
from mira.selection.values import SelectionInputs
from mira.stage import ShardItem, ShardPart, Wanted
from mira.unscored import Unscored

__all__ = ["LEASED", "Rater", "RatingJob", "open_caller", "rate_corpus", "rate_records", "rating_part"]

LEASED = "values"
"""Where leases of shards that are rated lie: the step in which workers do it."""


@dataclass(frozen=True)
class Rater:
    """A model behind an endpoint that rates records.

    Attributes:
        caller: The stream of requests.
        identity: Hash of everything but the record that a rating depends on.
        request: Makes a record's request; its context holds what `read` needs.
        read: Reads an answer into named values; one may be `reason_unscored`.
    """

    caller: Client
    identity: str
    request: Callable[[Record], Request]
    read: Callable[[Answer], Mapping[str, Any]]


@contextmanager
def open_caller(
    teacher: TeacherSettings,
    run: RunFolder,
    log: Log,
    settings: EndpointSettings,
    name: str,
    reading: int,
    form: Form | None = None,
) -> Iterator[Client]:
    """Open the stream of requests to a model that rates records, with a journal of its own name and the run's limits.

    Args:
        teacher: The limits.
        run: The run folder.
        log: Where progress goes.
        settings: The endpoint.
        name: Name of its journal.
        reading: Version of its prompts and of how its replies are read.
        form: What the endpoint speaks; chat by default.
    """
    with Journal(run.journal, name) as journal:
        yield Client(
            settings, journal, hash_json([name, reading]), spending=current_spending(teacher),
            offline=teacher.offline, log=log, form=form,
        )  # fmt: skip


@dataclass(frozen=True)
class RatingJob:
    """What to rate, and where the ratings go.

    Attributes:
        name: Name of the rating in the progress line.
        rater: The model.
        columns: The sidecar's columns besides row and id, `reason_unscored` among them.
        path: Shard -> its sidecar.
        setting: The setting that names the folder of sidecars made elsewhere, if any.
        excused: Reasons that no model can avoid; they do not count against the failure budget.
    """

    name: str
    rater: Rater
    columns: pa.Schema
    path: Callable[[Shard], Path]
    setting: str = ""
    excused: frozenset[str] = frozenset()


def rate_corpus(inputs: SelectionInputs, job: RatingJob) -> dict[str, Any]:
    """Rate every valid record whose shard is not done, and write the sidecars.

    Returns:
        rows: source -> rows in its sidecars; unscored: source -> reason -> rows; requests: the caller's counts.

    Raises:
        JudgeError: The endpoint cannot be used, or more records stayed unscored than `teacher.failure_budget` allows.
        SpendingStop: A limit of cost or requests was reached. What is paid for is in the journal.
        RunError: The corpus is not indexed, or a sidecar was made by something else.
    """
    run, budget = inputs.run, inputs.teacher.failure_budget
    totals = corpus.totals(inputs.corpus, run)
    of_source = corpus.shards(inputs.corpus)
    n_valid = sum(counts["valid"] for counts in totals.values())
    _remove_strays(job, of_source)
    rows: Counter[str] = Counter()
    unscored: dict[str, Counter[str]] = {source: Counter() for source in of_source}

    def parts(wanted: Wanted) -> Iterator[ShardPart]:
        chosen = {source: [s for s in found if wanted(source, s.name)] for source, found in of_source.items()}
        yield _part(inputs, job, chosen, n_valid)

    for item in do_shards(parts, run, LEASED, inputs.log):
        rows[item.source] += item.result.rows
        unscored[item.source] += item.result.unscored
    failed = {source: _failed(job, counts) for source, counts in unscored.items()}
    check_failures(failed, rows.total(), budget, inputs.log)
    by_source = {source: dict(counts) for source, counts in unscored.items()}
    return {"rows": dict(rows), "unscored": by_source, "requests": job.rater.caller.stats.summary()}


def rating_part(inputs: SelectionInputs, job: RatingJob, wanted: Wanted) -> ShardPart:
    """Return the part that rates a worker's shards; the failure budget holds for these.

    Raises:
        RunError: The corpus is not indexed, or a sidecar was made by something else.
    """
    run, of_source = inputs.run, corpus.shards(inputs.corpus, wanted=wanted)
    shards = (shard for parts in of_source.values() for shard in parts)
    n_valid = sum(len(block.rows) for shard in shards for block in index_blocks(run, shard.source, shard.name))
    return _part(inputs, job, of_source, n_valid)


def rate_records(rater: Rater, records: Sequence[Record], failure_budget: float, log: Log) -> list[Mapping[str, Any]]:
    """Rate records outside the corpus, such as spoiled copies, and return the ratings in their order.

    Requests, journals, limits and cost guard are those of the corpus, so that a record is paid for once. Only the
    journal is written.

    Raises:
        JudgeError: The endpoint cannot be used, gave no reply to more records than `teacher.failure_budget` allows, or
            a limit of cost or requests was reached.
    """
    requests = [rater.request(record) for record in records]
    place = {(asked.source, asked.tag): at for at, asked in enumerate(requests)}
    rows: list[Mapping[str, Any]] = [{}] * len(records)
    unanswered: defaultdict[str, Counter[str]] = defaultdict(Counter)
    with watch(rater.caller.stats, log, "records outside the corpus", len(records)) as task:
        for answer in rater.caller.complete(requests):
            row = rater.read(answer)
            rows[place[answer.asked.source, answer.asked.tag]] = row
            if row.get("reason_unscored") in UNANSWERED:
                unanswered[answer.asked.source][row["reason_unscored"]] += 1
            task.advance()
    check_failures(unanswered, len(records), failure_budget, log)
    return rows


def _part(inputs: SelectionInputs, job: RatingJob, of_source: Mapping[str, Sequence[Shard]], n_valid: int) -> ShardPart:
    """Return shards to rate. The job of one that is not done is the fingerprint that its sidecar will have."""
    run = inputs.run
    shards = [shard for parts in of_source.values() for shard in parts]
    marked = [(shard, hash_json([records_key(run, shard), job.rater.identity])) for shard in shards]
    done = [_done(job, shard, fingerprint) for shard, fingerprint in marked]
    failed = sum(_failed(job, result.unscored).total() for result in done if result)
    if failed > inputs.teacher.failure_budget * n_valid:
        done = [result if result and not any(result.unscored[why] for why in UNANSWERED) else None for result in done]
    items = [
        ShardItem(which[0].source, which[0].name, result is not None, which, result)
        for which, result in zip(marked, done, strict=True)
    ]
    return ShardPart(items, partial(_rate, inputs, job, n_valid), paid=True)


def _rate(inputs: SelectionInputs, job: RatingJob, n_valid: int, given: Iterable[ShardItem]) -> Iterator[ShardItem]:
    waiting: dict[tuple[str, str], ShardItem] = {}
    done: list[ShardItem] = []

    def todo() -> Iterator[tuple[Shard, str]]:
        for item in given:
            if item.done:
                task.advance(item.result.rows)
                done.append(item)
            else:
                waiting[item.source, item.shard] = item
                yield item.job

    with watch(job.rater.caller.stats, inputs.log, job.name, n_valid) as task:
        for result in _ask(inputs.corpus, inputs.run, job, todo(), task):
            if any(result.unscored[why] for why in UNANSWERED):
                job.rater.caller.journal.seal()  # others may do the shard again, and are to find its replies
            yield waiting.pop((result.source, result.shard))._replace(result=result)
        yield from done


def _failed(job: RatingJob, unscored: Counter[str]) -> Counter[str]:
    return Counter({why: count for why, count in unscored.items() if why not in job.excused})


def _ask(
    settings: CorpusSettings, run: RunFolder, job: RatingJob, todo: Iterable[tuple[Shard, str]], task: Task
) -> Iterator[ShardResult]:
    schema = pa.schema([("row", pa.int64()), ("id", pa.string()), *job.columns])

    def table(answers: Sequence[tuple[Place, Answer]]) -> pa.Table:
        rows = [{"row": place.row, "id": place.id, **job.rater.read(answer)} for place, answer in answers]
        return pa.Table.from_pylist(rows, schema)

    def sidecar(shard: Shard, fingerprint: str) -> SidecarWriter[Answer]:
        metadata = {FINGERPRINT: fingerprint.encode()}
        return SidecarWriter(shard, job.path(shard), table, lambda _unscored: metadata)

    def question(record: Record) -> tuple[tuple[str, str], Request]:
        request = job.rater.request(record)
        return (record.source, request.tag), request

    return write_sidecars(
        (sidecar(shard, fingerprint) for shard, fingerprint in todo),
        lambda shard: corpus.read(settings, run, shard),
        question,
        job.rater.caller.complete,
        lambda answer: (answer.asked.source, answer.asked.tag),
        task,
    )


def _done(job: RatingJob, shard: Shard, fingerprint: str) -> ShardResult | None:
    path = job.path(shard)
    if not path.is_file():
        return None
    metadata = _metadata(path)
    if metadata is None:
        return None
    if FINGERPRINT not in metadata:
        hint = f"Move it, and name its folder in {job.setting}." if job.setting else "Move it elsewhere."
        raise RunError(f"{path} was not made by mira, which would write over it", hint)
    if metadata[FINGERPRINT] != fingerprint.encode():
        return None
    result = read_result(path, shard.source)
    # Replies may have been imported since: records that were never sent are looked up again.
    return None if result is None or result.unscored[Unscored.NOT_RECORDED] else result


def _metadata(path: Path) -> Mapping[bytes, bytes] | None:
    """Return what a sidecar says of itself; None where it is damaged."""
    try:
        return pq.read_schema(path).metadata or {}
    except (OSError, pa.ArrowException):
        return None


def _remove_strays(job: RatingJob, of_source: Mapping[str, Sequence[Shard]]) -> None:
    """Remove mira's own sidecars of shards that are no longer there."""
    wanted = {job.path(shard) for parts in of_source.values() for shard in parts}
    for folder in {path.parent for path in wanted}:
        for path in folder.glob("*.parquet"):
            if path not in wanted and FINGERPRINT in (_metadata(path) or {}):
                path.unlink()
