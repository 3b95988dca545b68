"""The SIGKILL harness: kill a scoring process at random points, run it to its end, count.

Run as a script for more points than the test has: python tests/support/kill.py [KILLS] [RECORDS]
"""

import multiprocessing
import random
import sys
import tempfile
import time
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import pyarrow.parquet as pq

from mira.llm.journal.journal import Journal
from support.fault_server import FaultServer, record, scores
from support.score_records import score

CONCURRENCY = 64
# Replies under way: in flight, waiting for the group commit, and being committed.
UNDER_WAY = CONCURRENCY + 2 * 256


@dataclass(frozen=True)
class Outcome:
    """What a run with kills came to.

    Attributes:
        kills: Kills that hit a process that was scoring.
        torn: How often a torn tail was cut.
        asked: Requests that the server saw.
        most_again: Most requests of one kill that were asked again.
        journalled: Replies in the journal at the end.
        rows: Rows of the sidecar.
    """

    kills: int
    torn: int
    asked: int
    most_again: int
    journalled: int
    rows: int


def run(folder: Path, kills: int, records: int, seed: int = 0) -> Outcome:
    """Kill a process that scores `records` at `kills` random points and let it end; check the sidecar."""
    rng = random.Random(seed)
    torn = most_again = done = 0
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        ["mira.judging.endpoint", "mira.rubric.rubric", "pyarrow.parquet", "aiohttp.web", "quicktok", "uvloop"]
    )
    with FaultServer(latency=0.01) as server:

        def start() -> BaseProcess:
            process = context.Process(target=score, args=(server.url, folder, records, CONCURRENCY))
            process.start()
            return process

        for i in range(kills):
            target = rng.uniform(i, i + 1) / (kills + 1) * records
            process = start()
            while len(server.answered) < target and process.is_alive():
                time.sleep(0.002)
            time.sleep(rng.uniform(0, 0.1))
            done += process.is_alive()
            process.kill()
            process.join()
            assert not (folder / "scores.parquet").exists(), "a sidecar of a killed process"
            with Journal(folder / "journal") as journal:
                torn += bool(journal.cut)
                assert journal.damaged == 0
                most_again = max(most_again, len(server.answered) - len(journal))
        process = start()
        process.join()
        assert process.exitcode == 0
        asked = sum(server.asked.values())
        again = asked - records
        assert again <= kills * UNDER_WAY, f"{again} requests were asked again after {kills} kills"
    with Journal(folder / "journal") as journal:
        journalled = len(journal)
    table = pq.read_table(folder / "scores.parquet")
    assert table["id"].to_pylist() == [record(i).id for i in range(records)]
    assert table["A7"].to_pylist() == [scores(f"record {i:06d} of s")[6] for i in range(records)]
    return Outcome(done, torn, asked, most_again, journalled, table.num_rows)


if __name__ == "__main__":
    numbers = [int(a) for a in sys.argv[1:]]
    with tempfile.TemporaryDirectory() as name:
        print(run(Path(name), *(numbers or [20, 5000])))
