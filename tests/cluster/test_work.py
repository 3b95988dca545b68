"""Workers do what a run does: the same bytes, whoever does which shard, however often, and whoever is killed."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import mira
from mira.cluster.work import left_over
from mira.config.loading import load_config
from mira.errors import ConfigError, RunError
from mira.stage import Share
from support.many_shards import config_of, many_shards, tree
from support.tiny_world import TinyWorld


@pytest.fixture
def world(tmp_path: Path) -> TinyWorld:
    return many_shards(tmp_path)


def summary(world: TinyWorld, stage: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((world.run / "manifest.json").read_text())["stages"][stage]["summary"]
    return found


def all_work(config: Path, stage: str, of: int) -> None:
    for index in range(of):
        found = mira.work(config, stage, shard=index, of=of)
        assert not found.failed


def test_workers_give_the_same_bytes_as_a_run(world: TinyWorld, tmp_path: Path) -> None:
    (tmp_path / "alone").mkdir()
    alone = many_shards(tmp_path / "alone")
    for one in (alone, world):
        one.use_recorded_labels()
        one.set(select={"method": "mira"})
        config_of(one).write_text(json.dumps(one.settings))
    mira.run(config_of(alone))
    config = config_of(world)
    settings = load_config(config)

    assert left_over(settings, "index", 3) == [0, 1, 2]
    assert mira.work(config, "index", shard=1, of=3).done > 0
    assert left_over(settings, "index", 3) == [0, 2]
    all_work(config, "index", 3)
    assert left_over(settings, "index", 3) == []
    mira.run(config, "index")
    assert summary(world, "index")["indexed"] == 0
    mira.run(config, "group", "discover", "label", "distill")
    for stage in ("score", "flag", "values", "write"):
        if stage == "values":
            mira.run(config, "score", "reliability")
        assert left_over(settings, stage, 3) == [0, 1, 2]
        all_work(config, stage, 3)
        assert left_over(settings, stage, 3) == []
    mira.run(config)
    assert summary(world, "flag")["read"] == 0
    assert tree(world.run) == tree(alone.run)


def test_a_worker_finds_done_what_others_did(world: TinyWorld) -> None:
    config = config_of(world)
    first = mira.work(config, "index", shard=0, of=1)
    again = mira.work(config, "index", shard=0, of=1)
    assert (first.done, again.done, again.kept) == (first.shards, 0, first.shards)
    assert first.share == Share(0, 1)


def test_a_worker_refuses_what_is_not_ready(world: TinyWorld) -> None:
    config = config_of(world)
    with pytest.raises(RunError, match=r"stage 'index' has not run.*\n.*mira index mira\.yaml"):
        mira.work(config, "flag", shard=0, of=1)
    mira.run(config, "index")
    world.settings["max_record_bytes"] = 4096
    config.write_text(json.dumps(world.settings))
    with pytest.raises(RunError, match=r"not up to date.*max_record_bytes changed.*\n.*mira index mira\.yaml"):
        mira.work(config, "flag", shard=0, of=1)
    with pytest.raises(ConfigError, match="workers do no stage 'report'"):
        mira.work(config, "report", shard=0, of=1)


def test_a_shard_that_fails_does_not_stop_the_others(world: TinyWorld) -> None:
    config = config_of(world)
    mira.run(config, "index")
    shards = mira.work(config, "flag", shard=0, of=1).shards
    for path in (world.run / "signatures").rglob("*.parquet"):
        path.unlink()
    index = next((world.run / "index" / "source_B").glob("source_B.*1*.parquet"))
    index.write_bytes(b"damaged")
    found = mira.work(config, "flag", shard=0, of=1)
    assert list(found.failed) == [f"source_B/{index.stem}"]
    assert found.done == shards - 1
    said = world.mira("work", "--stage", "flag", "--shard", 0, "--of", 1, ok=False)
    assert f"1 of {shards} shards failed: source_B/{index.stem}" in said
    assert "mira work mira.yaml --stage flag --shard 0 --of 1" in said


def test_what_workers_wrote_since_is_kept_and_damage_is_not(world: TinyWorld) -> None:
    config = config_of(world)
    mira.run(config, "index")
    world.settings["max_record_bytes"] = 4096
    config.write_text(json.dumps(world.settings))
    assert mira.work(config, "index", shard=0, of=1).done > 5
    first, second = sorted((world.run / "index" / "source_A").glob("source_A*.parquet"))[:2]
    first.write_bytes(first.read_bytes()[:-1] + b"X")
    data = bytearray(second.read_bytes())
    data[20] ^= 1
    second.write_bytes(data)
    mira.run(config, "index")
    assert summary(world, "index")["indexed"] == 2
    assert not list((world.run / "workers").glob("index-*"))


def start(world: TinyWorld, stage: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "mira", "work", "mira.yaml", "--stage", stage, "--shard", "0", "--of", "1"]
    return subprocess.Popen(
        command, cwd=world.folder, env={**os.environ, "COLUMNS": "300"}, text=True, stderr=subprocess.PIPE
    )


def wait_for_files(worker: "subprocess.Popen[str]", folder: Path) -> None:
    """Wait until a worker has begun to write below a folder, or has ended."""
    while worker.poll() is None and not any(folder.rglob(".*.tmp")) and not any(folder.rglob("*.parquet")):
        time.sleep(0.01)


def test_two_workers_on_all_shards_and_one_of_them_killed(world: TinyWorld, tmp_path: Path) -> None:
    (tmp_path / "alone").mkdir()
    alone = many_shards(tmp_path / "alone")
    mira.run(config_of(alone), "index")
    workers = [start(world, "index") for _ in range(3)]
    wait_for_files(workers[0], world.run / "index")
    workers[0].kill()
    said = [worker.communicate()[1] for worker in workers]
    assert [worker.returncode for worker in workers[1:]] == [0, 0], said
    mira.run(config_of(world), "index")
    assert tree(world.run) == tree(alone.run)


def test_sigterm_stops_a_worker_with_one_line(world: TinyWorld) -> None:
    worker = start(world, "index")
    wait_for_files(worker, world.run / "index")
    worker.send_signal(signal.SIGTERM)
    said = worker.communicate()[1]
    # It may have been done already; while Python shuts down, it hears no signals.
    assert worker.returncode in (0, 143, -signal.SIGTERM), said
    assert "Traceback" not in said
