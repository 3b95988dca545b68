"""Selection at scale: mira's stage against a hand-written DuckDB query of the plain mean, in one run.

    python benchmarks/selection.py --rows 10_000_000

Makes an index and score sidecars of 15 slots in 20 sources in a temporary folder. Then it runs, each in a process of
its own:

1. The reference, two passes of DuckDB: plain mean, one threshold per source from a histogram of tokens, ids written as
   kept or not. No masks, trimming, exact boundary, ties, reasons or counts.
2. The stage `select` at every scope, from nothing (no cached values), with sidecars written and conservation checked.

Prints seconds and the peak of resident memory of each, summed over processes.
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mira.config.settings import Config
from mira.corpus import index, shards
from mira.progress import Quiet
from mira.run_folder.files import KEY
from mira.run_folder.paths import RunFolder
from mira.selection.stage import select
from mira.tokens import tokenizer

SOURCES, SLOTS, SHARD = 20, 15, 500_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=lambda s: int(s.replace("_", "")), default=10_000_000)
    parser.add_argument("--folder", type=Path, help="where to make (and keep, and find again) the data")
    parser.add_argument("--scopes", default="global,group,source")
    parser.add_argument("--repeat", type=int, default=1)
    parser.add_argument("--run", choices=["reference", "mira"], help=argparse.SUPPRESS)
    parser.add_argument("--scope", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.run == "reference":
        reference(args.folder)
    elif args.run == "mira":
        run_mira(args.folder, args.scope)
    else:
        with tempfile.TemporaryDirectory() as temporary:
            compare(args, args.folder or Path(temporary))


def compare(args: argparse.Namespace, folder: Path) -> None:
    made = folder / "made.json"
    if not made.exists() or json.loads(made.read_text()) != args.rows:
        started = time.perf_counter()
        make(folder, args.rows)
        stamp(folder)
        made.write_text(json.dumps(args.rows))
        print(f"made {args.rows:,} rows in {time.perf_counter() - started:.0f} s", flush=True)
    print(f"{'':24}{'s':>8}{'MB peak':>9}{'x reference':>13}")
    for _ in range(args.repeat):
        base, memory = measure(folder, "reference", "")
        print(f"{'DuckDB, plain mean':24}{base:8.2f}{memory:9.0f}{1:13.2f}", flush=True)
        for scope in args.scopes.split(","):
            seconds, memory = measure(folder, "mira", scope)
            print(f"{'mira, scope ' + scope:24}{seconds:8.2f}{memory:9.0f}{seconds / base:13.2f}", flush=True)


def measure(folder: Path, what: str, scope: str) -> tuple[float, float]:
    """Run in a process; return the seconds it tells (imports not counted) and the summed peak in MB."""
    command = [sys.executable, __file__, "--folder", str(folder), "--run", what, "--scope", scope]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    peak = [0.0]
    watcher = threading.Thread(target=watch, args=(process, peak))
    watcher.start()
    out, _ = process.communicate()
    watcher.join()
    if process.returncode:
        sys.exit(f"{what} failed")
    return float(out.split()[-1]), peak[0]


def watch(process: subprocess.Popen[str], peak: list[float]) -> None:
    while process.poll() is None:
        peak[0] = max(peak[0], sum(resident(pid) for pid in family(process.pid)))
        time.sleep(0.02)


def family(pid: int) -> list[int]:
    found = [pid]
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            found += [p for child in task.read_text().split() for p in family(int(child))]
        except OSError:
            continue
    return found


def resident(pid: int) -> float:
    """Proportional resident memory of a process in MB: pages that processes share count once."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0.0
    return sum(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024


def make(folder: Path, rows: int) -> None:
    """Write index, scores, reliability, groups, and one-line inputs whose shards have the sidecars' names."""
    per_source = rows // SOURCES
    for s in range(SOURCES):
        name = f"source_{s:02d}"
        for k, start in enumerate(range(0, per_source, SHARD)):
            make_shard(folder, name, k, min(SHARD, per_source - start), np.random.default_rng([s, k]))
        none = pa.schema([("shard", pa.string()), ("row", pa.int64()), ("id", pa.string())]).empty_table()
        pq.write_table(none, folder / "run" / "index" / name / "duplicates.parquet")
    slots = [f"A{i + 1}" for i in range(SLOTS)]
    cells = [(f"source_{s:02d}", slot, (s + i) % 7 == 0) for s in range(SOURCES) for i, slot in enumerate(slots)]
    columns = [list(column) for column in zip(*cells, strict=True)]
    pq.write_table(pa.table(columns, names=["source", "slot", "masked"]), folder / "run" / "reliability.parquet")
    groups = [
        {"name": f"text_group_{'ABCD'[g]}", "sources": [f"source_{s:02d}" for s in range(g, SOURCES, 4)]}
        for g in range(4)
    ]
    (folder / "run" / "groups.json").write_text(json.dumps({"groups": groups}))


def stamp(folder: Path) -> None:
    """Write into each shard's index what the index stage would: which file it is of."""
    corpus = settings(folder, "group").corpus
    for source, parts in shards(corpus).items():
        for shard in parts:
            path = folder / "run" / "index" / source / f"{shard.name}.parquet"
            table = pq.read_table(path)
            key = index._key(corpus, tokenizer(corpus.tokenizer), corpus.source(source), shard)
            pq.write_table(table.replace_schema_metadata({KEY: key}), path, compression="zstd")


def make_shard(folder: Path, source: str, k: int, n: int, rng: np.random.Generator) -> None:
    name = f"part_{k:04d}"
    paths = [folder / "run" / kind / source for kind in ("index", "scores")] + [folder / "input" / source]
    for path in paths:
        path.mkdir(parents=True, exist_ok=True)
    (paths[2] / f"{name}.jsonl").write_text('{"id": "x", "text": "x"}\n')
    ids = pa.array([f"{x:016x}" for x in rng.integers(0, 2**63, n).tolist()])
    base = {"row": pa.array(np.arange(n)), "id": ids, "n_tokens": pa.array(rng.integers(20, 4000, n).astype(np.int32))}
    nothing = pa.nulls(n, pa.string())
    pq.write_table(
        pa.table({**base, "n_chars": base["n_tokens"], "reason_rejected": nothing, "detail": nothing}),
        paths[0] / f"{name}.parquet",
        compression="zstd",
    )
    scores = {f"A{i + 1}": np.clip(rng.normal(6, 2, n), 0, 10).round(1).astype(np.float32) for i in range(SLOTS)}
    table = pa.table({**base, **scores, "reason_unscored": nothing})
    pq.write_table(table, paths[1] / f"{name}.parquet", compression="zstd")


def reference(folder: Path) -> None:
    started = time.perf_counter()
    con = duckdb.connect()
    con.execute("SET memory_limit='400MB'; SET threads=2; SET preserve_insertion_order=false")
    mean = "(" + "+".join(f"A{i + 1}" for i in range(SLOTS)) + f")/{SLOTS}.0"
    rows = f"""select regexp_extract(filename, '(source_[0-9]+)', 1) source, row, id, n_tokens, {mean} quality
               from read_parquet('{folder}/run/scores/*/*.parquet', filename=true, hive_partitioning=false)"""
    con.execute(f"""create temp table bins as
        select source, floor(quality * 1000)::int bin, sum(n_tokens) tokens from ({rows}) group by all""")
    con.execute("""create temp table thresholds as
        select source, max(bin) filter (above >= 0.5 * total) / 1000.0 threshold from (
            select source, bin, sum(tokens) over (partition by source order by bin desc) above,
                   sum(tokens) over (partition by source) total from bins) group by source""")
    con.execute(f"""copy (select r.source, row, id, n_tokens, quality, quality >= threshold kept
        from ({rows}) r join thresholds t on t.source = r.source)
        to '{folder}/reference' (format parquet, compression zstd, partition_by (source), overwrite)""")
    print(time.perf_counter() - started)


def settings(folder: Path, scope: str) -> Config:
    return Config.model_validate(
        {
            "run": folder / "run",
            "sources": [{"name": p.name, "path": str(p / "*.jsonl")} for p in sorted((folder / "input").iterdir())],
            "select": {"scope": scope, "budget": "50%", "write_selected": False},
        }
    )


def run_mira(folder: Path, scope: str) -> None:
    shutil.rmtree(folder / "run" / "values", ignore_errors=True)
    config = settings(folder, scope)
    started = time.perf_counter()
    summary = select(config, RunFolder(config.run), Quiet())
    seconds = time.perf_counter() - started
    short = summary["budget_tokens"] - summary["tokens_kept"]
    assert 0 <= short <= 4000 * len(summary["scopes"]), short
    print(seconds)


if __name__ == "__main__":
    main()
