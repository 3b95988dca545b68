"""Processes for trials on a cluster: an S3 server, Ray nodes that share nothing, and what is compared afterwards."""

import hashlib
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.request import urlopen

from support.bucket import environment

BUCKET = "trial"
_OWN = ("values/", "sums/", "journal/", "leases/", "receipts/", "ranks/", "written/", "workers/")
"""Folders that two runs of the same input need not have alike: caches, times, the order of replies, workers' own."""


def free_port() -> int:
    """Return a port that nobody listens at now."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return int(listening.getsockname()[1])


def wait_for(true: Callable[[], object], what: str, seconds: float = 300.0) -> None:
    """Wait until something is true.

    Raises:
        TimeoutError: It does not come true.
    """
    deadline = time.monotonic() + seconds
    while not true():
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {seconds:g} s for {what}")
        time.sleep(0.1)


def hear_interrupts() -> None:
    """Have this process and its children hear Ctrl-C, which background jobs ignore."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def start(command: list[str], env: Mapping[str, str], log: Path, **more: Any) -> "subprocess.Popen[bytes]":
    """Start a process in a group of its own, with its output in a file."""
    with log.open("ab") as out:
        return subprocess.Popen(
            command, env=dict(env), stdout=out, stderr=subprocess.STDOUT, start_new_session=True,
            **more,
        )  # fmt: skip


def end(process: "subprocess.Popen[bytes]", number: int = signal.SIGKILL) -> None:
    """Send a signal to a process and all of its group, and wait for it."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, number)
    process.wait(60)


class Machine:
    """Stands for a machine: a folder of its own for work, caches and temporary files, and nobody else's."""

    def __init__(self, folder: Path, s3: int) -> None:
        self.folder = folder
        for name in ("work", "cache", "tmp", "home"):
            (folder / name).mkdir(parents=True)
        places = {"MIRA_CACHE": f"{folder}/cache", "TMPDIR": f"{folder}/tmp", "HOME": f"{folder}/home"}
        self.env = (
            environment(s3) | places | {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}
        )

    def start(self, command: list[str], **more: str) -> "subprocess.Popen[bytes]":
        """Start a process on the machine. As root it does not see the other machines' folders at all."""
        hide = "".join(
            f"mount -t tmpfs none {other} && " for other in self.folder.parent.iterdir() if other != self.folder
        )
        wrapped = ["unshare", "--mount", "bash", "-c", f'{hide} exec "$@"', "-", *command] if may_hide() else command
        return start(wrapped, self.env | more, self.folder / "log", cwd=self.folder / "work")


def may_hide() -> bool:
    """Return whether machines can be kept from seeing each other's folders."""
    return os.geteuid() == 0 and subprocess.run(["unshare", "--mount", "true"], check=False).returncode == 0


@contextmanager
def s3_process(log: Path) -> Iterator[int]:
    """Give the port of an S3 server in a process of its own."""
    port = free_port()
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with log.open("ab") as out:
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=out, start_new_session=True)
    try:
        wait_for(lambda: listens(port), "the S3 server", 60)
        urlopen(f"http://127.0.0.1:{port}/moto-api/").close()
        yield port
    finally:
        end(process)


def listens(port: int) -> bool:
    """Return whether somebody listens at a port of this machine."""
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


def results(files: Iterable[tuple[str, bytes]]) -> dict[str, str]:
    """Return name -> hash of what a run must have alike, whoever made it: caches, times and the page left out."""
    found = {}
    for name, content in files:
        if name.startswith((".", *_OWN)) or "/." in name or name in ("manifest.json", "report.html", "plan.json"):
            continue
        found[name] = hashlib.sha256(content).hexdigest()
    return found


def of_folder(folder: Path) -> dict[str, str]:
    """Return the `results` of a run in a folder."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return results((path.relative_to(folder).as_posix(), path.read_bytes()) for path in files)


def of_bucket(client: Any, place: str) -> dict[str, str]:
    """Return the `results` of a run at "bucket/folder"."""
    names = sorted(client.find(place))
    return results((name[len(place) + 1 :], client.cat_file(name)) for name in names)


def differences(one: Mapping[str, str], other: Mapping[str, str]) -> list[str]:
    """Return the names that two results do not have alike."""
    return sorted(name for name in one.keys() | other.keys() if one.get(name) != other.get(name))


def secrets_in(folders: Iterable[Path], secrets: Iterable[str]) -> list[str]:
    """Return the files below folders that hold a secret."""
    pattern = re.compile(b"|".join(re.escape(secret.encode()) for secret in secrets))
    found: list[str] = []
    for folder in folders:
        files = (path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
        found += [str(path) for path in files if pattern.search(path.read_bytes())]
    return found
