"""Stage `index`: read every source once."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from mira.config.settings import Config, CorpusSettings
from mira.corpus import database
from mira.corpus.families import find_family
from mira.corpus.index import LEFT_OUT, duplicates_path, folder_of, index_part, shard_path, totals
from mira.corpus.record import Rejection
from mira.corpus.shards import Shard, shards
from mira.errors import InputError
from mira.progress import Log
from mira.run_folder.files import KEY, atomic, hash_json, read_key, remove_folder
from mira.run_folder.paths import RunFolder
from mira.stage import ShardPart, ShardStep, Stage, Wanted, Work, all_shards, do_parts, needs, reads
from mira.tokens import BUILT_IN

__all__ = ["STAGE", "build_index"]

_DUPLICATES = pa.schema([("shard", pa.string()), ("row", pa.int64()), ("id", pa.string())])
_FIND_DUPLICATES = """
    WITH doubled AS (SELECT id FROM entries WHERE reason_rejected IS NULL GROUP BY id HAVING count(*) > 1)
    SELECT shard, row, id FROM (
        SELECT shard, place, row, id, row_number() OVER (PARTITION BY id ORDER BY place, row) AS nth
        FROM entries SEMI JOIN doubled USING (id) WHERE reason_rejected IS NULL
    ) WHERE nth > 1 ORDER BY place, row
"""


def build_index(config: Config, run: RunFolder, log: Log) -> dict[str, Any]:
    """Read every source, count tokens, and write the index; shards that are up to date are skipped.

    Returns:
        {"sources": {source: as in `_gather`}, "shards": n, "indexed": shards written now, "skipped": shards kept}.

    Raises:
        ConfigError: A field mapping or the tokenizer is wrong.
        InputError: A source cannot be found, is empty, lacks a required field, or has no valid record.
        RunError: A worker process died.
    """
    items = list(do_parts(_parts(config, run, log, all_shards)))
    found: dict[str, list[Shard]] = {source.name: [] for source in config.sources}
    for item in items:
        found[item.source].append(item.job.shard)
    for parts in found.values():
        parts.sort(key=lambda shard: (shard.path, shard.start or 0))
    _remove_gone(run, found)
    sources = _gather(config.corpus, run, found, log)
    indexed = sum(not item.done for item in items)
    return {"sources": sources, "shards": len(items), "indexed": indexed, "skipped": len(items) - indexed}


def _parts(config: Config, run: RunFolder, log: Log, wanted: Wanted) -> Iterator[ShardPart]:
    yield index_part(config.corpus, config.score, run, log, wanted)


def _gather(corpus: CorpusSettings, run: RunFolder, found: Mapping[str, Sequence[Shard]], log: Log) -> dict[str, Any]:
    """Find the duplicates of every source, and count what the index holds; every shard must be indexed.

    Returns:
        Source -> as in `totals`, with "placeholders" if there are any.

    Raises:
        InputError: A source is empty, or has no valid record.
    """
    for source, parts in found.items():
        _find_duplicates(run, source, parts)
    sums = totals(corpus, run)
    for name, counts in sums.items():
        _check_usable(run, name, found[name], counts)
        _tell_rejected(run, name, found[name], counts, log)
        if left_out := _left_out(run, found[name]):
            counts["placeholders"] = left_out
            listed = ", ".join(f"{n:,} {kind}" for kind, n in left_out.items())
            log.note(f"  {name}: of parts that are not text, judges see only a placeholder: {listed}")
    return sums


def _remove_gone(run: RunFolder, found: Mapping[str, Sequence[Shard]]) -> None:
    """Remove the index of sources and shards that are gone, and what killed runs left."""
    for folder in (run.path / "index").glob("[!.]*"):
        if folder.is_dir() and folder.name not in found:  # the stage's output must tell that it is gone
            remove_folder(folder)
    for source, parts in found.items():
        _sweep(run.index(source), {shard_path(run, shard).name for shard in parts})


def _sweep(folder: Path, names: set[str]) -> None:
    """Remove the index files of shards that are gone, and what killed runs left."""
    if folder.is_dir():
        for path in folder.iterdir():
            gone = path.suffix == ".parquet" and path.name not in names and path.name != "duplicates.parquet"
            if gone or path.suffix == ".tmp":
                path.unlink(missing_ok=True)


def _find_duplicates(run: RunFolder, source: str, found: Sequence[Shard]) -> None:
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


def _check_usable(run: RunFolder, source: str, found: Sequence[Shard], counts: dict[str, Any]) -> None:
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


def _whole(row: tuple[str, str], found: Sequence[Shard]) -> str:
    """Return the detail of a rejected line with the whole path of its file."""
    shard, detail = row
    return next((folder_of(s.path) for s in found if s.name == shard), "") + detail


def _left_out(run: RunFolder, found: Sequence[Shard]) -> dict[str, int]:
    """Count the content parts of which records show only a placeholder, by type."""
    counts: Counter[str] = Counter()
    for shard in found:
        left_out = (pq.read_metadata(shard_path(run, shard)).metadata or {}).get(LEFT_OUT)
        counts.update(orjson.loads(left_out) if left_out else {})
    return dict(counts.most_common())


def _settings(config: Config) -> dict[str, Any]:
    sources = [
        s.model_dump(mode="json", exclude={"language", "path"}) | {"family": find_family(s.family).identity}
        for s in config.sources
    ]
    named = config.tokenizer if config.tokenizer in BUILT_IN else ""
    return {"sources": sources, "tokenizer": named, "max_record_bytes": config.max_record_bytes}


def _files(config: Config, _run: RunFolder) -> dict[str, str]:
    return {
        f"source {source}": hash_json([[s.name, s.fingerprint] for s in found])
        for source, found in shards(config.corpus).items()
    }


def _work(_config: Config, _run: RunFolder, valid: Mapping[str, int]) -> Work:
    return Work(records=valid)


STAGE = Stage(
    name="index",
    version=3,
    run=build_index,
    needs=needs(),
    settings=_settings,
    reads=reads("sources", "tokenizer", "max_record_bytes"),
    outputs=lambda run: [run.path / "index"],
    resumed=lambda _config, run: [run.path / "index"],
    files=_files,
    work=_work,
    steps=(ShardStep("index", _parts, output=lambda run, source, shard: run.index(source) / f"{shard}.parquet"),),
)
