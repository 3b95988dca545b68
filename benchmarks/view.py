"""Filters and sorts of `mira view` over many records: seconds each, and what the table behind them costs.

Usage: python benchmarks/view.py [RECORDS] [FOLDER]

Writes sidecars of RECORDS (10,000,000 by default) generated records with 15 slots into a temporary folder under FOLDER,
a shard at a time. Every query runs as a page runs it: the counts of a filter, and the first 50 records of an order. The
same is then asked of the sidecars themselves, as Parquet files, to show what the table gains.
"""

import json
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from starlette.datastructures import QueryParams

from mira.corpus import database
from mira.run_folder.paths import RunFolder
from mira.viewer.filters import count, page, wanted_in
from mira.viewer.records import Records

SLOTS = 15
PER_SHARD = 500_000
SOURCES = ("ant", "bee", "cat", "dog")
QUERIES = {
    "no filter, order of files": "",
    "sort by quality": "sort=-quality",
    "sort by a slot": "sort=A7",
    "sort by tokens": "sort=-tokens",
    "sort by id": "sort=id",
    "sort by source": "sort=-source",
    "one source": "source=bee",
    "dropped, sort by quality": "state=dropped&sort=-quality",
    "rejected with a reason": "reason=bad_json",
    "one slot in a narrow range": "A3.min=7&A3.max=7.01",
    "five slots, sort by a sixth": "A1.min=5&A2.min=5&A3.max=6&A4.min=2&A5.max=8&sort=-A6",
    "source, kept, long, sort by length": "source=ant&state=kept&tokens.min=2000&sort=tokens",
    "id": "id=dog-004",
    "page 100 of a sort": "sort=-quality&page=100",
}


def write(run: RunFolder, records: int) -> None:
    """Write generated sidecars, a shard at a time."""
    for at in range(0, records, PER_SHARD):
        n, shard = min(PER_SHARD, records - at), at // PER_SHARD
        source = SOURCES[shard % len(SOURCES)]
        rng = np.random.default_rng(shard)
        rejected = rng.random(n) < 0.01
        ids = pa.array([f"{source}-{i:09d}" for i in range(at, at + n)])
        tokens = rng.lognormal(6, 1, n).astype(np.int32)
        reason = pa.array(np.where(rejected, "bad_json", ""), mask=~rejected)
        rows = np.arange(n)
        index = pa.table({"row": rows, "id": ids, "n_tokens": tokens, "n_chars": tokens * 4, "reason_rejected": reason,
                          "detail": pa.nulls(n, pa.string())})  # fmt: skip
        scores = rng.normal(6, 1.5, (n, SLOTS)).clip(0, 10).astype(np.float32)[~rejected]
        quality = scores.mean(axis=1).astype(np.float64)
        keys = {"row": rows[~rejected], "id": ids.filter(pa.array(~rejected)), "n_tokens": tokens[~rejected]}
        kept = quality > 6
        columns = {f"A{j + 1}": scores[:, j] for j in range(SLOTS)}
        tables = {
            "index": index,
            "scores": pa.table(keys | columns | {"overall": (quality * 10).astype(np.float32)}),
            "selection": pa.table(keys | {"quality": quality, "kept": kept,
                                          "reason": np.where(kept, "kept", "below_threshold")}),
        }  # fmt: skip
        for name, table in tables.items():
            path = run.path / name / source / f"part{shard:05d}.parquet"
            path.parent.mkdir(parents=True, exist_ok=True)
            pq.write_table(table, path, compression="zstd")


def timed(function: Callable[[], object]) -> float:
    """Return the seconds of a second call: the first one brings the files into memory."""
    function()
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def main() -> None:
    records = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000_000
    with tempfile.TemporaryDirectory(dir=sys.argv[2] if len(sys.argv) > 2 else None) as folder:
        run, scratch = RunFolder(Path(folder) / "run"), Path(folder) / "scratch"
        scratch.mkdir()
        start = time.perf_counter()
        write(run, records)
        print(f"{records:,} records x {SLOTS} slots; sidecars written in {time.perf_counter() - start:.0f} s")
        start = time.perf_counter()
        table = Records(run, SOURCES, 0, scratch).wait()
        took, size = time.perf_counter() - start, sum(p.stat().st_size for p in scratch.rglob("*.duckdb"))
        print(f"table: {took:.0f} s, {records / took:,.0f} records per second, {size / 1e9:.2f} GB on disk")
        found = {}
        for name, query in QUERIES.items():
            wanted = wanted_in(QueryParams(query), table)
            found[name] = timed(lambda wanted=wanted: (count(wanted, table), page(wanted, table)))
            print(f"{name:40} {found[name]:6.2f} s")
        with database.connect(run) as con:
            files = {n: f"read_parquet('{run.path}/{n}/*/*.parquet', filename = true)" for n in ("scores", "selection")}
            joined = f"{files['scores']} a JOIN {files['selection']} b ON a.id = b.id AND a.row = b.row"
            plain = {
                "Parquet: sort by a slot": f"SELECT * FROM {files['scores']} ORDER BY A7 LIMIT 50",
                "Parquet: kept, sort by a slot": f"SELECT a.* FROM {joined} WHERE kept ORDER BY A7 LIMIT 50",
            }
            for name, sql in plain.items():
                print(f"{name:40} {timed(lambda sql=sql: con.execute(sql).fetchall()):6.2f} s")
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
        print(json.dumps({"slowest_s": round(max(found.values()), 3), "peak_gb": round(peak, 2)}))


if __name__ == "__main__":
    main()
