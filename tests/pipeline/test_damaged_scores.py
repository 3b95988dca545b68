"""Damage to scores and predictions of a whole run: repaired by the next `mira run`, refused by a stage run alone."""

from collections.abc import Callable
from pathlib import Path

import pytest

from mira.errors import RunError
from mira.run_folder.files import hash_path
from support.tiny_world import GROUP, SOURCES, TinyWorld

SCORES = [f"scores/{source}/{source}.parquet" for source in SOURCES]
PREDICTIONS = [f"students/{GROUP}/{name}.parquet" for name in ("held_out", "out_of_fold")]
OUTPUTS = ("scores", "students", "reliability.parquet", "thresholds.json", "selection", "selected")


def _flip(path: Path, _: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 3] ^= 1
    path.write_bytes(data)


def _swap(path: Path, other: Path) -> None:
    mine, others = path.read_bytes(), other.read_bytes()
    assert mine != others
    path.write_bytes(others)
    other.write_bytes(mine)


DAMAGE: dict[str, Callable[[Path, Path], object]] = {
    "cut": lambda path, _: path.write_bytes(path.read_bytes()[:-9]),
    "emptied": lambda path, _: path.write_bytes(b""),
    "removed": lambda path, _: path.unlink(),
    "flipped": _flip,
    "swapped": _swap,
}
KINDS = {"score": SCORES, "distill": PREDICTIONS}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> TinyWorld:
    world = TinyWorld(tmp_path_factory.mktemp("finished"))
    world.use_recorded_labels()
    world.mira("run")
    return world


def _hashes(world: TinyWorld) -> dict[str, str]:
    return {name: hash_path(world.run / name) for name in OUTPUTS}


@pytest.mark.parametrize("how", DAMAGE)
@pytest.mark.parametrize("stage", KINDS)
def test_the_next_run_repairs_scores_and_predictions(finished: TinyWorld, tmp_path: Path, stage: str, how: str) -> None:
    world, name = finished.copy_to(tmp_path / "copy"), KINDS[stage][0]
    whole = _hashes(world)
    DAMAGE[how](*(world.run / name for name in KINDS[stage]))
    said = world.mira("run")
    assert f"{stage:<12} running (its output was changed or removed: {name}" in said
    assert said.count(" running") == 1, "what was repaired is as it was, so nothing after it runs again"
    assert _hashes(world) == whole
    assert " running" not in world.mira("run")


@pytest.mark.parametrize("how", DAMAGE)
def test_a_selection_alone_reads_no_damaged_scores(finished: TinyWorld, tmp_path: Path, how: str) -> None:
    world = finished.copy_to(tmp_path / "copy")
    DAMAGE[how](*(world.run / name for name in SCORES))
    kept = hash_path(world.run / "selected")
    world.set(select={"budget": "30%"})
    with pytest.raises(RunError, match=rf"output in .* was changed or removed: {SCORES[0]}\n.*mira score CONFIG"):
        world.mira("select")
    assert hash_path(world.run / "selected") == kept
    world.mira("score")
    world.mira("select")
    assert hash_path(world.run / "selected") != kept


@pytest.mark.parametrize("how", ["cut", "flipped"])
@pytest.mark.parametrize("stage", KINDS)
def test_nothing_is_told_from_damaged_files(finished: TinyWorld, tmp_path: Path, stage: str, how: str) -> None:
    world, name = finished.copy_to(tmp_path / "copy"), KINDS[stage][0]
    DAMAGE[how](*(world.run / name for name in KINDS[stage]))
    before = {path: hash_path(path) for path in world.run.iterdir() if not path.name.startswith(".")}
    for verb in ("report", "compare", "evaluate"):
        with pytest.raises(RunError, match=rf"was changed or removed: {name}\n.*mira run CONFIG"):
            world.mira(verb)
    assert {path: hash_path(path) for path in before} == before


def test_a_selection_stands_though_its_report_cannot_be_written(finished: TinyWorld, tmp_path: Path) -> None:
    world = finished.copy_to(tmp_path / "copy")
    page = (world.run / "report.html").read_bytes()
    (world.run / PREDICTIONS[0]).write_bytes(b"")
    world.set(select={"budget": "30%"})
    said = world.mira("select")
    assert f"the report is left as it is: stage 'distill': its output in {world.run}" in said
    assert PREDICTIONS[0] in said and "select       done" in said
    assert (world.run / "report.html").read_bytes() == page
    world.mira("run")
    assert (world.run / "report.html").read_bytes() != page
