"""The index: one row a line, with its tokens or why it is rejected; and a source's duplicates.

`index/<source>/<shard>.parquet` has row (int64), id (string, null where rejected), n_tokens and n_chars (int32; of
the record's text, 0 where rejected), reason_rejected and detail (string, null where the row is a record).
`index/<source>/duplicates.parquet` has shard, row, id of the records whose id an earlier record of the source has.
The files' metadata hold the number of placeholders by type (`mira.placeholders`, if any), and a key of
everything that they follow from: content, tokenizer, family, fields, version. A file
whose key still matches is not written again; files of shards and sources that are gone are removed.
"""

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import duckdb
import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from mira.config.settings import CorpusSettings, ScoreSettings, SourceSettings
from mira.corpus import database
from mira.corpus.families import find_family
from mira.corpus.files.lines import size_of
from mira.corpus.parse import Parser
from mira.corpus.peek import check_fields
from mira.corpus.record import Record, Rejected
from mira.corpus.shards import Shard, described, shards
from mira.engine import Engine, LocalEngine, load_engine
from mira.errors import InputError, RunError, way_out
from mira.progress import Log
from mira.run_folder.files import KEY, atomic, hash_file, hash_json, read_key
from mira.run_folder.paths import RunFolder
from mira.run_folder.ranged import prefetch_footers
from mira.stage import ShardItem, ShardPart, Wanted, do_items
from mira.tokens import Tokenizer, tokenizer

__all__ = [
    "LEFT_OUT",
    "check_shard",
    "duplicates_path",
    "folder_of",
    "index_part",
    "records_key",
    "shard_path",
    "source_key",
    "totals",
]

VERSION = 3
SCHEMA = pa.schema(
    [
        ("row", pa.int64()),
        ("id", pa.string()),
        ("n_tokens", pa.int32()),
        ("n_chars", pa.int32()),
        ("reason_rejected", pa.string()),
        ("detail", pa.string()),
    ]
)
LEFT_OUT = b"mira.placeholders"
"""Where a file's metadata hold the number of placeholders by type."""

_BATCH_ROWS, _BATCH_CHARS = 2048, 2**23
_GROUP_BYTES = 2**22  # of small shards that are put in place together
_WORTHWHILE_BYTES = 64 * 2**20  # below this, starting processes takes longer than the work


@dataclass(frozen=True, slots=True)
class _Job:
    source: SourceSettings
    shard: Shard
    tokenizer: str
    threads: int
    longest: int
    target: Path
    key: str


def shard_path(run: RunFolder, shard: Shard) -> Path:
    """Return where a shard's index is."""
    return run.index(shard.source) / f"{shard.name}.parquet"


def duplicates_path(run: RunFolder, source: str) -> Path:
    """Return where a source's duplicates are."""
    return run.index(source) / "duplicates.parquet"


def index_part(corpus: CorpusSettings, settings: ScoreSettings, run: RunFolder, log: Log, wanted: Wanted) -> ShardPart:
    """Return what there is to index of the wanted shards. Those whose index is up to date are done.

    Args:
        corpus: How the corpus is read.
        settings: The engine and the number of workers.
        run: The run folder.
        log: Where it says which files are read.
        wanted: The shards.

    Raises:
        ConfigError: A field mapping or the tokenizer is wrong.
        InputError: A source cannot be found, or lacks a required field.
    """
    counter, found = tokenizer(corpus.tokenizer), shards(corpus, wanted=wanted)
    for source in corpus.sources:
        log.note(f"  {source.name}: {described(source, run.path)}")
        if parts := found[source.name]:
            with _readable(source.name, parts[0].path):
                if warning := check_fields(source, parts, corpus.max_record_bytes):
                    log.note(f"  WARNING: {source.name}: {warning}")
    prefetch_footers(shard_path(run, shard) for parts in found.values() for shard in parts)
    items = []
    for source in corpus.sources:
        for shard in found[source.name]:
            target, key = shard_path(run, shard), _key(corpus, counter, source, shard)
            job = _Job(source, shard, corpus.tokenizer, 1, corpus.max_record_bytes, target, key)
            items.append(ShardItem(source.name, shard.name, read_key(target) == key, job))
    return ShardPart(items, partial(_index, settings, log))


def _index(settings: ScoreSettings, log: Log, given: Iterable[ShardItem]) -> Iterator[ShardItem]:
    items = list(given)
    todo = [item.job.shard for item in items if not item.done]
    engine = _engine(settings, todo)
    if isinstance(engine, LocalEngine) and engine.workers == 1:  # its tokenizer may use all cores
        items = [item._replace(job=replace(item.job, threads=0)) for item in items]
    with log.task("index", len(todo)) as task:
        for item in do_items(engine, _index_shard, items, size_of=_job_bytes, most=_GROUP_BYTES):
            task.advance(not item.done)
            yield item


def _engine(settings: ScoreSettings, todo: list[Shard]) -> Engine:
    """Return the engine; on this machine, processes only where they are worth their start."""
    engine = load_engine(settings.engine, settings.workers)
    small = len(todo) < 2 or sum(map(_bytes, todo)) < _WORTHWHILE_BYTES
    return LocalEngine(1) if small and isinstance(engine, LocalEngine) else engine


def _job_bytes(job: _Job) -> int:
    return _bytes(job.shard)


def _bytes(shard: Shard) -> int:
    if shard.start is not None and shard.stop is not None:
        return shard.stop - shard.start
    return size_of(shard.path)


def _key(corpus: CorpusSettings, counter: Tokenizer, source: SourceSettings, shard: Shard) -> str:
    fields = [source.name, find_family(source.family).identity, dict(source.fields), corpus.max_record_bytes]
    return hash_json([VERSION, shard.name, shard.fingerprint, counter.identity, *fields])


def check_shard(corpus: CorpusSettings, run: RunFolder, shard: Shard) -> None:
    """Check that a shard's index is there and up to date.

    Raises:
        RunError: It is not.
    """
    key = read_key(shard_path(run, shard))
    if key != _key(corpus, tokenizer(corpus.tokenizer), corpus.source(shard.source), shard):
        what = "has changed since it was indexed" if key else "is not indexed yet"
        raise RunError(f"source '{shard.source}': {shard.path} {what}", "Run the index stage first: mira run does.")


def records_key(run: RunFolder, shard: Shard) -> str:
    """Hash a shard's content and which of its rows are valid records: what every sidecar of it depends on.

    Raises:
        RunError: The shard is not indexed.
    """
    index = shard_path(run, shard)
    if not index.is_file():
        raise RunError(f"{index} is not there yet", "Run `mira index` first.")
    duplicates = duplicates_path(run, shard.source)
    doubled = _doubled(duplicates, read_key(duplicates)).get(shard.name, [])
    return hash_json([shard.fingerprint, hash_file(index), doubled])


@lru_cache(maxsize=4)
def _doubled(path: Path, _key: str) -> Mapping[str, list[int]]:
    """Return shard -> its duplicate rows, ascending, of a source; read once, not once per shard."""
    rows: dict[str, list[int]] = {}
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(columns=["shard", "row"]):
            for shard, row in zip(batch["shard"].to_pylist(), batch["row"].to_pylist(), strict=True):
                rows.setdefault(shard, []).append(row)
    return {shard: sorted(found) for shard, found in rows.items()}


def source_key(corpus: CorpusSettings, run: RunFolder, source: str, found: Sequence[Shard]) -> str:
    """Hash everything that the valid records of a source follow from: its files' content, its fields, the index.

    Args:
        corpus: How the corpus is read.
        run: The run folder.
        source: The source's name.
        found: Its shards.

    Raises:
        RunError: A shard is not indexed.
    """
    settings = corpus.source(source).model_dump(mode="json", exclude={"language", "path"})
    return hash_json([settings, [[shard.name, records_key(run, shard)] for shard in found]])


def _index_shard(job: _Job) -> None:
    with _readable(job.source.name, job.shard.path):
        _write_index(job)


@contextmanager
def _readable(source: str, path: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise InputError(
            f"source '{source}': {error.filename or path}: {error.strerror or error}",
            way_out(error, "Check that the file can be read and that the run folder can be written, and run again."),
        ) from None


def _write_index(job: _Job) -> None:
    counter = tokenizer(job.tokenizer, job.threads)
    written = SCHEMA.with_metadata({KEY: job.key.encode()})
    with atomic(job.target) as temporary, pq.ParquetWriter(temporary, written, compression="zstd") as writer:
        items = Parser(job.source, job.longest).parse(job.shard)
        pending: list[pa.Table] = []
        left_out: Counter[str] = Counter()
        for batch in _batched(items):
            left_out.update(kind for item, _ in batch if isinstance(item, Record) for kind in item.left_out)
            pending.append(_table(batch, counter, job.shard.path))
            if sum(t.num_rows for t in pending) >= 2**17:
                writer.write_table(pa.concat_tables(pending).cast(written))
                pending = []
        if pending:
            writer.write_table(pa.concat_tables(pending).cast(written))
        if left_out:
            writer.add_key_value_metadata({LEFT_OUT.decode(): orjson.dumps(left_out).decode()})
        job.shard.check_unchanged()


def _batched(items: Iterable[Record | Rejected]) -> Iterator[list[tuple[Record | Rejected, str]]]:
    """Group items with their text until they are many or long enough to be counted together."""
    batch: list[tuple[Record | Rejected, str]] = []
    chars = 0
    for item in items:
        text = item.text if isinstance(item, Record) else ""
        batch.append((item, text))
        chars += len(text)
        if len(batch) >= _BATCH_ROWS or chars >= _BATCH_CHARS:
            yield batch
            batch, chars = [], 0
    if batch:
        yield batch


def _table(items: list[tuple[Record | Rejected, str]], counter: Tokenizer, path: str) -> pa.Table:
    texts = [text for _, text in items]
    columns = {
        "row": [item.row for item, _ in items],
        "id": [item.id if isinstance(item, Record) else None for item, _ in items],
        "n_tokens": counter.count(texts),
        "n_chars": [len(text) for text in texts],
        "reason_rejected": [str(item.reason) if isinstance(item, Rejected) else None for item, _ in items],
        "detail": [_detail(item, path) if isinstance(item, Rejected) else None for item, _ in items],
    }
    return pa.table(columns, schema=SCHEMA)


def folder_of(path: str) -> str:
    """Return the folder of a file, with its last slash."""
    return path[: path.replace(os.sep, "/").rfind("/") + 1]


def _detail(item: Rejected, path: str) -> str:
    """Return what is wrong, in a file named without its folder: the index of a corpus that was moved is the same."""
    text = item.detail.removeprefix(folder_of(path))
    return text.encode("utf-8", "backslashreplace").decode()[:1000]


def totals(corpus: CorpusSettings, run: RunFolder) -> dict[str, dict[str, Any]]:
    """Count what the index holds.

    Returns:
        Source -> {"rows", "valid", "rejected": {reason: n}, "tokens"}; rows = valid + all rejected; tokens are of
        the valid records.

    Raises:
        RunError: A source is not indexed yet.
    """
    with database.connect(run) as con:
        return {source.name: _source_totals(con, run, source.name) for source in corpus.sources}


def _source_totals(con: duckdb.DuckDBPyConnection, run: RunFolder, source: str) -> dict[str, Any]:
    database.register_source(con, run, source)
    counted = con.execute(
        """SELECT coalesce(reason_rejected, CASE WHEN d.row IS NOT NULL THEN 'duplicate_id' END) AS reason,
        count(*), sum(n_tokens) FROM entries e LEFT JOIN duplicates d ON e.shard = d.shard AND e.row = d.row
        GROUP BY reason ORDER BY reason"""
    ).fetchall()
    rejected = {str(reason): int(n) for reason, n, _ in counted if reason is not None}
    valid, tokens = next(((int(n), int(t)) for reason, n, t in counted if reason is None), (0, 0))
    return {"rows": valid + sum(rejected.values()), "valid": valid, "rejected": rejected, "tokens": tokens}
