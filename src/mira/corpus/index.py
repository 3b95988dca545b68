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
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from mira.config.settings import Config, CorpusSettings, SourceSettings
from mira.corpus import database
from mira.corpus.families import find_family
from mira.corpus.files.lines import size_of
from mira.corpus.parse import Parser
from mira.corpus.peek import check_fields
from mira.corpus.record import Record, Rejected, Rejection
from mira.corpus.shards import Shard, described, shards
from mira.engine import LocalEngine
from mira.engine.groups import Grouped, grouped
from mira.errors import InputError, RunError, way_out
from mira.progress import Log
from mira.run_folder.files import KEY, atomic, hash_file, hash_json, read_key, remove_folder
from mira.run_folder.paths import RunFolder
from mira.tokens import Tokenizer, tokenizer

__all__ = ["build_index", "check_shard", "duplicates_path", "records_key", "shard_path", "source_key", "totals"]

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
_DUPLICATES = pa.schema([("shard", pa.string()), ("row", pa.int64()), ("id", pa.string())])
_FIND_DUPLICATES = """
    WITH doubled AS (SELECT id FROM entries WHERE reason_rejected IS NULL GROUP BY id HAVING count(*) > 1)
    SELECT shard, row, id FROM (
        SELECT shard, place, row, id, row_number() OVER (PARTITION BY id ORDER BY place, row) AS nth
        FROM entries SEMI JOIN doubled USING (id) WHERE reason_rejected IS NULL
    ) WHERE nth > 1 ORDER BY place, row
"""
_LEFT_OUT = b"mira.placeholders"
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


def build_index(config: Config, run: RunFolder, log: Log) -> dict[str, Any]:
    """Read every source, count tokens, and write the index; shards that are up to date are skipped.

    Returns:
        {"sources": {source: as in `totals`}, "shards": n, "indexed": shards written now, "skipped": shards kept}.

    Raises:
        ConfigError: A field mapping or the tokenizer is wrong.
        InputError: A source cannot be found, is empty, lacks a required field, or has no valid record.
        RunError: A worker process died.
    """
    counter = tokenizer(config.tokenizer)
    corpus = config.corpus
    found = shards(corpus)
    for source in config.sources:
        log.note(f"  {source.name}: {described(source, config.run)}")
        with _readable(source.name, found[source.name][0].path):
            if warning := check_fields(source, found[source.name], config.max_record_bytes):
                log.note(f"  WARNING: {source.name}: {warning}")
    jobs = _jobs(corpus, run, counter, found)
    _remove_gone(run, set(found))
    for source in config.sources:
        _sweep(run.index(source.name), {shard_path(run, s).name for s in found[source.name]})
    with log.task("index", len(jobs)) as task:
        groups = grouped(jobs, lambda job: _bytes(job.shard), _GROUP_BYTES)
        for done in LocalEngine(_workers([j.shard for j in jobs])).map(Grouped(_index_shard), groups):
            task.advance(len(done))
    for source in config.sources:
        _find_duplicates(run, source.name, found[source.name])
    sums = totals(corpus, run)
    for name, counts in sums.items():
        _check_usable(run, name, found[name], counts)
        _tell_rejected(run, name, found[name], counts, log)
        if left_out := _left_out(run, found[name]):
            counts["placeholders"] = left_out
            listed = ", ".join(f"{n:,} {kind}" for kind, n in left_out.items())
            log.note(f"  {name}: of parts that are not text, judges see only a placeholder: {listed}")
    n = sum(map(len, found.values()))
    return {"sources": sums, "shards": n, "indexed": len(jobs), "skipped": n - len(jobs)}


def _jobs(corpus: CorpusSettings, run: RunFolder, counter: Tokenizer, found: dict[str, list[Shard]]) -> list[_Job]:
    """Return what is not up to date."""
    pairs = [(source, shard) for source in corpus.sources for shard in found[source.name]]
    keys = [_key(corpus, counter, source, shard) for source, shard in pairs]
    stale = [(*pair, k) for pair, k in zip(pairs, keys, strict=True) if read_key(shard_path(run, pair[1])) != k]
    threads = 1 if _workers([shard for _, shard, _ in stale]) != 1 else 0
    return [
        _Job(source, shard, corpus.tokenizer, threads, corpus.max_record_bytes, shard_path(run, shard), key)
        for source, shard, key in stale
    ]


def _workers(todo: list[Shard]) -> int:
    """Return the processes that are worth their start: one per core (0), or none but this one (1)."""
    return 0 if len(todo) > 1 and sum(map(_bytes, todo)) >= _WORTHWHILE_BYTES else 1


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
    doubled = pq.read_table(duplicates_path(run, shard.source), columns=["row"], filters=[("shard", "=", shard.name)])
    return hash_json([shard.fingerprint, hash_file(index), sorted(doubled["row"].to_pylist())])


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


def _remove_gone(run: RunFolder, sources: set[str]) -> None:
    """Remove the index of sources that are gone: the stage's output must tell that they are."""
    for folder in (run.path / "index").glob("[!.]*"):
        if folder.is_dir() and folder.name not in sources:
            remove_folder(folder)


def _sweep(folder: Path, names: set[str]) -> None:
    """Remove the index files of shards that are gone, and what killed runs left."""
    if folder.is_dir():
        for path in folder.iterdir():
            gone = path.suffix == ".parquet" and path.name not in names and path.name != "duplicates.parquet"
            if gone or path.suffix == ".tmp":
                path.unlink(missing_ok=True)


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
            writer.add_key_value_metadata({_LEFT_OUT.decode(): orjson.dumps(left_out).decode()})
        job.shard.check_unchanged()


def _left_out(run: RunFolder, found: list[Shard]) -> dict[str, int]:
    """Count the content parts of which records show only a placeholder, by type."""
    counts: Counter[str] = Counter()
    for shard in found:
        left_out = (pq.read_metadata(shard_path(run, shard)).metadata or {}).get(_LEFT_OUT)
        counts.update(orjson.loads(left_out) if left_out else {})
    return dict(counts.most_common())


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


def _folder(path: str) -> str:
    """Return the folder of a file, with its last slash."""
    return path[: path.replace(os.sep, "/").rfind("/") + 1]


def _detail(item: Rejected, path: str) -> str:
    """Return what is wrong, in a file named without its folder: the index of a corpus that was moved is the same."""
    text = item.detail.removeprefix(_folder(path))
    return text.encode("utf-8", "backslashreplace").decode()[:1000]


def _find_duplicates(run: RunFolder, source: str, found: list[Shard]) -> None:
    """Write the records whose id an earlier record has; earlier by path and position in it."""
    target = duplicates_path(run, source)
    paths = [shard_path(run, s) for s in found]
    key = hash_json([[s.name, read_key(p)] for s, p in zip(found, paths, strict=True)])
    if read_key(target) == key:
        return
    written = _DUPLICATES.with_metadata({KEY: key.encode()})
    with (
        database.connect(run) as con,
        atomic(target) as temporary,
        pq.ParquetWriter(temporary, written, compression="zstd") as writer,
    ):
        database.register_index(con, [(s.name, p) for s, p in zip(found, paths, strict=True)])
        con.execute(_FIND_DUPLICATES)
        while rows := con.fetchmany(2**16):
            columns = [
                pa.array(values, field.type) for values, field in zip(zip(*rows, strict=True), written, strict=True)
            ]
            writer.write_table(pa.table(columns, schema=written))


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


def _check_usable(run: RunFolder, source: str, found: list[Shard], counts: dict[str, Any]) -> None:
    paths = ", ".join(dict.fromkeys(s.path for s in found[:3])) + (", ..." if len(found) > 3 else "")
    if not counts["rows"]:
        raise InputError(f"source '{source}': {paths}: no record in it", "Fill the source, or take it out of sources.")
    if counts["valid"]:
        return
    with database.connect(run) as con:
        database.register_source(con, run, source)
        rows = con.execute("SELECT shard, detail FROM entries ORDER BY place, row LIMIT 3").fetchall()
    reasons = ", ".join(f"{n:,} {reason}" for reason, n in counts["rejected"].items())
    raise InputError(
        f"source '{source}': every record is rejected ({reasons})",
        "First: " + "; ".join(_whole(row, found) for row in rows),
    )


def _whole(row: tuple[str, str], found: Sequence[Shard]) -> str:
    """Return the detail of a rejected line with the whole path of its file."""
    shard, detail = row
    return next((_folder(s.path) for s in found if s.name == shard), "") + detail


def _tell_rejected(run: RunFolder, source: str, found: Sequence[Shard], counts: dict[str, Any], log: Log) -> None:
    """Say what is rejected and why, with the first case of each reason; a file that ends early above all."""
    for reason, n in counts["rejected"].items():
        with database.connect(run) as con:
            database.register_source(con, run, source)
            first = con.execute(
                "SELECT shard, detail FROM entries WHERE reason_rejected = ? ORDER BY place, row LIMIT 1", [reason]
            ).fetchone()
        shown = f", first: {_whole(first, found)}" if first else ""
        loud = "WARNING: " if reason == Rejection.TRUNCATED_FILE else ""
        log.note(f"  {loud}{source}: {n:,} rejected as {reason}{shown}")
