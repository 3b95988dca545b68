"""A student that would come out the same is kept; a damaged one is trained again, to the same bytes."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from mira.distillation.bundle import seal
from mira.run_folder.files import hash_path, read_json
from support.tiny_world import GROUP, TinyWorld

KEPT = f"{GROUP}: the student is kept"
STAGES = ("index", "group", "discover", "label", "distill")


def _again(world: TinyWorld) -> str:
    """Run everything as if nothing had run, but with what the run folder holds."""
    (world.run / "manifest.json").unlink()
    return "".join(world.mira(stage) for stage in STAGES)


@pytest.fixture
def world(tmp_path: Path) -> TinyWorld:
    world = TinyWorld(tmp_path)
    world.use_recorded_labels()
    for stage in STAGES:
        world.mira(stage)
    return world


def _summary(world: TinyWorld) -> object:
    return read_json(world.run / "manifest.json")["stages"]["distill"]["summary"]


def _flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def _state(folder: Path) -> Path:
    return folder.with_name(f".{GROUP}.json")


DAMAGE: dict[str, Callable[[Path], object]] = {
    "weights": lambda folder: _flip(next(folder.glob("*.safetensors"))),
    "weights, sealed again": lambda folder: (_flip(next(folder.glob("*.safetensors"))), seal(folder)),
    "a file too many": lambda folder: (folder / "more.json").write_text("{}"),
    "a file is gone": lambda folder: (folder / "held_out.parquet").unlink(),
    "note is gone": lambda folder: _state(folder).unlink(),
    "note is cut": lambda folder: _state(folder).write_bytes(_state(folder).read_bytes()[:-20]),
    "summary in the note": lambda folder: _state(folder).write_text(
        _state(folder).read_text().replace('"labels": 60', '"labels": 61')
    ),
}


def test_damage_is_repaired_and_never_believed(world: TinyWorld) -> None:
    folder = world.run / "students" / GROUP
    vectors = world.run / ".cache" / "embeddings" / GROUP
    whole, summary, kept = hash_path(folder), _summary(world), vectors.read_bytes()
    assert '"labels": 60' in _state(folder).read_text()
    assert KEPT in _again(world)
    assert (hash_path(folder), _summary(world)) == (whole, summary)
    for name, damage in DAMAGE.items():
        damage(folder)
        _flip(vectors)
        assert KEPT not in _again(world), name
        assert (hash_path(folder), _summary(world)) == (whole, summary), name
        assert sorted(vectors.read_bytes()) == sorted(kept), name


def test_other_text_of_the_same_ids_trains_again(world: TinyWorld) -> None:
    whole = hash_path(world.run / "students" / GROUP)
    path = world.folder / "source_A.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    path.write_text("\n".join(json.dumps({**line, "text": line["text"][::-1]}) for line in lines) + "\n")
    assert KEPT not in _again(world)
    assert hash_path(world.run / "students" / GROUP) != whole
    world.set(distill={"folds": 3})
    assert KEPT not in _again(world)


def test_what_no_group_needs_is_removed(world: TinyWorld) -> None:
    (world.run / ".cache" / "embeddings" / "text_group_gone").write_bytes(b"x")
    (world.run / "students" / ".text_group_gone.json").write_text("{}")
    _again(world)
    assert [p.name for p in (world.run / ".cache" / "embeddings").iterdir()] == [GROUP]
    assert [p.name for p in (world.run / "students").glob(".*.json")] == [f".{GROUP}.json"]
