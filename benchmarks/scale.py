"""A corpus in shards through workers: index, score, select, on a local folder and on an S3 server of this machine.

    python benchmarks/scale.py --records 100000 --workers 1,2,4 --where local,s3
    python benchmarks/scale.py --records 1000000 --workers 2 --folder /big/disk   # stopped: run it again
    python benchmarks/scale.py --gather 10000   # shards whose score footers and rank files' ends are listed and merged

Every worker is a process of `mira work`, as a task of a cluster's job is; then `mira index`, `mira score` and
`mira select` gather. The student is an encoder that is trained once, on the demo's labels, and not measured. Records
are the demo's, cut to a length, with some words exchanged. `s3` needs the extra [s3] and moto's server.

Per stage: records per second of wall clock; CPU seconds of all its processes, by those that the shards themselves took;
and the peak memory of the largest process. A busy machine slows the wall clock, so look at CPU time; the load is
printed. The start of a process takes about two CPU seconds: with few records it is most of the overhead.
"""

import argparse
import json
import os
import random
import resource
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import yaml

GROUPS = {
    "text_group_A": ("project_docs", "release_notes", "unit_tests"),
    "text_group_B": ("api_reference", "examples"),
}
SOURCES = tuple(source for sources in GROUPS.values() for source in sources)
STEPS = {"index": ("index",), "score": ("score",), "select": ("values", "write")}
BUCKET = "scale"


class Cost(NamedTuple):
    """What a stage took: seconds of wall clock, CPU seconds, those of its shards, and bytes of the largest process."""

    wall: float = 0.0
    cpu: float = 0.0
    own: float = 0.0
    peak: int = 0

    def and_then(self, other: "Cost") -> "Cost":
        return Cost(self.wall + other.wall, self.cpu + other.cpu, self.own + other.own, max(self.peak, other.peak))


def main() -> None:
    if sys.argv[1:2] == ["--inside"]:
        inside(Path(sys.argv[2]), sys.argv[3:])
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=100_000)
    parser.add_argument("--files", type=int, default=40, help="each is a shard")
    parser.add_argument("--characters", type=int, default=500, help="of a record, about")
    parser.add_argument("--workers", default="1,2,4")
    parser.add_argument("--where", default="local", help="local, s3, or both")
    parser.add_argument("--embedding", default="static", help="of the student: static or minilm")
    parser.add_argument("--student", type=Path, help="folder for the demo's student, kept for the next time")
    parser.add_argument("--folder", type=Path, help="where to work; what is done there already is kept")
    parser.add_argument("--gather", type=int, help="measure nothing but the gathering of so many shards")
    args = parser.parse_args()
    if args.gather:
        gather(args.gather)
        return
    with tempfile.TemporaryDirectory(prefix="mira-scale-") as temporary:
        folder = (args.folder or Path(temporary)).resolve()
        demo = (args.student or folder / "demo").resolve()
        train(demo, args.embedding)
        data = write_records(folder, demo, args.records, args.files, args.characters)
        size = sum(path.stat().st_size for path in data.rglob("*.jsonl"))
        print(f"{args.records:,} records in {args.files:,} shards, {size / 1e6:,.0f} MB; {args.embedding} encoder")
        for where in args.where.split(","):
            with place(where, folder, data) as (url, environment):
                for workers in map(int, args.workers.split(",")):
                    measure(folder, demo, url, environment, args.records, args.files, workers, keep=bool(args.folder))


def train(demo: Path, embedding: str) -> None:
    """Train the students of the demo's text sources on their labels, unless that is done."""
    from mira.config.loading import load_config  # noqa: PLC0415
    from mira.demo_project.demo import prepare_demo  # noqa: PLC0415
    from mira.pipeline.runner import run_stages  # noqa: PLC0415

    if all((demo / "run" / "students" / group / "bundle.json").is_file() for group in GROUPS):
        return
    settings = prepare_demo(demo, families=["text"])
    labelled = {json.loads(line)["id"] for line in (demo / "teacher" / "teacher_replies.jsonl").open()}
    for path in (demo / "corpus").glob("*.jsonl"):  # the others would only take time
        lines = [line for line in path.open() if json.loads(line)["id"] in labelled]
        (demo / "corpus" / path.name).replace(demo / f"{path.name}.all")
        path.write_text("".join(lines))
    config = load_config(settings, [f"embedding.model={embedding}", "group.sample=5"])
    for stage in ("index", "group", "discover", "label", "distill"):
        run_stages(config, [stage])


def write_records(folder: Path, demo: Path, records: int, files: int, characters: int) -> Path:
    """Write each source's files: the demo's texts in turn, cut, with one word in ten exchanged for another."""
    data = folder / "records"
    per_source = {s: files * (i + 1) // len(SOURCES) - files * i // len(SOURCES) for i, s in enumerate(SOURCES)}
    made = {f"{s}/{n:06d}.jsonl" for s, count in per_source.items() for n in range(count)}
    if {str(p.relative_to(data)) for p in data.rglob("*.jsonl")} == made:
        return data
    at = 0
    for source, count in per_source.items():
        texts = [json.loads(line)["text"] for line in (demo / f"{source}.jsonl.all").open()]
        words = " ".join(texts).split()[:100_000]
        (data / source).mkdir(parents=True, exist_ok=True)
        for n in range(count):
            start, stop = records * at // files, records * (at + 1) // files
            at += 1
            lines = [line(texts, words, i, characters) for i in range(start, stop)]
            (data / source / f"{n:06d}.jsonl").write_text("".join(lines))
    return data


def line(texts: Sequence[str], words: Sequence[str], i: int, characters: int) -> str:
    rng = random.Random(i)
    text = texts[i % len(texts)]
    start = rng.randrange(max(len(text) - characters, 0) + 1)
    found = text[start : start + characters].split(" ")
    for place in range(0, len(found), 10):
        found[place] = rng.choice(words)
    return json.dumps({"id": f"r{i}", "text": f"Record {i}. " + " ".join(found)}) + "\n"


@contextmanager
def place(where: str, folder: Path, data: Path) -> Iterator[tuple[str, dict[str, str]]]:
    """Give the URL or folder that holds records and run, and the environment to reach it."""
    if where == "local":
        yield str(folder), {}
        return
    with server(folder) as environment:
        os.environ |= environment
        compare_with_bare_requests()
        s3 = fsspec.filesystem("s3")
        s3.makedirs(BUCKET, exist_ok=True)
        s3.put(str(data), f"{BUCKET}/records", recursive=True)
        yield f"s3://{BUCKET}", environment


@contextmanager
def server(folder: Path) -> Iterator[dict[str, str]]:
    log = (folder / "moto.log").open("wb")
    program = Path(sys.executable).with_name("moto_server")
    process = subprocess.Popen([str(program), "-p", "5599"], stdout=log, stderr=log)
    try:
        address = "http://127.0.0.1:5599"
        environment = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_DEFAULT_REGION": "us-east-1"}
        wait_for(address)
        yield environment | {"AWS_ENDPOINT_URL": address}
    finally:
        process.terminate()
        process.wait()
        log.close()


def wait_for(address: str) -> None:
    for _ in range(600):
        try:
            urllib.request.urlopen(address, timeout=5).close()
            return
        except (urllib.error.URLError, OSError):
            time.sleep(0.1)
    raise SystemExit("moto's server did not start: see moto.log")


def compare_with_bare_requests() -> None:
    """Say what the server itself takes: the same objects put and read with nothing of mira's."""
    s3, content, n = fsspec.filesystem("s3"), b"x" * 50_000, 100
    s3.makedirs("bare", exist_ok=True)
    for verb, do in (
        ("put", lambda name: s3.pipe_file(name, content)),
        ("get", s3.cat_file),
        ("head", lambda name: (s3.invalidate_cache(), s3.info(name))),
    ):
        started = time.monotonic()
        for i in range(n):
            do(f"bare/{i}")
        print(f"  bare {verb} of 50 kB against this S3 server: {(time.monotonic() - started) / n * 1e3:.1f} ms each")


def measure(
    folder: Path,
    demo: Path,
    url: str,
    environment: dict[str, str],
    records: int,
    files: int,
    workers: int,
    *,
    keep: bool,
) -> None:
    project = folder / f"{'s3' if '://' in url else 'local'}-{workers}"
    if project.exists() and not keep:
        shutil.rmtree(project)
    project.mkdir(exist_ok=True)
    run = f"{url}/run-{workers}" if "://" in url else str(project / "run")
    write_settings(project, demo, f"{url}/records", run)
    environment = environment | {"MIRA_CACHE": str(project / "cache")}
    shutil.copytree(Path(os.environ.get("MIRA_CACHE", Path.home() / ".cache" / "mira")) / "static",
                    project / "cache" / "static", dirs_exist_ok=True)  # fmt: skip
    total = Cost()
    print(f"\n{workers} worker(s), run folder {run}; load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    print(f"{'':10}{'wall s':>9}{'records/s':>11}{'CPU s':>8}{'shards':>8}{'by':>6}{'peak MB':>9}")
    before = {"score": ("group", "discover", "label", "distill"), "select": ("reliability",)}
    for stage, steps in STEPS.items():
        for needed in before.get(stage, ()):
            command(project, environment, [needed, "mira.yaml"])
        cost = Cost()
        for step in steps:
            done = in_parallel(project, environment, step, workers)
            show(step, done, records)
            cost = cost.and_then(done)
        gathered = command(project, environment, [stage, "mira.yaml", "--set", "score.workers=1"])
        show(" gather", gathered, 0)
        cost = cost.and_then(gathered)
        show(f"= {stage}", cost, records)
        total = total.and_then(cost)
    show("all", total, records)
    extrapolate(total, records, files)


def write_settings(project: Path, demo: Path, records: str, run: str) -> None:
    (project / "mask.jsonl").write_text("")
    students = demo / "run" / "students"
    settings = {
        "run": run,
        "sources": [{"name": s, "path": f"{records}/{s}"} for s in SOURCES],
        "embedding": {"model": "static"},
        "group": {"sample": 2, "given": {g: list(sources) for g, sources in GROUPS.items()}},
        "discover": {"rubrics": {g: str(students / g / "rubric.jsonl") for g in GROUPS}},
        "distill": {"student": "bundle", "bundles": {g: str(students / g) for g in GROUPS}},
        "reliability": {"mask": "mask.jsonl"},
        "score": {"workers": 1},
        "select": {"scope": "group", "budget": "50%"},
    }
    (project / "mira.yaml").write_text(yaml.safe_dump(settings, sort_keys=False))


def in_parallel(project: Path, environment: dict[str, str], step: str, workers: int) -> Cost:
    """Run a step's workers at the same time; the wall clock is that of the last."""
    costs: list[Cost] = []

    def one(i: int) -> None:
        costs.append(
            command(
                project, environment, ["work", "mira.yaml", "--stage", step, "--shard", str(i), "--of", str(workers)]
            )
        )

    started = time.monotonic()
    threads = [threading.Thread(target=one, args=[i]) for i in range(workers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if len(costs) < workers:
        raise SystemExit(1)
    wall = time.monotonic() - started
    return Cost(wall, sum(c.cpu for c in costs), sum(c.own for c in costs), max(c.peak for c in costs))


def command(project: Path, environment: dict[str, str], words: Sequence[str]) -> Cost:
    """Run a command of mira in a process of its own."""
    with tempfile.NamedTemporaryFile() as figures:
        started = time.monotonic()
        done = subprocess.run(
            [sys.executable, __file__, "--inside", figures.name, *words],
            cwd=project, env=os.environ | environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode:
            raise SystemExit(f"mira {' '.join(words)}: {done.stderr[-3000:]}")
        found: dict[str, Any] = json.loads(Path(figures.name).read_text())
    return Cost(time.monotonic() - started, found["cpu"], found["own"], found["peak"])


def inside(figures: Path, words: list[str]) -> None:
    """Run a command of mira here; write the CPU time of all its processes, and that of the shards."""
    from mira.cli.app import main as mira  # noqa: PLC0415
    from mira.engine.attempts import Attempt  # noqa: PLC0415

    own, call = [0.0], Attempt.__call__

    def timed(self: Attempt, keyed: Any) -> Any:
        before = time.process_time()
        try:
            return call(self, keyed)
        finally:
            own[0] += time.process_time() - before

    Attempt.__call__ = timed  # type: ignore[method-assign]
    sys.argv = ["mira", *words]
    try:
        mira()
    finally:
        used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        cpu = sum(u.ru_utime + u.ru_stime for u in used)
        peak = max(own_peak(), used[1].ru_maxrss * (1 if sys.platform == "darwin" else 1024))
        figures.write_text(json.dumps({"cpu": cpu, "own": own[0], "peak": peak}))


def own_peak() -> int:
    """Return the most bytes of memory that this program took; getrusage counts the process that started it, too."""
    status = Path("/proc/self/status")
    if not status.exists():
        used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return used * (1 if sys.platform == "darwin" else 1024)
    line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024


def gather(shards: int, rows: int = 5000) -> None:
    """List and read the footers of score sidecars and the ends of rank files, and merge what they say."""
    from mira.corpus.sidecar_writer import read_result  # noqa: PLC0415
    from mira.scoring.stage import score_schema  # noqa: PLC0415
    from mira.selection.ranks import rank_file  # noqa: PLC0415
    from mira.selection.values import Summary, values_writer  # noqa: PLC0415

    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory(prefix="mira-gather-") as temporary:
        folder = Path(temporary)
        columns = {f.name: pa.nulls(rows, f.type) for f in score_schema(15)}
        columns |= {f"A{i}": pa.array(rng.uniform(0, 10, rows), pa.float32()) for i in range(1, 16)}
        pq.write_table(pa.table(columns), folder / "scores", compression="zstd")
        tokens = pa.array(rng.integers(20, 4000, rows), pa.int32())
        keys = [pa.array(rng.normal(6, 1.2, rows)), pa.array(rng.integers(0, 2**63, rows).astype(np.uint64)), tokens]
        none = pa.nulls(rows, pa.string()).dictionary_encode()
        with values_writer(folder / "values") as writer:
            names = ["value", "tie", "n_tokens", "reason", "stratum"]
            writer.write_table(pa.table([*keys, none, none], names=names))
        total = int(pc.sum(tokens).as_py())
        summary = Summary("s", "shard", "identity", rows, 0, rows, total, rows, total)
        rank_file._write(folder / "ranks", folder / "values", summary)
        for kind in ("scores", "ranks"):
            (folder / f"all-{kind}").mkdir()
            for n in range(shards):
                shutil.copyfile(folder / kind, folder / f"all-{kind}" / f"{n:06d}.parquet")
        size = (folder / "ranks").stat().st_size
        print(f"{shards:,} shards of {rows:,} records, {size:,} bytes per rank file; load {os.getloadavg()[0]:.1f}")
        before = time.process_time(), time.monotonic()
        found = [read_result(path, "s") for path in sorted((folder / "all-scores").iterdir())]
        assert sum(result.rows for result in found if result) == shards * rows
        took(f"footers of {shards:,} score sidecars", before)
        before = time.process_time(), time.monotonic()
        merged, waiting = rank_file.NO_HEAD, []
        for path in sorted((folder / "all-ranks").iterdir()):
            waiting.append(rank_file.read_head(path)[1])  # type: ignore[index]
            if len(waiting) == 32:
                merged, waiting = rank_file.merged_heads([merged, *waiting]), []
        rank_file.merged_heads([merged, *waiting])
        took(f"ends of {shards:,} rank files, merged", before)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
        print(f"peak memory {peak / 1e6:,.0f} MB")


def took(what: str, before: tuple[float, float]) -> None:
    print(f"{what}: {time.process_time() - before[0]:.1f} CPU s, {time.monotonic() - before[1]:.1f} s", flush=True)


def show(name: str, cost: Cost, records: int) -> None:
    rate = f"{records / cost.wall:,.0f}" if records else ""
    by = f"{cost.cpu / cost.own:.2f}" if records and cost.own else ""
    own = f"{cost.own:.1f}" if records else ""
    print(f"{name:10}{cost.wall:9.1f}{rate:>11}{cost.cpu:8.1f}{own:>8}{by:>6}{cost.peak / 1e6:9.0f}", flush=True)


def extrapolate(total: Cost, records: int, files: int) -> None:
    """Say what the shards' own CPU time would come to for a billion records; nothing of that was run."""
    seconds = total.own / records * 1e9
    print(f"extrapolated: 10^9 records take {seconds / 3600:,.0f} CPU hours, {seconds / 256 / 3600:.1f} h of 256 tasks")


if __name__ == "__main__":
    main()
