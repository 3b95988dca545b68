"""Stage `score`: one sidecar per shard. A shard is done if its sidecar has the right fingerprint."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa

from mira import corpus
from mira.config.settings import Config, WindowSettings
from mira.corpus import Shard, records_key
from mira.corpus.index_reader import index_blocks
from mira.corpus.record import Record
from mira.corpus.sidecar_writer import FINGERPRINT, Place, ShardResult, SidecarWriter, read_result, write_sidecars
from mira.distillation.student import open_student, runs_here, served_endpoints
from mira.engine import load_engine
from mira.errors import ConservationError
from mira.grouping.groups import Group, known_groups, load_groups
from mira.judging.judge import Judge, JudgeTask
from mira.judging.windows import count_windows
from mira.leased.shards import do_shards
from mira.llm.failures import Failures, check_failures
from mira.llm.progress import watch
from mira.llm.stats import added
from mira.progress import QUIET, Log, Quiet, Task
from mira.rubric.judgement import Judgement, judgement_schema, judgements_table
from mira.rubric.slots import slot_columns
from mira.run_folder.files import hash_json, remove_others
from mira.run_folder.paths import RunFolder
from mira.run_folder.ranged import prefetch_footers, read_footer
from mira.stage import (
    REPLY_TOKENS,
    SYSTEM_TOKENS,
    TEMPLATE_TOKENS,
    ShardItem,
    ShardPart,
    ShardStep,
    Stage,
    Wanted,
    Work,
    do_items,
    needs,
)
from mira.unscored import Unscored

__all__ = ["STAGE", "score", "score_schema", "score_shards"]

AGAIN = (Unscored.ENDPOINT_ERROR, Unscored.NOT_RECORDED)  # another try may go well
DROPPED_COLUMNS = ("rationales", "domain_tag", "brief")  # kept in the journal and in labels; not worth it at scale


@dataclass(frozen=True, slots=True)
class _Job:
    config: Config
    run: RunFolder
    group: str
    student: str  # its identity
    shard: Shard


def score(config: Config, run: RunFolder, log: Log) -> dict[str, Any]:
    """Score every valid record of every source with its group's student.

    Returns:
        Per source, rows in the sidecars and unscored rows by reason.

    Raises:
        ConservationError: A sidecar does not hold exactly its shard's valid records.
        MiraError: More records stayed unscored than the failure budget allows.
    """
    shards = corpus.shards(config.corpus)
    rows: Counter[str] = Counter()
    unscored: dict[str, Counter[str]] = {source: Counter() for source in shards}
    _remove_strays(run, shards)
    totals = corpus.totals(config.corpus, run)
    requests: dict[str, Any] = {}
    valid = {source: counts["valid"] for source, counts in totals.items()}
    failures = Failures(sum(valid.values()), config.teacher.failure_budget, run.journal)
    whole = _Whole(valid, failures, requests)

    def parts(wanted: Wanted) -> Iterator[ShardPart]:
        chosen = {source: [s for s in found if wanted(source, s.name)] for source, found in shards.items()}
        return _groups(config, run, log, chosen, whole)

    for item in do_shards(parts, run, "score", log):
        if item.error is not None:
            raise item.error
        rows[item.source] += item.result.rows
        unscored[item.source] += item.result.unscored
    for source, total in totals.items():
        if rows[source] != total["valid"]:
            raise ConservationError(
                f"source '{source}': {total['valid']} valid records, {rows[source]} rows in its score sidecars",
                f"Remove {run.scores(source)} and score again.",
            )
    check_failures(unscored, sum(rows.values()), config.teacher.failure_budget, log, failures.evidence)
    return {"rows": dict(rows), "unscored": {s: dict(c) for s, c in unscored.items()}, "requests": requests}


def score_shards(
    shards: Iterable[Shard],
    judge: Judge,
    read: Callable[[Shard], Iterator[Record]],
    sidecar: Callable[[Shard], Path],
    fingerprint: Callable[[Shard], str],
    task: Task = QUIET,
    failed: Callable[[Shard, Exception], None] | None = None,
) -> Iterator[ShardResult]:
    """Score shards with one judge, writing each sidecar as soon as its last judgement is there.

    The judge sees one stream over all the shards, so an endpoint stays busy at their ends.

    Args:
        shards: What to score; the next one is taken when the judge is ready for more records.
        judge: The student.
        read: Shard -> its valid records, in row order.
        sidecar: Shard -> the Parquet file to write.
        fingerprint: Shard -> what its sidecar must carry to count as done.
        task: Advanced by one for every judgement.
        failed: Takes shards that cannot be read, and why; the others go on. By default, the error is raised.

    Yields:
        One result per shard, in the order in which they finish.
    """
    return write_sidecars(
        (
            SidecarWriter(
                shard, sidecar(shard), _table_of(judge.n_slots, judge.windowed), _metadata_of(fingerprint(shard))
            )
            for shard in shards
        ),
        read,
        lambda record: ((record.source, record.id), JudgeTask(record)),
        judge.judge,
        lambda judgement: (judgement.source, judgement.id),
        task,
        failed,
    )


def _table_of(n_slots: int, windowed: bool) -> Callable[[Sequence[tuple[Place, Judgement]]], pa.Table]:
    def table(rows: Sequence[tuple[Place, Judgement]]) -> pa.Table:
        judgements = judgements_table([judgement for _, judgement in rows], n_slots)
        judgements = judgements.drop_columns(list(DROPPED_COLUMNS))
        judgements = judgements.append_column("row", pa.array([place.row for place, _ in rows], pa.int64()))
        judgements = judgements.append_column("n_tokens", pa.array([place.n_tokens for place, _ in rows], pa.int32()))
        return _with_windows(judgements, [judgement for _, judgement in rows]) if windowed else judgements

    return table


def _with_windows(table: pa.Table, judgements: Sequence[Judgement]) -> pa.Table:
    """Append the number of windows, and each slot's spread over them (null where there was one)."""
    table = table.append_column("windows", pa.array([j.windows for j in judgements], pa.int32()))
    for i, slot in enumerate(slot_columns(table.schema.names)):
        spread = [j.spread[i] if j.spread else None for j in judgements]
        table = table.append_column(f"{slot}_spread", pa.array(spread, pa.float32()))
    return table


def _metadata_of(fingerprint: str) -> Callable[[Mapping[str, int]], Mapping[bytes, bytes]]:
    def metadata(unscored: Mapping[str, int]) -> dict[bytes, bytes]:
        retry = sum(unscored.get(why, 0) for why in AGAIN)
        return {FINGERPRINT: fingerprint.encode(), b"mira.retry": str(retry).encode()}

    return metadata


def score_schema(n_slots: int) -> pa.Schema:
    """Return the columns of score sidecars: a judgement's, less its prose, with row and n_tokens."""
    kept = [f for f in judgement_schema(n_slots) if f.name not in DROPPED_COLUMNS]
    return pa.schema([*kept, ("row", pa.int64()), ("n_tokens", pa.int32())])


@dataclass(frozen=True, slots=True)
class _Whole:
    """What is common to all shards of a stage.

    Attributes:
        valid: Source -> valid records.
        failures: Counts the judgements of all students.
        requests: Group -> summary of its requests; filled.
    """

    valid: Mapping[str, int]
    failures: Failures
    requests: dict[str, Any]


def _parts(config: Config, run: RunFolder, log: Log, wanted: Wanted) -> Iterator[ShardPart]:
    yield from _groups(config, run, log, corpus.shards(config.corpus, wanted=wanted))


def _groups(
    config: Config, run: RunFolder, log: Log, shards: Mapping[str, Sequence[Shard]], whole: _Whole | None = None
) -> Iterator[ShardPart]:
    """Yield a part per group. Its student stays open while the part is at work.

    Args:
        config: The settings.
        run: The run folder.
        log: Where progress goes.
        shards: Source -> shards to score.
        whole: Given where all shards are scored.
    """
    for group in load_groups(run):
        own = [shard for source in group.sources for shard in shards[source]]
        if not own:
            continue
        with open_student(config.students, run, group.name, log) as student:
            prefetch_footers(_sidecar_path(run, shard) for shard in own)
            jobs = [_Job(config, run, group.name, student.identity, shard) for shard in own]
            items = [ShardItem(job.shard.source, job.shard.name, _is_done(job), job) for job in jobs]
            paid = not runs_here(config.distill, run, group.name)
            of_all = whole or _of_items(config, run, items)
            yield ShardPart(items, partial(_score_group, config, run, group, student, log, of_all), paid)


def _score_group(
    config: Config,
    run: RunFolder,
    group: Group,
    student: Judge,
    log: Log,
    whole: _Whole,
    given: Iterable[ShardItem],
) -> Iterator[ShardItem]:
    total = sum(whole.valid.get(source, 0) for source in group.sources)
    with watch(student.stats, log, f"scoring {group.name}", total) as task:
        student.failures = whole.failures
        if runs_here(config.distill, run, group.name):
            engine = load_engine(config.score.engine, config.score.workers)
            for item in do_items(engine, _score_one, map(_with_result, given)):
                if item.result is not None:
                    task.advance(item.result.rows)
                yield item
        else:
            yield from _score_stream(config, run, student, map(_with_result, given), task)
        if student.stats is not None:
            before = whole.requests.get(group.name, {})  # of shards that were done before others let go of the rest
            whole.requests[group.name] = added(before, student.stats.summary())


def _of_items(config: Config, run: RunFolder, items: Sequence[ShardItem]) -> _Whole:
    """Return what is common to the shards that one worker does."""
    valid: Counter[str] = Counter()
    for item in items:
        valid[item.source] += sum(len(block.rows) for block in index_blocks(run, item.source, item.shard))
    return _Whole(valid, Failures(valid.total(), config.teacher.failure_budget, run.journal), {})


def _score_stream(
    config: Config, run: RunFolder, student: Judge, given: Iterable[ShardItem], task: Task
) -> Iterator[ShardItem]:
    """Score shards in one stream of records, taking the next shard when the student is ready for more records."""
    waiting: dict[tuple[str, str], ShardItem] = {}
    ended: list[ShardItem] = []  # done before, or cannot be done

    def failed(shard: Shard, error: Exception) -> None:
        ended.append(waiting.pop((shard.source, shard.name))._replace(error=error))

    def todo() -> Iterator[Shard]:
        for item in given:
            if item.done:
                task.advance(item.result.rows)
                ended.append(item)
            else:
                waiting[item.source, item.shard] = item
                yield item.job.shard

    for result in _score_here(config, run, student, todo(), task, failed):
        if student.client is not None and any(result.unscored[why] for why in AGAIN):
            student.client.journal.seal()  # others may do the shard again, and are to find its replies
        yield waiting.pop((result.source, result.shard))._replace(result=result)
        while ended:
            yield ended.pop()
    yield from ended


def _with_result(item: ShardItem) -> ShardItem:
    """Return a done item with its result; one whose sidecar is damaged has to be done again."""
    result = read_result(_sidecar_path(item.job.run, item.job.shard), item.source) if item.done else None
    return item._replace(done=result is not None, result=result)


def _score_one(job: _Job) -> ShardResult:
    key = (job.run.path, job.group, job.student)
    if key not in _opened:  # once a process: consecutive shards are mostly of one group
        _close_students()
        _opened[key] = _students.enter_context(open_student(job.config.students, job.run, job.group, Quiet()))
    return next(_score_here(job.config, job.run, _opened[key], [job.shard], QUIET))


_students = ExitStack()
_opened: dict[tuple[Path, str, str], Judge] = {}


def _close_students() -> None:
    _students.close()
    _opened.clear()


def _score_here(
    config: Config,
    run: RunFolder,
    judge: Judge,
    shards: Iterable[Shard],
    task: Task,
    failed: Callable[[Shard, Exception], None] | None = None,
) -> Iterator[ShardResult]:
    return score_shards(
        shards,
        judge,
        read=lambda shard: corpus.read(config.corpus, run, shard),
        sidecar=lambda shard: _sidecar_path(run, shard),
        fingerprint=lambda shard: hash_json([records_key(run, shard), judge.identity]),
        task=task,
        failed=failed,
    )


def _sidecar_path(run: RunFolder, shard: Shard) -> Path:
    return run.scores(shard.source) / f"{shard.name}.parquet"


def _is_done(job: _Job) -> bool:
    fingerprint = hash_json([records_key(job.run, job.shard), job.student])
    try:
        metadata = read_footer(_sidecar_path(job.run, job.shard)).metadata or {}
    except (OSError, pa.ArrowException):  # not there, or damaged: scored again
        return False
    return metadata.get(FINGERPRINT) == fingerprint.encode() and metadata.get(b"mira.retry") == b"0"


def _remove_strays(run: RunFolder, shards: dict[str, list[Shard]]) -> None:
    """Remove sidecars of shards that are no longer there."""
    wanted = {_sidecar_path(run, shard) for found in shards.values() for shard in found}
    remove_others((run.path / "scores").glob("*/*.parquet"), wanted)


def _reads(config: Config) -> tuple[str, ...]:
    """Return the settings that a served student's answers depend on; an encoder depends on its bundle only."""
    if config.distill.student == "encoder":
        return ()
    if config.distill.student == "head":
        return ("distill.endpoint", "distill.endpoints", "distill.head")
    asked = ("distill.endpoint", "distill.endpoints", "distill.head", "distill.windows")
    return (*asked, "discover.corpus", "discover.records")


def _work(config: Config, run: RunFolder, valid: Mapping[str, int]) -> Work:
    groups = known_groups(config.group, run)
    endpoints = served_endpoints(config.distill, groups, valid)
    if config.distill.student == "head":  # it reads the record alone, and writes nothing
        return Work(valid, valid, endpoints)
    windows = config.distill.windows
    calls = valid if windows is None else {source: _windows(config, run, source, windows) for source in valid}
    most = windows.tokens if windows else 0
    return Work(valid, calls, endpoints, SYSTEM_TOKENS + TEMPLATE_TOKENS, REPLY_TOKENS, record_tokens=most)


def _windows(config: Config, run: RunFolder, source: str, windows: WindowSettings) -> int:
    """Return how many windows a source's valid records have, by the index's counts of tokens."""
    return sum(
        count_windows(block.n_tokens, windows)
        for shard in corpus.shards(config.corpus)[source]
        for block in index_blocks(run, source, shard.name)
    )


def _is_paid(config: Config, run: RunFolder) -> bool:
    return any(not runs_here(config.distill, run, group.name) for group in load_groups(run))


STAGE = Stage(
    name="score",
    version=1,
    run=score,
    needs=needs("index", "group", "distill"),
    reads=_reads,
    outputs=lambda run: [run.path / "scores"],
    resumed=lambda _config, run: [run.path / "scores"],
    work=_work,
    steps=(
        ShardStep("score", _parts, _is_paid, output=lambda run, source, shard: run.scores(source) / f"{shard}.parquet"),
    ),
)
