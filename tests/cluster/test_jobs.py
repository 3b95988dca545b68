"""The job files: what they hold, and that they do what a run does."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

import mira
from mira.cluster.waves import Wave, waves
from mira.config.loading import load_config
from mira.errors import ConfigError
from support.fake_slurm import install
from support.many_shards import config_of, many_shards, tree
from support.tiny_world import TinyWorld

KEY = "sk-a-secret-key"
ENDPOINT = {"base_url": "http://127.0.0.1:9/v1", "model": "m", "api_key_env": "TEACHER_KEY"}


def written(world: TinyWorld, **sections: Any) -> Path:
    world.set(**sections)
    config_of(world).write_text(json.dumps(world.settings))
    return config_of(world)


@pytest.fixture
def world(tmp_path: Path) -> TinyWorld:
    return many_shards(tmp_path)


def test_waves_have_what_the_selection_needs_and_no_more(world: TinyWorld) -> None:
    random = [Wave((("index",),), ("index",)), Wave((("flag",), ("values", "write")), ("run",))]
    assert waves(load_config(config_of(world))) == random
    world.use_recorded_labels()
    first, second, third = waves(load_config(written(world, select={"method": "mira"})))
    assert first == Wave((("index",),), ("index", "group", "discover", "label", "distill", "reliability"))
    assert second == Wave((("score",), ("flag",)), ("score", "flag"))
    assert third == Wave((("values", "write"),), ("run",))


def test_a_selection_that_workers_cannot_do_is_left_to_the_last_job(world: TinyWorld) -> None:
    found = waves(load_config(written(world, flags={"duplicates": "drop"})))
    assert found == [Wave((("index",),), ("index",)), Wave((("flag",),), ("run",))]


def test_slurm_does_what_a_run_does(world: TinyWorld, tmp_path: Path) -> None:
    (tmp_path / "alone").mkdir()
    alone = many_shards(tmp_path / "alone")
    mira.run(load_config(config_of(alone), ["select.budget=30%"]))
    script, notes = tmp_path / "jobs.sh", tmp_path / "notes"
    script.write_text(mira.slurm(config_of(world), workers=2, overrides=["select.budget=30%"]))
    path = f"{install(tmp_path / 'bin')}:{os.environ['PATH']}"
    env = {**os.environ, "PATH": path, "FAKE_SLURM": str(notes), "MIRA_CACHE": str(tmp_path / "cache")}
    subprocess.run(["bash", script.name], cwd=tmp_path, env=env, check=True)
    assert notes.read_text().splitlines() == [
        "1000 0 mira-index after ",
        "1001 0 mira-gather-1 after 1000",
        "1002 0 mira-flag after 1001",
        "1003 0 mira-values after 1001",
        "1004 0 mira-write after 1003",
        "1005 0 mira-gather-2 after 1002,1004",
    ], Path(f"{notes}.log").read_text()
    assert tree(world.run) == tree(alone.run)


def test_slurm_has_its_options_and_no_secret(world: TinyWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEACHER_KEY", KEY)
    config = written(world, teacher={"endpoint": ENDPOINT}, select={"method": "mira"})
    text = mira.slurm(config, workers=64, partition="cpu", time="2-00:00:00", cpus=4, memory="8G")
    for line in ("--partition=cpu", "--time=2-00:00:00", "--cpus-per-task=4", "--mem=8G", "--requeue"):
        assert f"#SBATCH {line}\n" in text
    assert "workers=64\n" in text
    assert KEY not in text
    assert "#SBATCH --partition" not in mira.slurm(config)
    subprocess.run(["bash", "-n"], input=text, text=True, check=True)
    for wrong in ({"workers": 0}, {"cpus": 0}, {"partition": "a b"}, {"time": "1 day"}, {"memory": "8 G"}):
        with pytest.raises(ConfigError, match=f"--{next(iter(wrong))} is"):
            mira.slurm(config, **wrong)  # type: ignore[arg-type]


def test_what_a_shell_would_read_is_quoted(world: TinyWorld, tmp_path: Path) -> None:
    odd = tmp_path / "a folder; $(touch broken)"
    odd.mkdir()
    config = written(many_shards(odd))
    text = mira.slurm(config, overrides=["seed=3"])
    subprocess.run(["bash", "-n"], input=text, text=True, check=True)
    said = subprocess.run(["bash", "-s", "help"], input=text, text=True, cwd=tmp_path, capture_output=True, check=False)
    assert said.returncode == 2
    assert "usage" in said.stderr
    assert not (tmp_path / "broken").exists()


def test_kubernetes_jobs(world: TinyWorld, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TEACHER_KEY", KEY)
    monkeypatch.setenv("MIRA_CACHE", str(tmp_path / "cache"))
    world.settings["run"] = "memory://cluster/run"
    config = written(world, teacher={"endpoint": ENDPOINT}, select={"method": "mira"})
    text = mira.k8s(config, image="registry/mira:1", workers=32, overrides=["select.budget=30%"])
    assert KEY not in text
    jobs = {job["metadata"]["name"]: job for job in yaml.safe_load_all(text)}
    assert list(jobs) == [
        "mira-index", "mira-gather-1", "mira-score", "mira-flag", "mira-gather-2", "mira-values", "mira-write",
        "mira-gather-3",
    ]  # fmt: skip
    for name, job in jobs.items():
        assert (job["apiVersion"], job["kind"]) == ("batch/v1", "Job")
        pod = job["spec"]["template"]["spec"]
        assert pod["restartPolicy"] == "Never"
        (container,) = pod["containers"]
        env = {one["name"]: one for one in container["env"]}
        assert env["TEACHER_KEY"]["valueFrom"]["secretKeyRef"]["name"] == "mira-secrets"
        assert env["MIRA_CACHE"]["value"].startswith(container["volumeMounts"][1]["mountPath"])
        assert container["image"] == "registry/mira:1"
        assert container["command"][-2:] == ["--set", "select.budget=30%"]
        if "gather" in name:
            assert "MIRA_WORKERS" not in env
            continue
        assert job["spec"]["completionMode"] == "Indexed"
        assert job["spec"]["completions"] == job["spec"]["parallelism"] == int(env["MIRA_WORKERS"]["value"]) == 32
        assert job["spec"]["backoffLimitPerIndex"] == 6
        assert container["command"][:5] == ["mira", "work", "/config/mira.yaml", "--stage", name.removeprefix("mira-")]
    waves_of = [job["metadata"]["labels"]["mira-wave"] for job in jobs.values()]
    assert waves_of == ["1-1", "1-gather", "2-1", "2-1", "2-gather", "3-1", "3-2", "3-gather"]
    for wave in dict.fromkeys(waves_of):
        assert f"kubectl apply -f FILE -l mira-wave={wave}\n" in text


def test_pods_need_a_run_at_a_url(world: TinyWorld) -> None:
    with pytest.raises(ConfigError, match="pods share no folder"):
        mira.k8s(config_of(world))
