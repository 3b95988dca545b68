"""Workers with a served student and a bucket: a shard is paid for once, also if two want it and one is killed."""

from pathlib import Path

import pyarrow.parquet as pq
import pytest

from mira.config.loading import load_config
from mira.pipeline.runner import run_stages
from support.bucket import client_of, environment, s3_server
from support.fault_server import FaultServer, scores
from support.paid_workers import PaidRun, trial

OF = 2


def test_two_workers_on_every_shard_and_one_killed_pay_nothing_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MIRA_CACHE", str(tmp_path / "head"))
    machines = tmp_path / "machines"
    with FaultServer(latency=0.15) as server, s3_server() as port, client_of(port) as client:
        client.mkdir("bucket")
        project = PaidRun(tmp_path, server.url, "s3://bucket/run", shards=4, records=25)
        project.prepare()
        environs = [environment(port) | {"MIRA_CACHE": str(machines / str(i))} for i in range(2)]
        outcome = trial(
            project, server, workers=2, of=OF, kills=1, journals=machines, environs=environs, beat_s=6.0, again=False
        )
        assert len(server.asked) == project.wanted(OF)
        assert outcome.kills == 1
        assert outcome.unexcused == set(), project.logs()
        assert "is gone: its shards are taken over." in project.logs()
        requests = sum(server.asked.values())
        config = load_config(project.path)
        assert run_stages(config, ["score"]) == ["score"]
        assert sum(server.asked.values()) - requests == len(project.records) - project.wanted(OF)
        rows = 0
        for path in config.run.glob("scores/*/*.parquet"):
            for row in pq.read_table(path, columns=["id", "A7"]).to_pylist():
                about = f"record {row['id'].removeprefix('id-')} of {path.parent.name}"
                assert row["A7"] == scores(about)[6]
                rows += 1
        assert rows == len(project.records)
