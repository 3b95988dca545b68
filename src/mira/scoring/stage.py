"""Stage `score`: one sidecar per shard. A shard is done if its sidecar has the right fingerprint."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

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
from mira.llm.failures import Failures, check_failures
from mira.llm.progress import watch
from mira.progress import QUIET, Log, Quiet, Task
from mira.rubric.judgement import Judgement, judgement_schema, judgements_table
from mira.rubric.slots import slot_columns
from mira.run_folder.files import hash_json, remove_others
from mira.run_folder.paths import RunFolder
from mira.stage import REPLY_TOKENS, SYSTEM_TOKENS, TEMPLATE_TOKENS, Stage, Work, needs
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
    failures = Failures(sum(t["valid"] for t in totals.values()), config.teacher.failure_budget, run.journal)
    for group in load_groups(run):
        n_valid = sum(totals[source]["valid"] for source in group.sources)
        with (
            open_student(config.students, run, group.name, log) as student,
            watch(student.stats, log, f"scoring {group.name}", n_valid) as task,
        ):
            student.failures = failures
            for result in _score_group(config, run, group, student, shards, task):
                rows[result.source] += result.rows
                unscored[result.source] += result.unscored
            if student.stats is not None:
                requests[group.name] = student.stats.summary()
    for source, total in totals.items():
        if rows[source] != total["valid"]:
            raise ConservationError(
                f"source '{source}': {total['valid']} valid records, {rows[source]} rows in its score sidecars",
                f"Remove {run.scores(source)} and score again.",
            )
    check_failures(unscored, sum(rows.values()), config.teacher.failure_budget, log, failures.evidence)
    return {"rows": dict(rows), "unscored": {s: dict(c) for s, c in unscored.items()}, "requests": requests}


def score_shards(
    shards: Sequence[Shard],
    judge: Judge,
    read: Callable[[Shard], Iterator[Record]],
    sidecar: Callable[[Shard], Path],
    fingerprint: Callable[[Shard], str],
    task: Task = QUIET,
) -> Iterator[ShardResult]:
    """Score shards with one judge, writing each sidecar as soon as its last judgement is there.

    The judge sees one stream over all the shards, so an endpoint stays busy at their ends.

    Args:
        shards: What to score.
        judge: The student.
        read: Shard -> its valid records, in row order.
        sidecar: Shard -> the Parquet file to write.
        fingerprint: Shard -> what its sidecar must carry to count as done.
        task: Advanced by one for every judgement.

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


def _score_group(
    config: Config, run: RunFolder, group: Group, student: Judge, shards: dict[str, list[Shard]], task: Task
) -> Iterator[ShardResult]:
    todo = []
    for shard in (s for source in group.sources for s in shards[source]):
        done = _done(_sidecar_path(run, shard), hash_json([records_key(run, shard), student.identity]))
        if done:
            task.advance(done.rows)
            yield done
        else:
            todo.append(shard)
    if runs_here(config.distill, run, group.name):
        jobs = [_Job(config, run, group.name, student.identity, shard) for shard in todo]
        for result in load_engine(config.score.engine, config.score.workers).map(_score_one, jobs):
            task.advance(result.rows)
            yield result
    elif todo:
        yield from _score_here(config, run, student, todo, task)


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
    config: Config, run: RunFolder, judge: Judge, shards: Sequence[Shard], task: Task
) -> Iterator[ShardResult]:
    return score_shards(
        shards,
        judge,
        read=lambda shard: corpus.read(config.corpus, run, shard),
        sidecar=lambda shard: _sidecar_path(run, shard),
        fingerprint=lambda shard: hash_json([records_key(run, shard), judge.identity]),
        task=task,
    )


def _sidecar_path(run: RunFolder, shard: Shard) -> Path:
    return run.scores(shard.source) / f"{shard.name}.parquet"


def _done(path: Path, fingerprint: str) -> ShardResult | None:
    try:
        metadata = pq.read_schema(path).metadata or {}
        if metadata.get(FINGERPRINT) != fingerprint.encode() or metadata.get(b"mira.retry") != b"0":
            return None
    except (OSError, pa.ArrowException):  # not there, or damaged: scored again
        return None
    return read_result(path, path.parent.name)


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


STAGE = Stage(
    name="score",
    version=1,
    run=score,
    needs=needs("index", "group", "distill"),
    reads=_reads,
    outputs=lambda run: [run.path / "scores"],
    resumed=lambda _config, run: [run.path / "scores"],
    work=_work,
)
