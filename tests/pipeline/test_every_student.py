"""Whole runs, report included: every kind of student, with labels and without, under every selection method."""

import pytest

from mira.errors import ConfigError
from mira.run_folder.files import read_json
from support.encoder_case import RUBRIC
from support.served_case import Server
from support.tiny_world import GROUP, RECORDS, SOURCES, TinyWorld

METHODS = {
    "mira": {"method": "mira"},
    "raw": {"method": "raw"},
    "random": {"method": "random"},
    "ppl": {"method": "ppl"},
    "dsir": {"method": "dsir", "dsir": {"target": {"name": "target", "path": "source_A.jsonl"}, "min_words": 5}},
}
CASES = [("encoder", True)]
CASES += [(student, labels) for student in ("endpoint", "encoder_bundle", "sft_bundle") for labels in (True, False)]


def _use(world: TinyWorld, student: str, server: Server) -> None:
    endpoint = {"base_url": server.url, "model": "m"}
    if student == "endpoint":
        world.set(distill={"student": "endpoint", "endpoint": endpoint})
    elif student == "encoder_bundle":
        world.set(distill={"student": "bundle", "bundles": {GROUP: str(world.encoder_bundle())}})
        world.set(discover={"rubrics": {GROUP: str(world.encoder_bundle() / "rubric.jsonl")}})
    elif student == "sft_bundle":
        bundles = {GROUP: str(world.sft_bundle())}
        world.set(distill={"student": "bundle", "bundles": bundles, "endpoint": endpoint})
        world.set(discover={"rubrics": {GROUP: str(world.sft_bundle() / "rubric.jsonl")}})


def _label_or_mask(world: TinyWorld, server: Server, *, labels: bool) -> None:
    if labels:
        world.use_recorded_labels()
        return
    with pytest.raises(ConfigError, match=r"no reliability\.mask is set"):
        world.mira("run")
    assert not server.requests and not world.run.exists()
    (world.folder / "mask.jsonl").write_text("")
    world.set(reliability={"mask": "mask.jsonl"})


def _run_whole(world: TinyWorld, method: str) -> None:
    """Run everything, report included, and again: then nothing is left to do."""
    world.settings["select"] = METHODS[method] | {"scope": "group"}
    world.mira("run")
    again = world.mira("run")
    assert " running" not in again and "report       up to date" in again
    page = (world.run / "report.html").read_text()
    assert all(source in page for source in SOURCES)
    assert len(list((world.run / "selected").rglob("*.jsonl"))) == len(SOURCES)


@pytest.mark.parametrize(("student", "labels"), CASES)
def test_a_whole_run_with_every_student(world: TinyWorld, server: Server, student: str, labels: bool) -> None:
    _use(world, student, server)
    _label_or_mask(world, server, labels=labels)
    _run_whole(world, "mira")
    manifest = read_json(world.run / "manifest.json")["stages"]
    assert sum(manifest["score"]["summary"]["rows"].values()) == len(RECORDS)
    cells = manifest["reliability"]["summary"]["cells"]
    assert cells["total"] == len(SOURCES) * len(RUBRIC.anchors)
    assert labels or cells["masked"] == 0, "an empty mask masks nothing"


@pytest.mark.parametrize(("student", "labels"), [("encoder", True), ("endpoint", False)])
@pytest.mark.parametrize("method", [name for name in METHODS if name != "mira"])
def test_a_whole_run_with_every_method(
    world: TinyWorld, server: Server, method: str, student: str, labels: bool
) -> None:
    _use(world, student, server)
    if labels:
        world.use_recorded_labels()
    _run_whole(world, method)
