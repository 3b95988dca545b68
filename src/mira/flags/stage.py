"""Stage `flag`: which records are duplicates, and which share text with benchmarks. Nothing is dropped here.

`flags/<source>/<shard>.parquet` has a row a valid record, in order of row: row, id; duplicate_of and near_duplicate_of
("source/id" of the record of the set that has the smallest hash, or null: where duplicates are dropped, selection
decides which of them stands); contaminated_by (names of benchmarks, or null); overlap (share of the record's n-grams
that are in benchmarks, null where there are no benchmarks). An exact copy of a near duplicate
has both.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mira import corpus
from mira.config.settings import Config, FlagSettings, ScoreSettings
from mira.corpus import Shard, records_key
from mira.engine import load_engine
from mira.errors import ConfigError, ConservationError
from mira.flags.benchmarks import benchmark_files, make_benchmarks
from mira.flags.clusters import Duplicates, find_duplicates
from mira.flags.minhash import load_minhash
from mira.flags.signatures import SignatureTask, is_done, make_signatures, signature_key, signature_path
from mira.progress import Log
from mira.run_folder.files import KEY, atomic, hash_json, read_key, remove_others
from mira.run_folder.paths import RunFolder
from mira.run_folder.ranged import prefetch_footers
from mira.stage import ShardItem, ShardPart, ShardStep, Stage, Wanted, all_shards, do_items, do_parts, needs, reads

__all__ = ["STAGE", "flag", "flags_path"]

VERSION = 1
SCHEMA = pa.schema(
    [
        ("row", pa.int64()),
        ("id", pa.string()),
        ("duplicate_of", pa.string()),
        ("near_duplicate_of", pa.string()),
        ("contaminated_by", pa.list_(pa.string())),
        ("overlap", pa.float32()),
    ]
)
RECORDS = b"mira.records"
COUNTED = ("records", "duplicates", "near_duplicates", "contaminated")
_BATCH = 1 << 16


def flags_path(run: RunFolder, shard: Shard) -> Path:
    """Return where a shard's flags are."""
    return run.flags(shard.source) / f"{shard.name}.parquet"


def flag(config: Config, run: RunFolder, log: Log) -> dict[str, Any]:
    """Flag duplicates and contaminated records of every source.

    Shards' text is read once, by processes; signatures that are up to date are kept.

    Args:
        config: The settings; `flags` is the stage's section.
        run: The run folder.
        log: Where progress goes.

    Returns:
        {"sources": {source: {"records", "duplicates", "near_duplicates", "contaminated": {"records", "tokens"},
        "by": {benchmark: {"records", "tokens"}}}},
        "benchmarks": {name: {"texts", "too_short", "ngrams", "common", "only_common", "records", "tokens"}},
        "read": shards read now, "written": sidecars written now, "shards": all}. `near_duplicates` counts those that
        are not exact duplicates.

    Raises:
        ConfigError: rensa is needed and not installed, or the settings contradict each other.
        InputError: A benchmark cannot be read.
        RunError: A source is not indexed.
        ConservationError: A sidecar does not hold exactly its source's valid records.
    """
    totals = corpus.totals(config.corpus, run)
    tasks, benchmarks = _tasks(config, run, log, all_shards)
    for folder, path_of in (("signatures", signature_path), ("flags", flags_path)):
        _remove_strays(run.path / folder, {path_of(run, task.shard) for task in tasks})
    read = sum(not item.done for item in do_parts([_part(config.score, tasks, log)]))
    written = _write_all(config.flags, run, tasks, log)
    counts = {task.shard: _counts(flags_path(run, task.shard)) for task in tasks}
    return {**_summary(counts, totals, benchmarks), "read": read, "written": written, "shards": len(tasks)}


def _tasks(
    config: Config, run: RunFolder, log: Log, wanted: Wanted
) -> tuple[list[SignatureTask], dict[str, dict[str, int]]]:
    """Return a task per wanted shard, whether it is done or not, and counts of the benchmarks."""
    settings = config.flags
    if settings.contaminated == "drop" and not settings.benchmarks:
        raise ConfigError(
            "flags.contaminated is drop, but there are no flags.benchmarks", "Name some, or set it to keep."
        )
    minhash = load_minhash(settings) if settings.near else None
    key, benchmarks = make_benchmarks(settings, config.corpus, run)
    _note_unused(benchmarks, settings.ngram_words, log)
    found = [shard for shards in corpus.shards(config.corpus, wanted=wanted).values() for shard in shards]
    tasks = [
        SignatureTask(settings, config.corpus, run, s, minhash, key, signature_key(run, s, minhash, key)) for s in found
    ]
    return tasks, benchmarks


def _part(settings: ScoreSettings, tasks: Sequence[SignatureTask], log: Log) -> ShardPart:
    """Return what workers may do: the signatures of each shard. Joining them takes those of all shards."""
    prefetch_footers(signature_path(task.run, task.shard) for task in tasks)

    def run(given: Iterable[ShardItem]) -> Iterator[ShardItem]:
        items = list(given)
        with log.task("reading for duplicates and contamination", sum(not item.done for item in items)) as progress:
            for item in do_items(load_engine(settings.engine, settings.workers), make_signatures, items):
                progress.advance(not item.done)
                yield item

    return ShardPart([ShardItem(t.shard.source, t.shard.name, is_done(t), t) for t in tasks], run)


def _parts(config: Config, run: RunFolder, log: Log, wanted: Wanted) -> Iterator[ShardPart]:
    yield _part(config.score, _tasks(config, run, log, wanted)[0], log)


def _note_unused(benchmarks: Mapping[str, Mapping[str, int]], n: int, log: Log) -> None:
    for name, counts in benchmarks.items():
        if counts["too_short"]:
            share = f"{counts['too_short']:,} of {counts['texts']:,} texts"
            log.note(f"benchmark {name}: {share} have fewer than {n} words and are not looked for (flags.ngram_words)")
        if counts["common"]:
            only = f"; {counts['only_common']:,} texts have no others" if counts["only_common"] else ""
            log.note(
                f"benchmark {name}: {counts['common']:,} runs of {n} words stand in many of its texts and are not "
                f"looked for (flags.common_texts){only}"
            )


def _remove_strays(folder: Path, wanted: set[Path]) -> None:
    """Remove sidecars of shards that are gone, and what killed runs left."""
    remove_others((path for path in folder.glob("[!.]*/*") if path.suffix in (".tmp", ".parquet")), wanted)


def flags_keys(settings: FlagSettings, tasks: Sequence[SignatureTask]) -> dict[Path, str]:
    """Return what each sidecar must carry to count as done: all signatures have a say in any shard's flags."""
    names = [b.name for b in settings.benchmarks]
    everything = sorted((task.shard.source, task.shard.name, task.key) for task in tasks)
    common = hash_json(
        [VERSION, everything, settings.exact, settings.near and settings.jaccard, names, settings.min_overlap]
    )
    return {flags_path(task.run, task.shard): hash_json([task.key, common]) for task in tasks}


def _write_all(settings: FlagSettings, run: RunFolder, tasks: Sequence[SignatureTask], log: Log) -> int:
    keys = flags_keys(settings, tasks)
    todo = [task for task in tasks if read_key(flags_path(run, task.shard)) != keys[flags_path(run, task.shard)]]
    if not todo:
        return 0
    every = [task.shard for task in tasks]
    with (
        log.task("joining", len(todo)) as progress,
        find_duplicates(
            run, every, exact=settings.exact, minhash=tasks[0].minhash, jaccard=settings.jaccard
        ) as duplicates,
    ):
        for task in todo:
            _write(settings, run, task.shard, duplicates, keys[flags_path(run, task.shard)])
            progress.advance()
    return len(todo)


def _write(settings: FlagSettings, run: RunFolder, shard: Shard, duplicates: Duplicates, key: str) -> None:
    schema = SCHEMA.with_metadata({KEY: key.encode(), RECORDS: records_key(run, shard).encode()})
    flagged = duplicates.of(shard)
    counts: dict[str, Counter[str]] = {}
    with (
        atomic(flags_path(run, shard)) as temporary,
        pq.ParquetWriter(temporary, schema, compression="zstd") as writer,
    ):
        for batch in _signatures(run, shard, bool(settings.benchmarks)):
            table = _flags(batch, flagged, settings)
            _count(counts, table, batch["n_tokens"])
            writer.write_table(table.cast(schema))
        writer.add_key_value_metadata({"mira.counts": orjson.dumps(counts).decode()})


def _signatures(run: RunFolder, shard: Shard, benchmarks: bool) -> Iterator[pa.RecordBatch]:
    columns = ["row", "id", "n_tokens", *(["benchmarks", "overlap"] if benchmarks else [])]
    with pq.ParquetFile(signature_path(run, shard)) as file:
        yield from file.iter_batches(_BATCH, columns=columns)


def _flags(batch: pa.RecordBatch, flagged: pa.Table, settings: FlagSettings) -> pa.Table:
    at = pc.index_in(batch["row"], value_set=flagged["row"])
    exact, near = (flagged[name].combine_chunks().take(at) for name in ("exact", "near"))
    contaminated, overlap = _contaminated(batch, settings)
    return pa.Table.from_arrays([batch["row"], batch["id"], exact, near, contaminated, overlap], schema=SCHEMA)


def _contaminated(batch: pa.RecordBatch, settings: FlagSettings) -> tuple[pa.Array, pa.Array]:
    if not settings.benchmarks:
        return pa.nulls(len(batch), SCHEMA.field("contaminated_by").type), pa.nulls(len(batch), pa.float32())
    owners, overlap = batch["benchmarks"].to_numpy(), batch["overlap"].to_numpy()
    enough = (owners != 0) & (overlap >= np.float32(settings.min_overlap))
    distinct, at = np.unique(owners, return_inverse=True)
    names = [[b.name for i, b in enumerate(settings.benchmarks) if int(word) >> i & 1] for word in distinct]
    lists = pa.array(names, SCHEMA.field("contaminated_by").type)
    return lists.take(pa.array(at, pa.int64(), mask=~enough)), batch["overlap"]


def _count(counts: dict[str, Counter[str]], table: pa.Table, n_tokens: pa.Array) -> None:
    """Add a batch's records and tokens by what they are flagged with; benchmarks under "by <name>"."""
    exact, contaminated = table["duplicate_of"].is_valid(), table["contaminated_by"].is_valid()
    near = pc.and_(table["near_duplicate_of"].is_valid(), pc.invert(exact))
    for what, mask in zip(COUNTED[1:], (exact, near, contaminated), strict=True):
        _add(counts, what, n_tokens.filter(mask.combine_chunks()))
    _add(counts, COUNTED[0], n_tokens)
    lists = table["contaminated_by"].combine_chunks()
    tokens, names = n_tokens.take(pc.list_parent_indices(lists)), pc.list_flatten(lists)
    for name in pc.unique(names).to_pylist():
        _add(counts, f"by {name}", tokens.filter(pc.equal(names, name)))


def _add(counts: dict[str, Counter[str]], what: str, n_tokens: pa.Array) -> None:
    counted = counts.setdefault(what, Counter())
    counted["records"] += len(n_tokens)
    counted["tokens"] += pc.sum(n_tokens).as_py() or 0


def _counts(path: Path) -> dict[str, dict[str, int]]:
    found: dict[str, dict[str, int]] = orjson.loads(pq.read_metadata(path).metadata[b"mira.counts"])
    return found


def _summary(
    counts: Mapping[Shard, Mapping[str, Mapping[str, int]]],
    totals: Mapping[str, Mapping[str, Any]],
    benchmarks: Mapping[str, Mapping[str, int]],
) -> dict[str, Any]:
    def total(shards: Sequence[Shard], what: str) -> dict[str, int]:
        found = [counts[shard].get(what, {}) for shard in shards]
        return {unit: sum(f.get(unit, 0) for f in found) for unit in ("records", "tokens")}

    by_source = {name: [shard for shard in counts if shard.source == name] for name in totals}
    sources: dict[str, dict[str, Any]] = {
        name: {what: total(shards, what) for what in COUNTED}
        | {"by": {benchmark: total(shards, f"by {benchmark}") for benchmark in benchmarks}}
        for name, shards in by_source.items()
    }
    for name, counted in sources.items():
        if counted["records"]["records"] != totals[name]["valid"]:
            raise ConservationError(
                f"source '{name}': {totals[name]['valid']:,} valid records, "
                f"{counted['records']['records']:,} rows in its flag sidecars",
                "Remove flags and signatures from the run folder, and flag again.",
            )
    named = {name: {**of, **total(list(counts), f"by {name}")} for name, of in benchmarks.items()}
    return {"sources": sources, "benchmarks": named}


def _files(config: Config, run: RunFolder) -> dict[str, str]:
    return {
        f"flags.benchmarks.{benchmark.name}": hash_json(
            [f.fingerprint for f in benchmark_files(benchmark, config.corpus, run)]
        )
        for benchmark in config.flags.benchmarks
    }


STAGE = Stage(
    name="flag",
    version=2,
    run=flag,
    needs=needs("index"),
    reads=reads("flags"),
    outputs=lambda run: [run.path / "flags"],
    resumed=lambda _config, run: [run.path / "flags", run.path / "signatures"],
    files=_files,
    steps=(ShardStep("flag", _parts, output=lambda run, source, shard: run.signatures(source) / f"{shard}.parquet"),),
)
