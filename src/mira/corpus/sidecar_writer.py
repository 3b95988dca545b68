"""Sidecars written from one stream of answers over many shards, each as soon as its last answer is there."""

from collections import Counter
from collections.abc import Callable, Generator, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, NamedTuple, TypeVar

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mira.corpus.record import Record
from mira.corpus.shards import Shard
from mira.errors import MiraError
from mira.progress import Task
from mira.run_folder.files import write_parquet
from mira.run_folder.ranged import read_footer

__all__ = ["FINGERPRINT", "Place", "ShardResult", "SidecarWriter", "read_result", "write_sidecars"]

FINGERPRINT = b"mira.fingerprint"
"""Key of a sidecar's metadata: what the sidecar was made from. With the right value, the shard is done."""

_BATCH = 4096  # answers held as objects; beyond that they are columns

Question = TypeVar("Question")
Answer = TypeVar("Answer")


class ShardResult(NamedTuple):
    """What came of one shard: source, rows in its sidecar, unscored rows by reason, and the shard's name."""

    source: str
    rows: int
    unscored: Counter[str]
    shard: str


class Place(NamedTuple):
    """The record that an answer belongs to."""

    row: int
    id: str
    n_tokens: int


@dataclass(slots=True)
class SidecarWriter(Generic[Answer]):
    """A sidecar in the making: records still awaited, and columns so far.

    Attributes:
        shard: The shard.
        path: The sidecar.
        table: Makes rows of answers; columns `row` and `reason_unscored` among them.
        metadata: Returns the sidecar's metadata, given its unscored rows by reason.
    """

    shard: Shard
    path: Path
    table: Callable[[Sequence[tuple[Place, Answer]]], pa.Table]
    metadata: Callable[[Mapping[str, int]], Mapping[bytes, bytes]]
    complete: bool = False
    broken: bool = False
    _waiting: dict[Hashable, Place] = field(default_factory=dict)
    _batch: list[tuple[Place, Answer]] = field(default_factory=list)
    _tables: list[pa.Table] = field(default_factory=list)

    @property
    def done(self) -> bool:
        """Whether every record has its answer."""
        return self.complete and not self._waiting

    def expect(self, key: Hashable, record: Record) -> None:
        """Wait for the answer to a record."""
        self._waiting[key] = Place(record.row, record.id, record.n_tokens)

    def add(self, key: Hashable, answer: Answer) -> None:
        """Take an answer."""
        self._batch.append((self._waiting.pop(key), answer))
        if len(self._batch) >= _BATCH:
            self._flush()

    def write(self) -> ShardResult:
        """Write the sidecar, rows in the shard's order."""
        self._flush()
        table = pa.concat_tables(self._tables).sort_by("row")
        reasons = _reasons(table)
        write_parquet(self.path, table.replace_schema_metadata(self.metadata(reasons)))
        return ShardResult(self.shard.source, len(table), reasons, self.shard.name)

    def _flush(self) -> None:
        self._tables.append(self.table(self._batch))
        self._batch = []


def write_sidecars(
    sidecars: Iterable[SidecarWriter[Answer]],
    read: Callable[[Shard], Iterator[Record]],
    question: Callable[[Record], tuple[Hashable, Question]],
    ask: Callable[[Iterator[Question]], Generator[Answer, None, None] | Iterator[Answer]],
    key: Callable[[Answer], Hashable],
    task: Task,
    failed: Callable[[Shard, Exception], None] | None = None,
) -> Iterator[ShardResult]:
    """Ask about the records of many shards in one stream, so that an endpoint stays busy at their ends.

    Args:
        sidecars: One per shard, made when the shard's turn comes.
        read: Shard -> its valid records, in row order.
        question: Record -> the key of its answer, and the question.
        ask: Questions -> answers, in any order.
        key: Answer -> its key.
        task: Advanced by one for every answer.
        failed: Takes shards that cannot be read, and why; the others go on. By default, the error is raised.

    Yields:
        One result per shard, in the order in which they finish.
    """
    owner: dict[Hashable, SidecarWriter[Answer]] = {}
    finished: list[SidecarWriter[Answer]] = []

    def records(sidecar: SidecarWriter[Answer]) -> Iterator[Record]:
        try:
            yield from read(sidecar.shard)
        except (MiraError, OSError) as error:
            if failed is None:
                raise
            sidecar.broken = True
            failed(sidecar.shard, error)

    def questions() -> Iterator[Question]:
        for sidecar in sidecars:
            for record in records(sidecar):
                name, asked = question(record)
                owner[name] = sidecar
                sidecar.expect(name, record)
                yield asked
            sidecar.complete = not sidecar.broken
            if sidecar.done:
                finished.append(sidecar)

    answers = ask(questions())
    try:
        for answer in answers:
            name = key(answer)
            sidecar = owner.pop(name)
            sidecar.add(name, answer)
            task.advance()
            if sidecar.done:
                finished.append(sidecar)
            while finished:
                yield finished.pop().write()
    finally:
        if isinstance(answers, Generator):
            answers.close()
    while finished:
        yield finished.pop().write()


def read_result(path: Path, source: str) -> ShardResult | None:
    """Return the result that a finished sidecar holds; None if it is missing or damaged."""
    try:
        footer = read_footer(path)
        if _all_scored(footer):
            return ShardResult(source, footer.num_rows, Counter(), path.name.removesuffix(".parquet"))
        table = pq.read_table(path, columns=["reason_unscored"])
    except (OSError, pa.ArrowException):
        return None
    return ShardResult(source, len(table), _reasons(table), path.name.removesuffix(".parquet"))


def _all_scored(footer: pq.FileMetaData) -> bool:
    """Return whether a sidecar's footer says that no row has a reason for being unscored."""
    at = footer.schema.names.index("reason_unscored") if "reason_unscored" in footer.schema.names else -1
    if at < 0 or not footer.num_rows:
        return False
    columns = (footer.row_group(group).column(at) for group in range(footer.num_row_groups))
    nulls = [column.statistics.null_count if column.statistics else None for column in columns]
    return None not in nulls and sum(n for n in nulls if n) == footer.num_rows


def _reasons(table: pa.Table) -> Counter[str]:
    counts = pc.value_counts(table["reason_unscored"].drop_null()).to_pylist()
    return Counter({item["values"]: item["counts"] for item in counts})
