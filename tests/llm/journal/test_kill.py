"""SIGKILL at random points while scoring: each record is there once, and only requests under way are asked again."""

import multiprocessing
import os
import signal
import time
from pathlib import Path

from mira.llm.journal.journal import Journal
from support.fault_server import FaultServer
from support.kill import UNDER_WAY, run
from support.score_records import score


def test_sigkill_loses_and_doubles_nothing(tmp_path: Path) -> None:
    outcome = run(tmp_path, kills=5, records=5000)
    assert outcome.kills == 5
    assert outcome.journalled == outcome.rows == 5000
    assert outcome.most_again <= UNDER_WAY
    assert outcome.asked < 5000 + 5 * UNDER_WAY


def test_ctrl_c_drains_what_is_in_flight_into_the_journal(tmp_path: Path) -> None:
    with FaultServer(latency=0.3) as server:
        arguments = (server.url, tmp_path, 5000, 64)
        process = multiprocessing.get_context("forkserver").Process(target=score, args=arguments)
        process.start()
        while len(server.answered) < 100:
            time.sleep(0.01)
        assert process.pid is not None
        os.kill(process.pid, signal.SIGINT)
        process.join(10)
        assert process.exitcode == 1
        assert sum(server.asked.values()) == sum(server.answered.values()) < 1000
    assert not (tmp_path / "scores.parquet").exists()
    with Journal(tmp_path / "journal") as journal:
        assert len(journal) == len(server.answered)
