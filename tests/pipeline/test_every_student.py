"""Whole runs, report included: every kind of student, with labels and without, under every selection method."""

import pytest

from mira.errors import ConfigError, RunError
from mira.run_folder.files import read_json
from support.encoder_case import RUBRIC
from support.endpoint_server import DataManServer
from support.served_case import Server, sft_bundle
from support.tiny_world import GROUP, RECORDS, SOURCES, TinyWorld

METHODS = {
    "mira": {"method": "mira"},
    "raw": {"method": "raw"},
    "random": {"method": "random"},
    "ppl": {"method": "ppl"},
    "dataman": {"method": "dataman"},
    "dsir": {"method": "dsir", "dsir": {"target": {"name": "target", "path": "source_A.jsonl"}, "min_words": 5}},
}
CASES = [("encoder", True), ("sft", True)]
CASES += [(student, labels) for student in ("endpoint", "encoder_bundle", "sft_bundle") for labels in (True, False)]


def _use(world: TinyWorld, student: str, server: Server) -> None:
    endpoint = {"base_url": server.url, "model": "m"}
    if student == "endpoint":
        world.set(distill={"student": "endpoint", "endpoint": endpoint})
    elif student == "sft":
        sft = {"where": "job", "references": False, "slot_order": "fixed", "max_length": 4000, "max_reply": 500}
        world.set(distill={"student": "sft", "sft": sft, "endpoint": endpoint})
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


def _train_elsewhere(world: TinyWorld) -> None:
    """Run as far as the job that trains the student, and put there what such a job makes."""
    with pytest.raises(RunError, match="mira adopt"):
        world.mira("run")
    sft_bundle(world.run / "students" / GROUP, RUBRIC)


def _run_whole(world: TinyWorld, method: str, **settings: object) -> None:
    """Run everything, report included, and again: then nothing is left to do."""
    world.settings["select"] = METHODS[method] | settings | {"scope": "group"}
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
    if student == "sft":
        _train_elsewhere(world)
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
    if method != "dataman":
        _run_whole(world, method)
        return
    with DataManServer(rating=lambda text: len(text) % 5 + 1) as rater:
        _run_whole(world, method, dataman={"endpoint": {"base_url": rater.url, "model": "rater"}})
        assert len(rater.bodies) == len(RECORDS)
