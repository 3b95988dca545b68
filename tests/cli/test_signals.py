"""SIGTERM in the middle of paid work. Real processes, no mocks."""

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mira.llm.journal.journal import Journal
from support.fault_server import FaultServer, rubric


@contextmanager
def scoring(folder: Path, server: FaultServer) -> Iterator[subprocess.Popen[str]]:
    """Give a process that scores, once its requests are at the server."""
    lines = [f'{{"id": "{i}", "text": "<<record {i}>> Some text."}}\n' for i in range(40)]
    (folder / "docs.jsonl").write_text("".join(lines))
    rubric().save(folder / "rubric.jsonl")
    command = [sys.executable, "-m", "mira", "score", "--judge", server.url, "--model", "fake"]
    command += ["--rubric", "rubric.jsonl", "--input", "docs.jsonl", "--out", "run"]
    with subprocess.Popen(command, cwd=folder, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True) as process:
        try:
            until = time.monotonic() + 60
            while server.now < 5:
                assert process.poll() is None, process.communicate()[1]
                assert time.monotonic() < until
                time.sleep(0.02)
            yield process
        finally:
            process.kill()


def test_the_first_sigterm_waits_for_what_is_in_flight_and_journals_it(tmp_path: Path) -> None:
    with FaultServer(latency=2.0) as server, scoring(tmp_path, server) as process:
        process.send_signal(signal.SIGTERM)
        said = process.communicate(timeout=60)[1]
        assert process.returncode == 143, said
        assert "Run the same command again" in said
        assert "Traceback" not in said
        answered = server.answered.total()
        assert 5 <= answered < 40
    with Journal(tmp_path / "run" / "journal") as journal:
        assert len(journal) == answered


def test_the_second_sigterm_stops_at_once(tmp_path: Path) -> None:
    with FaultServer(latency=30.0) as server, scoring(tmp_path, server) as process:
        process.send_signal(signal.SIGTERM)
        time.sleep(1.0)
        assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=10)
        assert process.returncode == -signal.SIGTERM
