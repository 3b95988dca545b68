"""A run whose student is served, for `mira work` processes that are killed: what is requested, and what twice.

Run as a script for more workers and kills than the test has: python tests/support/paid_workers.py [--s3] ...
"""

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import orjson

from mira.config.loading import load_config
from mira.llm.journal.frames import Group, scan, unpack
from mira.pipeline.runner import run_stages
from mira.run_folder.folder_store import FolderStore
from mira.run_folder.store import Store
from mira.run_folder.working_copy import working_copy_of
from mira.stage import worker_of
from support.bucket import client_of, environment, s3_server
from support.fault_server import FaultServer, record, rubric

SOURCES = ("web", "books")
CONCURRENCY = 8
_SETTINGS = """\
run: RUN
sources: [{name: web, path: "web/*.jsonl"}, {name: books, path: "books/*.jsonl"}]
group: {given: {text_group_T: [web, books]}}
discover: {rubrics: {text_group_T: rubric.jsonl}}
distill:
  student: endpoint
  endpoint: {base_url: "URL", model: fake, identity: fake, max_concurrency: CONCURRENCY, temperature: 0}
reliability: {mask: mask.jsonl}
score: {workers: 1}
"""


class PaidRun:
    """A project in a folder: two sources of equal shards, and a rubric.

    Args:
        folder: The project's folder.
        endpoint: URL of the served student: a `FaultServer`.
        run: The run folder: a name in the project's folder, or a URL.
        shards: Shards per source.
        records: Records per shard.
    """

    def __init__(self, folder: Path, endpoint: str, run: str = "run", shards: int = 3, records: int = 40) -> None:
        self.folder, self.path = folder, folder / "mira.yaml"
        folder.mkdir(parents=True, exist_ok=True)
        self.records = [record(number, source).text.strip() for source in SOURCES for number in range(shards * records)]
        for source in SOURCES:
            (folder / source).mkdir()
            for shard in range(shards):
                own = [record(number, source) for number in range(shard * records, (shard + 1) * records)]
                lines = b"".join(orjson.dumps({"id": r.id, "text": r.text}) + b"\n" for r in own)
                (folder / source / f"part-{shard}.jsonl").write_bytes(lines)
        rubric().save(folder / "rubric.jsonl")
        (folder / "mask.jsonl").write_text("")
        text = _SETTINGS.replace("RUN", run).replace("URL", endpoint).replace("CONCURRENCY", str(CONCURRENCY))
        self.path.write_text(text)

    def prepare(self) -> None:
        """Run what comes before the scores; nothing of it is asked."""
        run_stages(load_config(self.path), ["index", "group", "discover", "label", "distill"])

    def wanted(self, of: int) -> int:
        """Return the number of records in the shards of worker 0."""
        shards = [(source, path.stem) for source in SOURCES for path in (self.folder / source).iterdir()]
        return sum(worker_of(*shard, of) == 0 for shard in shards) * len(self.records) // len(shards)

    def start(
        self, index: int, of: int, environ: Mapping[str, str] | None = None, beat_s: float = 1.0
    ) -> subprocess.Popen[bytes]:
        """Start a worker of stage `score`.

        Args:
            index: Its number.
            of: How many there are said to be.
            environ: Its environment; this process's by default. Workers of one MIRA_CACHE are on one machine.
            beat_s: Seconds between two beats of its leases.
        """
        given = {**(os.environ if environ is None else environ), "MIRA_BEAT_S": str(beat_s)}
        command = [sys.executable, "-m", "mira", "work", str(self.path), "--stage", "score"]
        command += ["--shard", str(index), "--of", str(of)]
        with (self.folder / f"worker-{index}-{time.monotonic_ns()}.log").open("wb") as log:
            return subprocess.Popen(command, stdout=log, stderr=log, env=given, cwd=self.folder)

    def at_work(self) -> set[int]:
        """Return the processes that hold, or held, leases of shards."""
        run = load_config(self.path).run
        place = working_copy_of(run)
        store: Store = place[0].store if place else FolderStore(run)
        leases = [orjson.loads(store.read(name)) for name in store.list("leases/score")]
        return {int(lease["holder"].split()[1]) for lease in leases}

    def logs(self) -> str:
        """Return what the workers said."""
        return "\n".join(path.read_text() for path in sorted(self.folder.glob("worker-*.log")))


def journalled(folder: Path, lost: Path | None = None) -> set[str]:
    """Return the records whose replies are in the journal files of a folder, in folders of it too.

    Args:
        folder: The folder.
        lost: The cache of a machine, whose segments that are not sealed are left out.
    """
    found: set[str] = set()
    for path in folder.rglob("*.jsonl.zst"):
        if lost is not None and lost in path.parents and ".journal" in path.parts:
            continue
        with path.open("rb") as file:
            for part in scan(file, path.stat().st_size):
                if isinstance(part, Group):
                    file.seek(part.data)
                    found |= {str(orjson.loads(line)["for"]) for line in unpack(file.read(part.end - part.data))}
    return found


def about(asked: str) -> str:
    """Return the name in the journal, "source/id", of what the server calls "record 000007 of web"."""
    _, number, _, source = asked.split()
    return f"{source}/id-{number}"


@dataclass
class Outcome:
    """What a trial came to.

    Attributes:
        records: Records to judge.
        requests: Requests that the server saw.
        twice: Records that were requested more than once.
        excused: Records that a killed worker had requests for under way, or replies that were not sealed.
        kills: Workers that were killed at work.
        seconds: How long it took.
    """

    records: int
    requests: int
    twice: set[str]
    excused: set[str]
    kills: int
    seconds: float = 0.0
    unexcused: set[str] = field(init=False)

    def __post_init__(self) -> None:
        self.unexcused = self.twice - self.excused


def trial(
    project: PaidRun, server: FaultServer, *, workers: int, kills: int, journals: Path, environs: list[dict[str, str]],
    of: int = 0, seed: int = 0, beat_s: float = 1.0, again: bool = True,
) -> Outcome:  # fmt: skip
    """Have workers score all shards, each shard wanted by two of them; kill some in the middle.

    Args:
        project: The project, prepared.
        server: Its endpoint; with a latency, so that kills find requests under way.
        workers: How many; worker i does the shards of number i // 2, of `of` numbers.
        of: How many workers each of them is told that there are; by default, half as many as there are.
        kills: How many of them are killed at work.
        journals: The folder whose journal files survive a kill: what is in them must not be requested again.
        environs: The workers' environments, in turn.
        seed: Of the moments of the kills.
        beat_s: Seconds between two beats.
        again: Start another worker of the same number for each that was killed.
    """
    rng = random.Random(seed)
    of = of or max(1, workers // 2)
    wanted = len(project.records) if workers >= 2 * of else project.wanted(of)
    started, begun = time.monotonic(), len(server.asked)
    running = {i: project.start(i // 2 % of, of, environs[i % len(environs)], beat_s) for i in range(workers)}
    excused: set[str] = set()
    killed = 0
    for at in range(kills):
        target = begun + (at + rng.uniform(0.3, 0.7)) / (kills + 1) * wanted
        while len(server.asked) < target and any(process.poll() is None for process in running.values()):
            time.sleep(0.005)
        alive = [i for i, process in running.items() if process.poll() is None]
        if not alive:
            break
        at_work = project.at_work()  # one that waits for the others has nothing to lose
        victim = rng.choice([i for i in alive if running[i].pid in at_work] or alive)
        running[victim].send_signal(signal.SIGKILL)
        running[victim].wait()
        killed += 1
        kept = journalled(journals, Path(environs[victim % len(environs)]["MIRA_CACHE"]))
        excused |= {name for name in map(about, list(server.asked)) if name not in kept}
        if again:
            running[victim] = project.start(victim // 2 % of, of, environs[victim % len(environs)], beat_s)
    for process in running.values():
        process.wait()
        assert process.returncode in (0, -signal.SIGKILL), project.logs()
    twice = {about(name) for name, count in server.asked.items() if count > 1}
    seconds = time.monotonic() - started
    return Outcome(len(project.records), sum(server.asked.values()), twice, excused, killed, seconds)


def main() -> None:
    """Print the outcome of a trial."""
    parser = argparse.ArgumentParser()
    parser.add_argument(
        "--s3", action="store_true", help="the run is in a bucket, every worker on a machine of its own"
    )
    for name, default in (("workers", 8), ("kills", 2), ("shards", 8), ("records", 60), ("seed", 0)):
        parser.add_argument(f"--{name}", type=int, default=default)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, FaultServer(latency=0.05) as server, ExitStack() as stack:
        folder, run, base = Path(name), "run", dict(os.environ)
        if given.s3:
            port = stack.enter_context(s3_server())
            stack.enter_context(client_of(port)).mkdir("bucket")
            run, base = "s3://bucket/run", environment(port)
        os.environ["MIRA_CACHE"] = str(folder / "head")
        project = PaidRun(folder / "project", server.url, run, given.shards, given.records)
        project.prepare()
        assert not server.asked
        environs = [{**base, "MIRA_CACHE": str(folder / "machines" / str(i))} for i in range(given.workers)]
        journals = folder / "machines" if given.s3 else folder / "project" / "run"
        outcome = trial(
            project, server, workers=given.workers, kills=given.kills, journals=journals, environs=environs,
            seed=given.seed,
        )  # fmt: skip
        print(f"{outcome.records:,} records, {outcome.requests:,} requests, {outcome.kills} kills")
        print(f"{outcome.seconds:.0f} s, with the start of {given.workers + outcome.kills} processes")
        print(f"requested twice: {len(outcome.twice):,}, of which not excused by a kill: {len(outcome.unexcused):,}")


if __name__ == "__main__":
    main()
