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

BUCKET = "trial"
_OWN = ("values/", "sums/", "journal/", "leases/", "receipts/")
"""Folders of a run that two runs of the same input need not have alike: caches, times, the order of replies."""


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


def start(command: list[str], env: Mapping[str, str], log: Path, **more: Any) -> "subprocess.Popen[bytes]":
    """Start a process in a group of its own that hears Ctrl-C, with its output in a file."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # what a background job ignores, its children ignore too
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
        if name.startswith((".", *_OWN)) or "/." in name or name in ("manifest.json", "report.html"):
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
