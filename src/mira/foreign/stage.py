"""Stage `join`: foreign scores, from files or from a field of the records, beside the valid records of the index."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mira.config.scores import ForeignSettings
from mira.config.settings import Config, CorpusSettings
from mira.corpus import Shard, records_key, shards, totals
from mira.corpus.database import connect
from mira.corpus.index import check_shard
from mira.corpus.index_reader import Batches, index_blocks
from mira.corpus.parse import Parser
from mira.engine import load_engine
from mira.errors import ConservationError
from mira.foreign.files import FileCounts, files_key, finish, given_scores, reasons_of, score_files, source_rows
from mira.foreign.sidecars import SCHEMA, foreign_path
from mira.foreign.values import check_objects
from mira.progress import Log
from mira.run_folder.files import (
    KEY,
    atomic,
    hash_json,
    read_key,
    read_sealed,
    remove_folder,
    remove_others,
    write_sealed,
)
from mira.run_folder.paths import RunFolder
from mira.stage import Stage, needs

__all__ = ["STAGE", "join"]

VERSION = 1
_COUNTS = b"mira.counts"
_BATCH = 1 << 14


@dataclass(slots=True)
class Joined:
    """What came of one score. records = scored + all missing.

    Attributes:
        records: Valid records of its sources.
        scored: Those that have the score.
        missing: Reason -> records without it.
        sources: Source -> the same three counts.
        files: What its files hold; None if it is a field of the records.
    """

    records: int = 0
    scored: int = 0
    missing: dict[str, int] = field(default_factory=dict)
    sources: dict[str, dict[str, Any]] = field(default_factory=dict)
    files: FileCounts | None = None


def join(config: Config, run: RunFolder, log: Log) -> dict[str, Any]:
    """Join every foreign score with the records of its sources.

    Sidecars that are up to date are kept.

    Returns:
        {"scores": {name: `Joined`}, "written": sidecars written now, "shards": all}.

    Raises:
        ConfigError: A column is missing or has the wrong type.
        InputError: A file cannot be read, or ids have different scores.
        RunError: A source is not indexed.
        ConservationError: Rows or records do not add up.
    """
    found, counted = shards(config.corpus), totals(config.corpus, run)
    for shard in (shard for parts in found.values() for shard in parts):
        check_shard(config.corpus, run, shard)
    _remove_strays(run, config.scores, found)
    joined, written, every = {}, 0, 0
    for name, settings in config.scores.items():
        own = [shard for source, parts in found.items() if settings.covers(source) for shard in parts]
        with log.task(f"join: {name}", len(own)) as task:
            from_files = bool(settings.path)
            make = _join_files if from_files else _join_fields
            new = 0
            for _ in make(config, run, name, own):
                new += 1
                task.advance()
            task.advance(len(own) - new)
        joined[name] = _summary(config.corpus, run, name, settings, own, counted)
        written, every = written + new, every + len(own)
        for note in _notes(name, joined[name]):
            log.note(note)
    return {"scores": {name: asdict(one) for name, one in joined.items()}, "written": written, "shards": every}


def _remove_strays(run: RunFolder, scores: Mapping[str, ForeignSettings], found: Mapping[str, Sequence[Shard]]) -> None:
    """Remove the sidecars of scores, sources and shards that are gone."""
    folder = run.path / "foreign"
    for path in folder.glob("*/") if folder.is_dir() else []:
        if path.name not in scores:
            remove_folder(path)
    wanted = {
        foreign_path(run, name, shard)
        for name, settings in scores.items()
        for source, parts in found.items()
        if settings.covers(source)
        for shard in parts
    }
    remove_others(folder.glob("*/*/*.parquet"), wanted)


def _keys(run: RunFolder, settings: ForeignSettings, own: Sequence[Shard], content: str) -> dict[Shard, str]:
    """Return what each sidecar must carry to count as done."""
    reads = settings.model_dump(mode="json", exclude={"path", "better", "slot", "sources"})
    return {shard: hash_json([VERSION, reads, content, records_key(run, shard)]) for shard in own}


def _outdated(run: RunFolder, name: str, keys: Mapping[Shard, str]) -> list[Shard]:
    return [shard for shard, key in keys.items() if read_key(foreign_path(run, name, shard)) != key]


def _join_files(config: Config, run: RunFolder, name: str, own: Sequence[Shard]) -> Iterator[None]:
    settings = config.scores[name]
    found = score_files(config.corpus, name, settings)
    keys = _keys(run, settings, own, files_key(found))
    identity, kept = hash_json(sorted(keys.values())), _file_counts(run, name)
    if not _outdated(run, name, keys) and read_sealed(kept).get("identity") == identity:
        return
    kept.unlink(missing_ok=True)
    temporary = run.path / "foreign" / name / ".given.parquet"
    try:
        with connect(run, alone=True) as con:
            given = given_scores(con, name, settings, found, temporary)
            temporary.unlink()
            for source, parts in groupby(own, lambda shard: shard.source):
                of_name = {shard.name: shard for shard in parts}
                waiting = dict(of_name)
                for shard_name, tables in groupby(source_rows(given, run, source), lambda part: part[0]):
                    shard = waiting.pop(shard_name)
                    _write(foreign_path(run, name, shard), keys[shard], (_rows(table) for _, table in tables))
                    yield
                for shard in waiting.values():  # without a valid record
                    _write(foreign_path(run, name, shard), keys[shard], iter(()))
                    yield
            counts = finish(given)
    finally:
        temporary.unlink(missing_ok=True)
    write_sealed(kept, {"identity": identity, **asdict(counts)})


def _rows(table: pa.Table) -> pa.Table:
    columns = [table["row"], table["id"], table["value"], reasons_of(table["code"])]
    return pa.Table.from_arrays(
        [pa.chunked_array([c]) if isinstance(c, pa.Array) else c for c in columns], SCHEMA.names
    )


def _file_counts(run: RunFolder, name: str) -> Path:
    return run.path / "foreign" / name / "files.json"


class _FieldTask(NamedTuple):
    """One shard whose records hold the score."""

    corpus: CorpusSettings
    run: RunFolder
    shard: Shard
    settings: ForeignSettings
    path: Path
    key: str


def _join_fields(config: Config, run: RunFolder, name: str, own: Sequence[Shard]) -> Iterator[None]:
    settings = config.scores[name]
    keys = _keys(run, settings, own, "")
    tasks = [
        _FieldTask(config.corpus, run, shard, settings, foreign_path(run, name, shard), keys[shard])
        for shard in _outdated(run, name, keys)
    ]
    yield from load_engine(config.score.engine, config.score.workers).map(_read_field, tasks)


def _read_field(task: _FieldTask) -> None:
    """Write the sidecar of one shard from a field of its records."""
    shard = task.shard
    shard.check_unchanged()
    parser = Parser(task.corpus.source(shard.source), task.corpus.max_record_bytes)
    given = parser.values(shard, task.settings.field)

    def tables() -> Iterator[pa.Table]:
        row, value = next(given, (-1, None))
        for block in index_blocks(task.run, shard.source, shard.name):
            found: list[Any] = []
            for wanted in block.rows.tolist():
                while 0 <= row < wanted:
                    row, value = next(given, (-1, None))
                found.append(value if row == wanted else None)
            values, codes = check_objects(found, task.settings)
            columns = {"row": block.rows, "id": block.ids, "value": pa.array(values, from_pandas=True), "code": codes}
            yield _rows(pa.table(columns))

    _write(task.path, task.key, tables())
    shard.check_unchanged()


def _write(path: Path, key: str, tables: Iterator[pa.Table]) -> None:
    counts: Counter[str] = Counter()
    with (
        atomic(path) as temporary,
        pq.ParquetWriter(temporary, SCHEMA.with_metadata({KEY: key.encode()}), compression="zstd") as writer,
    ):
        batches = Batches(batch for table in tables for batch in table.cast(SCHEMA).to_batches())
        while (batch := batches.take(_BATCH)) is not None:  # row groups of one size, however the rows came
            table = pa.Table.from_batches([batch])
            missing = table["reason"].cast(pa.string()).drop_null()
            counts["records"] += len(table)
            counts["scored"] += len(table) - len(missing)
            counts.update({item["values"]: item["counts"] for item in pc.value_counts(missing).to_pylist()})
            writer.write_table(table)
        writer.add_key_value_metadata({_COUNTS.decode(): orjson.dumps(counts).decode()})


def _summary(
    corpus: CorpusSettings,
    run: RunFolder,
    name: str,
    settings: ForeignSettings,
    own: Sequence[Shard],
    counted: Mapping[str, Mapping[str, Any]],
) -> Joined:
    by_source: dict[str, Counter[str]] = {
        source.name: Counter() for source in corpus.sources if settings.covers(source.name)
    }
    for shard in own:
        by_source[shard.source].update(orjson.loads(pq.read_metadata(foreign_path(run, name, shard)).metadata[_COUNTS]))
    told = Joined()
    for source, counts in by_source.items():
        records, scored = counts.pop("records", 0), counts.pop("scored", 0)
        if records != counted[source]["valid"] or records != scored + counts.total():
            raise ConservationError(
                f"scores.{name}: source '{source}' has {counted[source]['valid']:,} valid records, its sidecars "
                f"{records:,}: {scored:,} with a score, {counts.total():,} without",
                "Remove the folder `foreign` from the run folder, and run again.",
            )
        told.sources[source] = {"records": records, "scored": scored, "missing": dict(sorted(counts.items()))}
        told.records, told.scored = told.records + records, told.scored + scored
    missing = sum((Counter(one["missing"]) for one in told.sources.values()), Counter())
    told.missing = dict(sorted(missing.items()))
    if settings.path:
        known = read_sealed(_file_counts(run, name))
        told.files = FileCounts(**{key: value for key, value in known.items() if key != "identity"})
    return told


def _notes(name: str, told: Joined) -> Iterator[str]:
    why = ", ".join(f"{n:,} {reason}" for reason, n in told.missing.items())
    yield f"score {name}: {told.scored:,} of {told.records:,} records have it{f'; missing: {why}' if why else ''}"
    if told.records and not told.scored:
        check = f"{name}.field" if told.files is None else f"{name}: the ids must be those of the records"
        yield f"WARNING: score {name}: no record has it. Check scores.{check}."
    files = told.files
    if files is None:
        return
    parts = {
        "ids that no record has": files.unused,
        "further rows of an id": files.repeated,
        "rows without an id": files.without_id,
        "ids with different scores, taken as missing": files.conflicting,
    }
    if found := ", ".join(f"{n:,} {what}" for what, n in parts.items() if n):
        yield f"score {name}: of {files.rows:,} rows in its files: {found}"
    if files.shared:
        yield (
            f"WARNING: score {name}: {files.shared:,} ids belong to records of several sources, which all get the "
            f"id's score. If the files tell sources apart, name the column in scores.{name}.source_column."
        )


def _files(config: Config, run: RunFolder) -> dict[str, str]:
    return {
        f"scores.{name}": files_key(score_files(config.corpus, name, settings))
        for name, settings in config.scores.items()
        if settings.path
    }


def _settings(config: Config) -> dict[str, Any]:
    """Return what the sidecars depend on; which way is better and whether it is a slot are others' matter."""
    return {
        f"scores.{name}": settings.model_dump(mode="json", exclude={"path", "better", "slot"}, exclude_defaults=True)
        for name, settings in config.scores.items()
    }


STAGE = Stage(
    name="join",
    version=VERSION,
    run=join,
    needs=needs("index"),
    reads=lambda _config: (),
    settings=_settings,
    outputs=lambda run: [run.path / "foreign"],
    resumed=lambda _config, run: [run.path / "foreign"],
    files=_files,
)
