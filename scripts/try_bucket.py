"""Eight workers at a run in a bucket, two at every shard, some of them killed: same bytes as a local run, paid once."""

import argparse
import json
import random
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from aiohttp import web

from support.bucket import KEY_ID, SECRET, SLOW_DOWN, Fault, FaultProxy, client_of
from support.cluster import (
    BUCKET,
    Machine,
    differences,
    hear_interrupts,
    of_bucket,
    of_folder,
    s3_process,
    secrets_in,
    wait_for,
)
from support.encoder_case import RUBRIC, corpus
from support.served_case import Server, serving
from support.tiny_world import SOURCES, TinyWorld, reply_of

WORKERS, TWICE = 8, 2  # processes at a time; of these at every shard
MIRA = [sys.executable, "-m", "mira"]


class Weather:
    """What the store goes through: dropped connections and slow puts all the time, and bursts of 503.

    Attributes:
        burst: No request passes before this time.
    """

    def __init__(self, seed: int) -> None:
        self._random, self._guard, self.burst = random.Random(seed), threading.Lock(), 0.0
        self._left = 0

    def threaten(self, requests: int) -> None:
        """Have a burst of a few seconds begin after so many requests."""
        self._left = requests

    def __call__(self, request: web.Request) -> Fault | None:
        """Say what happens to a request."""
        with self._guard:
            draw = self._random.random()
            self._left -= 1
            if self._left == 0:
                self.burst = time.monotonic() + 5
        if time.monotonic() < self.burst:
            return SLOW_DOWN
        if draw < 0.01:
            return Fault(drop=True, passed=draw < 0.005)
        return Fault(delay=2.0) if request.method == "PUT" and draw < 0.05 else None


class Trial:
    """One trial: a project, its endpoint, its bucket and the machines of its workers."""

    def __init__(self, top: Path, server: Server, proxy: FaultProxy, weather: Weather, seed: int, records: int) -> None:
        self.top, self.server, self.proxy, self.weather = top, server, proxy, weather
        self.random, self.kills = random.Random(seed), True
        self.killed: Counter[str] = Counter()
        self.started: Counter[str] = Counter()
        self.world = _project(top / "project", server.url, records)
        (top / "machines").mkdir()
        self.machines = [Machine(top / "machines" / f"m{n}", proxy.port) for n in range(WORKERS)]
        self.driver = Machine(top / "machines" / "driver", proxy.port)

    def command(self, *words: str, run: str = f"s3://{BUCKET}/run") -> None:
        """Run a command of mira on the driver's machine, and stop the trial if it fails."""
        done = self.driver.start([*MIRA, *words, "--set", f"run={run}"]).wait()
        if done:
            raise SystemExit(f"failed: mira {' '.join(words)}\n{(self.driver.folder / 'log').read_text()[-3000:]}")

    def step(self, name: str, when: Callable[[], bool] | None = None) -> None:
        """Have two workers do every share of a step, and kill one of eight in the middle.

        Args:
            name: The step.
            when: When to kill; at a random time otherwise.
        """
        began = time.monotonic()
        victims = set(self.random.sample(range(WORKERS), 1 if when is None else 2)) if self.kills else set()
        self.weather.threaten(self.random.randint(40, 120))
        with ThreadPoolExecutor(WORKERS) as pool:
            list(pool.map(lambda n: self._worker(name, n, when, victim=n in victims), range(WORKERS)))
        say(f"{name}: s; started, killed", f"{time.monotonic() - began:.0f}; {self.started[name]}, {self.killed[name]}")

    def _worker(self, step: str, number: int, when: Callable[[], bool] | None, *, victim: bool) -> None:
        share = str(number % (WORKERS // TWICE))
        config = str(self.world.folder / "mira.yaml")
        command = [*MIRA, "work", config, "--stage", step, "--shard", share, "--of", str(WORKERS // TWICE)]
        command += ["--set", f"run=s3://{BUCKET}/run"]
        for attempt in range(6):
            machine = self.machines[number]
            self.started[step] += 1
            process = machine.start(command, MIRA_CACHE=f"{machine.folder}/cache{attempt % 2}")
            if victim and attempt == 0:
                if when is None:
                    time.sleep(self.random.uniform(2, 12))
                else:
                    wait_for(lambda: when() or process.poll() is not None, "the moment to kill", 600)  # noqa: B023
                if process.poll() is None:
                    process.kill()
                    self.killed[step] += 1
            if process.wait() == 0:
                return
        raise SystemExit(f"failed: {step} on {machine.folder}\n{(machine.folder / 'log').read_text()[-3000:]}")


def _project(folder: Path, url: str, records: int) -> TinyWorld:
    """Make a project of two sources, many files each, with recorded labels and a served student."""
    folder.mkdir()
    world = TinyWorld(folder)
    found, scores = corpus(records)
    replies = []
    for source in SOURCES:
        (folder / source).mkdir()
        own = [r for r in found if r.source == source]
        for start in range(0, len(own), 10):
            lines = [json.dumps({"id": r.id, "text": r.text}) + "\n" for r in own[start : start + 10]]
            (folder / source / f"{start:05}.jsonl").write_text("".join(lines))
    for record, row in zip(found, scores, strict=True):
        line = {"id": record.id, "source": record.source, "replicate": 0, "reply": reply_of(row)}
        replies.append(json.dumps(line) + "\n")
    (folder / "replies.jsonl").write_text("".join(replies))
    world.use_recorded_labels()
    world.settings["sources"] = [{"name": s, "path": f"{s}/*.jsonl"} for s in SOURCES]
    endpoint = {"base_url": url, "model": "m", "max_concurrency": 4}
    world.set(distill={"student": "endpoint", "endpoint": endpoint}, label={"sample": 20})
    (folder / "mira.yaml").write_text(json.dumps(world.settings))
    return world


def main() -> None:
    """Run the trial and print what was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=int, default=240)
    parser.add_argument("--latency", type=float, default=1.0, help="Seconds that the endpoint takes for a reply.")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--no-kills", action="store_true", help="Kill nobody: then nothing at all is paid twice.")
    parser.add_argument("--keep", type=Path, help="Work in this folder and leave everything there.")
    given = parser.parse_args()
    hear_interrupts()

    def answer(text: str) -> float:
        time.sleep(given.latency)
        return len(text) % 11

    weather = Weather(given.seed)
    with (
        tempfile.TemporaryDirectory(prefix="mira-bucket-") as temporary,
        serving(answer, RUBRIC) as server,
        s3_process(Path(temporary) / "s3.log") as port,
        FaultProxy(port, weather) as proxy,
        client_of(port) as client,
    ):
        client.mkdir(BUCKET)
        top = given.keep or Path(temporary)
        it = Trial(top, server, proxy, weather, given.seed, given.records)
        it.kills = not given.no_kills
        trial(it, client)


def trial(it: Trial, client: Any) -> None:
    """Do a local run, then the same with workers; compare."""
    config, near = str(it.world.folder / "mira.yaml"), it.top / "near"
    it.command("run", config, run=str(near))
    expected, asked = of_folder(near), _asked(it.server)
    say("local run: requests, of these twice", f"{asked.total()}, {asked.total() - len(asked)}")
    requests = asked.keys()

    it.server.requests.clear()
    it.step("index")
    it.command("index", config)
    for stage in ("group", "discover", "label", "distill"):
        it.command(stage, config)
    begun = len(it.server.requests)
    it.step("score", lambda: len(it.server.requests) - begun > it.random.uniform(0.2, 0.6) * len(requests))
    it.command("score", config)
    it.command("reliability", config)
    for step in ("values", "write"):
        it.step(step)
    it.command("run", config)

    asked = _asked(it.server)
    different = differences(expected, of_bucket(client, f"{BUCKET}/run"))
    say("files that must be alike", len(expected))
    say("files that differ", different[:20] or "none")
    say("workers' requests, of these twice", f"{asked.total()}, {asked.total() - len(asked)}")
    say("requests that are missing", len(requests - asked.keys()))
    say("faults of the store", dict(it.proxy.said))

    it.server.requests.clear()
    it.weather.burst = 0
    client.put(f"{near}/", f"{BUCKET}/copied/", recursive=True)
    it.command("run", config, run=f"s3://{BUCKET}/copied")
    client.get(f"{BUCKET}/copied/", f"{it.top}/back/", recursive=True)
    it.command("run", config, run=f"{it.top}/back")
    moved = differences(expected, of_folder(it.top / "back"))
    say("requests after a move into the bucket and back", len(it.server.requests))
    say("files that differ after it", moved or "none")
    client.get(f"{BUCKET}/", f"{it.top}/bucket/", recursive=True)
    leaked = secrets_in([it.top], [SECRET, KEY_ID])
    say("files with a credential", leaked or "none")
    if not it.kills and asked.total() > len(asked):
        raise SystemExit("failed: nobody was killed, and requests were paid twice")
    if different or moved or leaked or it.server.requests or requests - asked.keys():
        raise SystemExit("failed: see above")


def _asked(server: Server) -> Counter[str]:
    return Counter(json.dumps(body["messages"]) for body in server.requests)


def say(what: str, found: object) -> None:
    """Print a row of the table."""
    print(f"{what:50} {found}", flush=True)


if __name__ == "__main__":
    main()
