"""The demo's corpus on three Ray nodes that share nothing but a bucket: same bytes as a local run, whatever dies."""

import argparse
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mira.demo_project.demo import prepare_demo
from mira.family import FamilyName
from support.bucket import KEY_ID, SECRET, client_of
from support.cluster import (
    BUCKET,
    Machine,
    differences,
    end,
    free_port,
    hear_interrupts,
    listens,
    may_hide,
    of_bucket,
    of_folder,
    s3_process,
    secrets_in,
    wait_for,
)

NODES = 3
SHARDS = ("index", "scores", "selection", "selected")


def main() -> None:
    """Run the trial and print what was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--demo", type=Path, help="A folder that `mira demo` has prepared.")
    parser.add_argument("--keep", type=Path, help="Work in this folder and leave everything there.")
    parser.add_argument("--near", type=Path, help="A local run that an earlier trial kept: only shards are left to do.")
    parser.add_argument("--whole", action="store_true", help="With --near: do all stages in the bucket nevertheless.")
    given = parser.parse_args()
    hear_interrupts()
    with tempfile.TemporaryDirectory(prefix="mira-ray-") as temporary:
        folder = given.keep or Path(temporary)
        trial(
            folder,
            given.demo or prepare_demo(folder / "demo", families=[FamilyName.TEXT]).parent,
            given.near,
            whole=given.whole,
        )


def trial(top: Path, demo: Path, near: Path | None, *, whole: bool) -> None:
    """Do a local run, then the same on the cluster, interrupted and with a node killed; compare."""
    (top / "machines").mkdir()
    with s3_process(top / "s3.log") as s3, client_of(s3) as client:
        client.mkdir(BUCKET)
        client.put(f"{demo}/corpus/", f"{BUCKET}/corpus/", recursive=True)
        driver = Machine(top / "machines" / "driver", s3)
        text = (demo / "mira.yaml").read_text()
        text = re.sub(r"path: corpus/", f"path: s3://{BUCKET}/corpus/", text)
        shutil.copytree(demo / "teacher", driver.folder / "work" / "teacher")
        (driver.folder / "work" / "mira.yaml").write_text(text.replace("shard_bytes: 1000000", "shard_bytes: 200000"))
        say("machines see each other's folders", "no" if may_hide() else "yes: not root")

        began = time.monotonic()
        if near:
            shutil.copytree(near, driver.folder / "work" / "near")
            for path in () if whole else near.iterdir():
                if path.name not in (*SHARDS, "values", "report.html") and not path.name.startswith("."):
                    client.put(str(path), f"{BUCKET}/run/", recursive=True)
        local = driver.start([sys.executable, "-m", "mira", "run", "mira.yaml", "--set", "run=near"])
        check(local.wait() == 0, "the local run ends well", driver)
        say("local run, s", round(time.monotonic() - began))
        expected = of_folder(driver.folder / "work" / "near")

        with cluster(top, s3) as (address, nodes):
            run = [sys.executable, "-m", "mira", "run", "mira.yaml", "--set", "score.engine=ray"]
            run += ["--set", f"run=s3://{BUCKET}/run"]
            began = time.monotonic()
            first = driver.start(run, RAY_ADDRESS=address)
            wait_for(lambda: count(client, "scores") >= 3 or first.poll() is not None, "three scored shards", 900)
            end(first, signal.SIGINT)
            scored = count(client, "scores")
            say("scored shards at Ctrl-C", scored)
            check(first.returncode in (130, -2), f"Ctrl-C ends the command with 130, not {first.returncode}", driver)

            second = driver.start(run, RAY_ADDRESS=address)
            wait_for(lambda: count(client, "scores") >= scored + 3 or second.poll() is not None, "more shards", 900)
            end(nodes[-1])
            say("scored shards when a node was killed", count(client, "scores"))
            status = second.wait()
            if status:
                say("the command ended with the node", f"status {status}")
                third = driver.start(run, RAY_ADDRESS=address)
                check(third.wait() == 0, "the next run finishes", driver)
            say("cluster, with both interruptions, s", round(time.monotonic() - began))
        found = of_bucket(client, f"{BUCKET}/run")
        different = differences(expected, found)
        say("files that must be alike", len(expected))
        say("files that differ", different[:20] or "none")
        used = [p.name for p in sorted((top / "machines").iterdir()) if any((p / "cache").rglob("*.parquet"))]
        say("machines that hold copies", ", ".join(used))
        client.get(f"{BUCKET}/", f"{top}/bucket/", recursive=True)
        leaked = secrets_in([top, *Path("/tmp").glob("ray-*/session_*/logs")], [SECRET, KEY_ID])
        say("files with a credential", leaked or "none")
        check(not different and not leaked, "same bytes, no credentials", driver)


def count(client: Any, stage: str) -> int:
    """Return how many sidecars of a stage are in the bucket."""
    return sum(name.endswith(".parquet") for name in client.find(f"{BUCKET}/run/{stage}"))


@contextmanager
def cluster(top: Path, s3: int) -> Iterator[tuple[str, list["subprocess.Popen[bytes]"]]]:
    """Give the address of a Ray cluster, and its nodes: each a group of processes."""
    ray = str(Path(sys.executable).with_name("ray"))
    port = free_port()
    address = f"127.0.0.1:{port}"
    common = ["--num-cpus=1", "--block", "--disable-usage-stats"]
    session = Path(tempfile.mkdtemp(prefix="ray-", dir="/tmp"))  # of all nodes on one machine; a short path for sockets
    nodes = []
    try:
        for number in range(NODES):
            machine = Machine(top / "machines" / f"node{number}", s3)
            which = [f"--address={address}"]
            if number == 0:
                which = ["--head", f"--port={port}", "--include-dashboard=false", f"--temp-dir={session}"]
            command = [ray, "start", *which, *common]
            nodes.append(machine.start(command))
            for _ in range(8):  # Ray gives up after 30 s, which a busy machine may need
                try:
                    wait_for(lambda: nodes[-1].poll() is not None or _alive(address) == len(nodes), "a node", 120)
                except TimeoutError:
                    end(nodes[-1])
                if nodes[-1].poll() is None:
                    break
                nodes[-1] = machine.start(command)
        yield address, nodes
    finally:
        for node in nodes:
            end(node)


def _alive(address: str) -> int:
    code = f"import ray; ray.init('{address}', log_to_driver=False); print('N', sum(n['Alive'] for n in ray.nodes()))"
    if not listens(int(address.rpartition(":")[2])):
        return 0
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=300)
    found = re.search(r"^N (\d+)", done.stdout, re.MULTILINE)
    return int(found[1]) if found else 0


def say(what: str, found: object) -> None:
    """Print a row of the table."""
    print(f"{what:45} {found}", flush=True)


def check(true: bool, what: str, machine: Machine) -> None:
    """Stop where something does not hold, with the end of the machine's log."""
    if not true:
        log = (machine.folder / "log").read_text(errors="replace")
        sys.exit(f"failed: {what}\n{log[-3000:]}")


if __name__ == "__main__":
    main()
