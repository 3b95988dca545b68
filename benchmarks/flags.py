"""Flags: reading a corpus's text for duplicates and contamination, and joining the signatures of a large one.

    python benchmarks/flags.py read corpus.jsonl [--benchmark bench.jsonl]
    python benchmarks/flags.py join 10000000 [--near]

`read` flags a JSONL file (field "text") in one process and prints MB and records per second of CPU time. `join` finds
duplicates among generated signatures and checks their number: 1 in 100 is an exact copy and, with --near, 1 in 50 is
nearly one. Peak memory is that of the whole process.
"""

import argparse
import resource
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mira.config.settings import Config, FlagSettings
from mira.corpus import Shard, build_index
from mira.flags import flag
from mira.flags.clusters import find_duplicates
from mira.flags.minhash import MinHash, load_minhash
from mira.flags.signatures import band_columns, signature_path
from mira.progress import Quiet
from mira.run_folder.paths import RunFolder

SHARDS, CHUNK = 10, 100_000


def peak() -> str:
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return f"peak {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // unit:,} MB"


def read(folder: Path, corpus: Path, benchmark: str) -> None:
    named = [{"name": "benchmark", "path": benchmark}] if benchmark else []
    for near, given in ((False, []), (True, []), (False, named), (True, named)):
        if benchmark or not given:
            run = RunFolder(folder / f"{near}{len(given)}")
            config = Config.model_validate(
                {
                    "run": run.path,
                    "sources": [{"name": "corpus", "path": str(corpus)}],
                    "score": {"workers": 1},
                    "flags": {"near": near, "benchmarks": given},
                }
            )
            build_index(config, run, Quiet())
            start = time.process_time()
            found = flag(config, run, Quiet())["sources"]["corpus"]
            took = time.process_time() - start
            speed = (
                f"{corpus.stat().st_size / took / 1e6:.0f} MB/s, {found['records']['records'] / took:,.0f} records/s"
            )
            print(f"near {near}, benchmarks {len(given)}: {speed}, {peak()}; {found}")


def signatures(seed: int, n: int, minhash: MinHash | None) -> Iterator[pa.Table]:
    rng = np.random.default_rng(seed)
    for start in range(0, n, CHUNK):
        size = min(CHUNK, n - start)
        high, low, tie = (rng.integers(0, 2**64, size, dtype=np.uint64) for _ in range(3))
        copies = np.arange(size // 100)
        high[copies + size // 2], low[copies + size // 2] = high[copies], low[copies]
        ids = pa.array(np.char.mod("%016x", tie))
        columns = {"row": np.arange(start, start + size), "id": ids, "tie": tie, "high": high, "low": low}
        if minhash:
            values = rng.integers(0, 2**32, (size, minhash.permutations), dtype=np.uint32)
            near = np.arange(size // 50) + size // 4
            values[near + size // 2, :-4] = values[near, :-4]
            buffer = pa.py_buffer((values & 0xFFFF).astype(np.uint16).tobytes())
            columns["minhash"] = pa.FixedSizeBinaryArray.from_buffers(
                pa.binary(2 * values.shape[1]), size, [None, buffer]
            )
            columns |= dict(zip(band_columns(minhash.n_bands), minhash._bands(values).T, strict=True))
        yield pa.table(columns)


def join(folder: Path, n: int, near: bool) -> None:
    run, minhash = RunFolder(folder), load_minhash(FlagSettings(near=True)) if near else None
    shards = [Shard("corpus", f"p{i}", f"p{i}", "", None, None) for i in range(SHARDS)]
    made = [0, 0]
    for seed, shard in enumerate(shards):
        path = signature_path(run, shard)
        path.parent.mkdir(parents=True, exist_ok=True)
        tables = signatures(seed, n // SHARDS, minhash)
        first = next(tables)
        with pq.ParquetWriter(path, first.schema, compression="zstd", use_dictionary=False) as writer:
            for table in (first, *tables):
                writer.write_table(table)
                made = [made[0] + len(table) // 100, made[1] + (len(table) // 50 if near else 0)]
    start = time.perf_counter()
    with find_duplicates(run, shards, exact=True, minhash=minhash, jaccard=0.8) as duplicates:
        found = [duplicates.of(shard) for shard in shards]
    exact, alike = (sum(len(t) - t[name].null_count for t in found) for name in ("exact", "near"))
    print(f"{n:,} records: {time.perf_counter() - start:.1f} s, {peak()}; {exact:,} copies, {alike:,} near copies")
    assert [exact, alike] == made, f"made were {made}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    reading = commands.add_parser("read")
    reading.add_argument("corpus", type=Path)
    reading.add_argument("--benchmark", default="")
    joining = commands.add_parser("join")
    joining.add_argument("records", type=int)
    joining.add_argument("--near", action="store_true")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if given.command == "read":
            read(Path(folder), given.corpus, given.benchmark)
        else:
            join(Path(folder), given.records, given.near)


if __name__ == "__main__":
    main()
