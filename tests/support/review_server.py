"""A real process of `mira review`'s server, and a client that does what its pages do."""

import json
import os
import re
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from http.cookiejar import CookieJar
from pathlib import Path
from typing import Any

import mira


def small_run(folder: Path, records: int = 80, sample: int = 60) -> Path:
    """Select from one source at random; return the settings file."""
    lines = [json.dumps({"id": f"r{i}", "text": f"Record {i} says what it says. " * 5}) for i in range(records)]
    (folder / "a.jsonl").write_text("\n".join(lines) + "\n")
    path = folder / "mira.yaml"
    path.write_text(
        "sources: [{name: a, path: a.jsonl}]\nselect: {method: random, scope: source}\n"
        f"review: {{sample: {sample}}}\n"
    )
    mira.run(path)
    return path


class ReviewServer:
    """A server in a process of its own.

    Args:
        settings: The settings file.
    """

    def __init__(self, settings: Path) -> None:
        command = [sys.executable, "-u", "-m", "mira", "review", str(settings), "--port", "0"]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=os.environ)
        assert self.process.stderr is not None
        for line in self.process.stderr:
            if found := re.search(r"Open (http://\S+/)\?token=(\S+)", line):
                self.url, self.token = found[1], found[2]
                return
        raise RuntimeError("the server did not start")

    def kill(self) -> None:
        """End the process at once, as a power cut would."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        assert self.process.stderr is not None
        self.process.stderr.close()

    def __enter__(self) -> "ReviewServer":
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.kill()

    def client(self) -> "Client":
        return Client(self.url, self.token)


class Client:
    """A browser's tab, as far as requests go."""

    def __init__(self, url: str, token: str) -> None:
        self.url = url
        self._open = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(CookieJar())).open
        self._open(f"{url}?token={token}").read()

    def card(self, reviewer: str) -> int | None:
        """Return the place of the card that the page shows; None if all are judged."""
        page = self._open(f"{self.url}?reviewer={reviewer}").read().decode()
        found = re.search(r'data-place="(\d+)"', page)
        return int(found[1]) if found else None

    def judge(self, reviewer: str, place: int | None, verdict: str, **more: Any) -> int:
        """Send a judgement; return the status."""
        body = json.dumps({"reviewer": reviewer, "place": place, "verdict": verdict, **more}).encode()
        headers = {"content-type": "application/json", "origin": self.url.rstrip("/")}
        try:
            with self._open(urllib.request.Request(f"{self.url}judge", body, headers)) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            return error.code
