"""The command itself: it prints an address, serves, ends with a signal, and leaves nothing behind."""

import http.client
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import yaml

from support.report_project import Project


@pytest.fixture
def settings(made: Project, tmp_path: Path) -> Path:
    config = made.config(budget="40%", scope="group", write_selected=False)
    path = tmp_path / "mira.yaml"
    path.write_text(yaml.safe_dump(config.model_dump(mode="json", exclude_unset=True)))
    return path


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_serves_until_a_signal_and_leaves_no_scratch(settings: Path, tmp_path: Path, number: int) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    code = "import sys; from mira.cli.app import main; main()"
    command = [sys.executable, "-c", code, "view", str(settings), "--port", "0"]
    environment = os.environ | {"TMPDIR": str(scratch)}
    server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment)
    assert server.stdout is not None
    try:
        address = next(m[0] for line in server.stdout if (m := re.search(r"http://\S+", line)))
        parts = urlsplit(address)
        connection = http.client.HTTPConnection(parts.netloc)
        connection.request("GET", f"/?{parts.query}")
        opened = connection.getresponse()
        assert opened.status == 303
        cookie = opened.getheader("set-cookie", "").partition(";")[0]
        opened.read()
        connection.request("GET", "/records", headers={"cookie": cookie})
        assert b"183</b> records" in connection.getresponse().read()
        connection.close()
        assert list(scratch.iterdir())
        server.send_signal(number)
        assert server.wait(60) == 0
    finally:
        server.kill()
        server.wait()
        server.stdout.close()
    assert not list(scratch.iterdir())
