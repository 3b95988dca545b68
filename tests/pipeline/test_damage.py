"""Output that is not as its stage left it is noticed and made anew."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from mira.cli.app import app
from mira.config.loading import load_config
from mira.config.settings import Config
from mira.errors import RunError
from mira.pipeline.runner import run_stages, stage_states
from mira.pipeline.stage_counts import check_budget
from mira.run_folder.files import hash_path, read_json, write_json

SETTINGS = """\
run: run
sources:
  - {name: s, family: text, path: data}
select: {method: random, scope: source, budget: 50%}
flags: {duplicates: drop}
score: {workers: 1}
"""


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("finished")
    (folder / "data").mkdir()
    for name, start in (("a", 0), ("b", 20)):
        lines = [json.dumps({"id": f"r{i}", "text": f"record {i} " * 9}) for i in range(start, start + 20)]
        (folder / "data" / f"{name}.jsonl").write_text("\n".join(lines) + "\n")
    (folder / "mira.yaml").write_text(SETTINGS)
    run_stages(_config(folder))
    return folder


@pytest.fixture
def world(finished: Path, tmp_path: Path) -> Path:
    """A copy of the finished project, its files as old as the originals."""
    return Path(shutil.copytree(finished, tmp_path / "copy"))


def _config(folder: Path) -> Config:
    return load_config(folder / "mira.yaml")


def _stale(folder: Path) -> dict[str, tuple[str, ...]]:
    return {state.stage.name: state.reasons for state in stage_states(_config(folder)) if state.reasons}


def _flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 3] ^= 1
    path.write_bytes(data)


def _swap(path: Path) -> None:
    other, aside = path.with_name(path.name.replace("a", "b", 1)), path.with_name(".aside")
    path.rename(aside)
    other.rename(path)
    aside.rename(other)


DAMAGE: dict[str, Callable[[Path], object]] = {
    "cut": lambda path: path.write_bytes(path.read_bytes()[:-9]),
    "emptied": lambda path: path.write_bytes(b""),
    "removed": lambda path: path.unlink(),
    "flipped": _flip,
    "swapped": _swap,
}


@pytest.mark.parametrize("how", DAMAGE)
def test_damaged_output_is_seen_and_made_anew(world: Path, how: str) -> None:
    files = {"index": "index/s/a.parquet", "flag": "flags/s/a.parquet", "select": "selected/s/a.jsonl"}
    whole = {name: (world / "run" / name).read_bytes() for name in [*files.values(), "selection/s/a.parquet"]}
    for stage, name in [*files.items(), ("select", "selection/s/a.parquet")]:
        DAMAGE[how](world / "run" / name)
        assert f"its output was changed or removed: {name}" in _stale(world)[stage][0]
        run_stages(_config(world))
        assert {n: (world / "run" / n).read_bytes() for n in whole} == whole
        assert not _stale(world)


def test_a_copied_run_folder_is_up_to_date_and_its_times_are_recorded(world: Path) -> None:
    for path in (world / "run").rglob("*.*"):
        os.utime(path)
    assert not _stale(world)
    run_stages(_config(world))
    recorded = read_json(world / "run/sums/select.json")["selected/s/a.jsonl"]
    assert recorded[1] == (world / "run/selected/s/a.jsonl").stat().st_mtime_ns


def test_a_run_folder_without_sums_is_checked_against_the_manifest(world: Path) -> None:
    whole = hash_path(world / "run/selected")
    for path in (world / "run/sums").iterdir():
        path.unlink()
    assert not _stale(world)
    _flip(world / "run/selected/s/a.jsonl")
    assert "select" in _stale(world)
    run_stages(_config(world))
    assert hash_path(world / "run/selected") == whole


@pytest.mark.parametrize("name", ["selected/s/a.jsonl", "selection/s/a.parquet", "values/random/s/a.parquet"])
def test_force_writes_every_file_anew(world: Path, name: str) -> None:
    path = world / "run" / name
    whole = path.read_bytes()
    _flip(path)
    run_stages(_config(world), ["select"], force=True)
    assert path.read_bytes() == whole


@pytest.mark.parametrize(
    ("name", "stage"),
    [("index/s/a.parquet", "index"), ("selected/s/b.jsonl", "select"), ("flags/s/a.parquet", "flag"), (None, "source")],
)
def test_a_deep_check_reads_everything_again(world: Path, name: str | None, stage: str) -> None:
    path = world / "run" / name if name else world / "data/a.jsonl"
    command = ["validate", str(world / "mira.yaml"), "--deep"]
    assert CliRunner().invoke(app, command).exit_code == 0
    times = path.stat()
    _flip(path)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    outcome = CliRunner().invoke(app, command)
    assert outcome.exit_code != 0
    assert name is None or name in str(outcome.exception) + outcome.output
    assert stage in str(outcome.exception) + outcome.output


@pytest.mark.parametrize(
    ("field", "value"),
    [("stages", []), ("stages.index", 5), ("stages.index.inputs", []), ("stages.index.inputs.files", None)],
)
def test_a_manifest_of_odd_shape_is_one_line(world: Path, field: str, value: object) -> None:
    manifest = read_json(world / "run/manifest.json")
    *way, last = field.split(".")
    inside = manifest
    for step in way:
        inside = inside[step]
    inside[last] = value
    write_json(world / "run/manifest.json", manifest)
    with pytest.raises(RunError, match=f"not a manifest: .*{last}"):
        run_stages(_config(world))


@pytest.mark.parametrize("summary", [{}, {"unscored": 5, "rows": {}}, {"unscored": {"s": 3}, "rows": {"s": 3}}])
def test_a_summary_of_odd_shape_is_one_line(world: Path, summary: dict[str, object]) -> None:
    with pytest.raises(RunError, match=r"stages\.score\.summary has another form"):
        check_budget(_config(world), "score", summary)
