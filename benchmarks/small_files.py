"""Many small files: `mira index` and `mira select` over one-record files, against the same records in one file.

    python benchmarks/small_files.py --files 10000

Prints seconds of wall clock and of CPU time of all processes for each command, and how many times longer many files
take than one. Each command is a process of its own, as a user runs it. A busy machine slows both, so look at CPU time.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=10_000)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        many, one = (Path(folder) / name for name in ("many", "one"))
        write(many, args.files, args.files)
        write(one, args.files, 1)
        print(f"{args.files:,} one-record files against one file of {args.files:,} records")
        print(f"{'':8}{'files: s':>10}{'CPU s':>8}{'one: s':>10}{'CPU s':>8}{'x wall':>8}{'x CPU':>8}")
        for verb in ("index", "select"):
            (wall, cpu), (wall_one, cpu_one) = run(many, verb), run(one, verb)
            ratios = f"{wall / wall_one:8.1f}{cpu / cpu_one:8.1f}"
            print(f"{verb:8}{wall:10.1f}{cpu:8.1f}{wall_one:10.1f}{cpu_one:8.1f}{ratios}")


def write(folder: Path, records: int, files: int) -> None:
    (folder / "data").mkdir(parents=True)
    each = records // files
    for at in range(files):
        lines = (json.dumps({"id": f"r{i}", "text": text(i)}) for i in range(at * each, (at + 1) * each))
        (folder / "data" / f"{at:06d}.jsonl").write_text("".join(f"{line}\n" for line in lines))
    (folder / "mira.yaml").write_text(
        "run: run\nsources:\n  - {name: s, family: text, path: data}\n"
        "select: {method: random, scope: source, budget: 50%}\n"
    )


def text(i: int) -> str:
    return f"Record {i}: the queue is drained before the lock is taken, see step {i * 7 % 101}. " * 3


def run(folder: Path, verb: str) -> tuple[float, float]:
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    subprocess.run([sys.executable, "-m", "mira", verb, "mira.yaml"], cwd=folder, check=True, capture_output=True)
    wall, after = time.monotonic() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


if __name__ == "__main__":
    main()
