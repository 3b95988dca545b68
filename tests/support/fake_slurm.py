"""A stand-in for Slurm: `sbatch` runs jobs here, one after the other, with the environment that Slurm gives them."""

import os
import re
import subprocess
import sys
from pathlib import Path

SBATCH = """#!/bin/sh
exec {python} {here} "$@"
"""
MIRA = """#!/bin/sh
exec {python} -m mira "$@"
"""


def install(folder: Path) -> Path:
    """Write `sbatch` and `mira` into a folder, which is to come first in PATH."""
    folder.mkdir()
    for name, text in (("sbatch", SBATCH), ("mira", MIRA)):
        (folder / name).write_text(text.format(python=sys.executable, here=Path(__file__).resolve()))
        (folder / name).chmod(0o755)
    return folder


def main(arguments: list[str]) -> int:
    """Run what `sbatch` is asked to submit; write a line about every job to $FAKE_SLURM."""
    notes = Path(os.environ["FAKE_SLURM"])
    lines = notes.read_text().splitlines() if notes.is_file() else []
    ended = dict(line.split()[:2] for line in lines)
    given = {}
    while arguments and arguments[0].startswith("--"):
        name, _, value = arguments.pop(0).partition("=")
        given[name] = value
    number = str(1000 + len(ended))
    after = re.fullmatch(r"afterok:([0-9:]+)", given.get("--dependency", ""))
    before = after[1].split(":") if after else []
    if any(ended[job] != "0" for job in before):
        status = "never"
    else:
        status = str(max(run(number, given, arguments, index) for index in indices(given.get("--array", ""))))
    with notes.open("a") as file:
        file.write(f"{number} {status} {given['--job-name']} after {','.join(before)}\n")
    sys.stdout.write(f"{number};cluster\n")
    return 0


def indices(array: str) -> list[int | None]:
    """Return the tasks of an array; None for a job that is none."""
    if not array:
        return [None]
    found: list[int | None] = []
    for part in array.split(","):
        low, _, high = part.partition("-")
        found += range(int(low), int(high or low) + 1)
    return found


def run(number: str, given: dict[str, str], command: list[str], index: int | None) -> int:
    """Run one task, as its script's interpreter would; return its exit status."""
    env = {**os.environ, "SLURM_JOB_ID": number, "SLURM_CPUS_PER_TASK": "1"}
    if index is not None:
        tasks = [task for task in indices(given["--array"]) if task is not None]
        env |= {
            "SLURM_ARRAY_JOB_ID": number,
            "SLURM_ARRAY_TASK_ID": str(index),
            "SLURM_ARRAY_TASK_MIN": str(min(tasks)),
            "SLURM_ARRAY_TASK_MAX": str(max(tasks)),
            "SLURM_ARRAY_TASK_COUNT": str(len(tasks)),
        }
    with Path(f"{os.environ['FAKE_SLURM']}.log").open("a") as log:
        return subprocess.run(["bash", *command], env=env, stdout=log, stderr=log, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
