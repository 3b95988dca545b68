"""`mira review` over a whole run: stages and people's judgements leave each other alone."""

import re
from dataclasses import replace
from io import StringIO
from pathlib import Path

import orjson
import pytest
from rich.console import Console

import mira
from mira.cli.reviewed import print_review
from mira.config.loading import load_config
from mira.errors import RunError
from mira.pipeline.validate import validate
from mira.reviewing.results import BudgetFigures, Estimate
from mira.run_folder.files import hash_path, read_json
from support.tiny_world import TinyWorld


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> TinyWorld:
    world = TinyWorld(tmp_path_factory.mktemp("review"))
    world.use_recorded_labels()
    world.set(review={"sample": 40}, select={"budget": "50%", "method": "random"})
    world.mira("run")
    for stage in ("group", "discover", "label"):  # a teacher's labels, and no student that would cost time
        world.mira(stage)
    return world


def judged(world: TinyWorld, folder: Path, n: int = 30, reviewer: str = "ann") -> str:
    """Export forms, fill in the first `n` and import them; return what the command printed."""
    form = folder / f"{reviewer}.jsonl"
    world.mira("review", "--export", form)
    rows = [orjson.loads(line) for line in form.read_bytes().splitlines()]
    for at, row in enumerate(rows[:n]):
        row["verdict"] = "drop" if at % 3 == 0 else "keep"
    form.write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows))
    return world.mira("review", "--import", form, "--reviewer", reviewer)


def test_forms_go_out_come_in_and_are_reported(world: TinyWorld, tmp_path: Path) -> None:
    said = judged(world, tmp_path)
    assert "40 rows: 30 new, 0 changed, 0 unchanged, 0 repeated, 10 blank" in said
    assert "30 of 40 records judged, 0 by several reviewers" in said
    assert "weighted back to the corpus" in said
    found = read_json(world.run / "review.json")
    assert found["judged"] == 30
    assert found["reviewers"]["ann"] == {"keep": 20, "drop": 10, "skipped": 0, "with_slots": 0}
    page = (world.run / "report.html").read_text()
    assert 'id="review"' in page
    shown = re.findall(r'data-precision="([^"]+)"', page)
    assert float(shown[-1]) == pytest.approx(found["all"]["precision"]["value"])
    assert mira.review(world.folder / "mira.yaml").judged == 30


def test_a_wanted_precision_is_answered(world: TinyWorld, tmp_path: Path) -> None:
    judged(world, tmp_path, 40)
    assert "No budget for a precision of 99%" in world.mira("review", "--precision", "99%")
    found = mira.review(load_config(world.folder / "mira.yaml"))
    reached = BudgetFigures(0.9, 0.3729, 1234, Estimate(0.95, 0.9, 0.98, 50), {"global": 6.25}, 50)
    console = Console(file=StringIO(), width=200)
    print_review(replace(found, budget=reached), console)
    said = " ".join(console.file.getvalue().split())  # type: ignore[attr-defined]
    assert "Precision is at least 90% up to a budget of 37.2% (1,234 tokens): 95% [90%, 98%] of 50 judged" in said
    assert "Thresholds: global 6.25. To select so: --set select.budget=37.2%" in said


def test_stages_leave_judgements_alone(world: TinyWorld, tmp_path: Path) -> None:
    judged(world, tmp_path)
    human = world.run / "labels" / "human"
    before = hash_path(human)
    config = load_config(world.folder / "mira.yaml")
    assert "up to date" in world.mira("label")
    assert any("as they were written" in line for line in validate(config, deep=True) if line.startswith("label"))
    assert all(stage.state == "up to date" for stage in mira.plan(config) if stage.name == "label")
    for verb, *options in (("label", "--force"), ("select", "--force"), ("run",)):
        world.mira(verb, *options)
    assert hash_path(human) == before
    labels = mira.open(config.run).labels
    assert set(labels["group"].to_pylist()) == {path.stem for path in (world.run / "labels").glob("*.parquet")}


def test_a_new_selection_makes_the_figures_stale_and_keeps_the_judgements(world: TinyWorld, tmp_path: Path) -> None:
    judged(world, tmp_path)
    said = world.mira("select", "--force")
    assert "removed review.json" in said
    assert not (world.run / "review.json").exists()
    assert 'id="review"' not in (world.run / "report.html").read_text()
    assert " of 40 records judged" in world.mira("review", "--report")


def test_without_a_teacher_labels_of_people_are_no_output_of_a_stage(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text("".join(f'{{"id":"r{i}","text":"record {i} of many"}}\n' for i in range(60)))
    (tmp_path / "mira.yaml").write_text(
        "sources: [{name: a, path: a.jsonl}]\nselect: {method: random, scope: source}\nreview: {sample: 10}\n"
    )
    mira.run(tmp_path / "mira.yaml")
    form = tmp_path / "form.jsonl"
    mira.review(tmp_path / "mira.yaml", export=form)
    rows = [orjson.loads(line) | {"verdict": "keep"} for line in form.read_bytes().splitlines()]
    form.write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows))
    found = mira.review(tmp_path / "mira.yaml", imports=form, reviewer="ann")
    assert found.all is not None and found.all.precision.value == 1.0
    assert found.budget is not None and found.budget.share is None
    mira.run(tmp_path / "mira.yaml", "select", force=True)
    assert mira.review(tmp_path / "mira.yaml").judged == 10


def test_mistakes_are_answered(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"id":"r","text":"record"}\n')
    (tmp_path / "mira.yaml").write_text("sources: [{name: a, path: a.jsonl}]\n")
    with pytest.raises(RunError, match="there is no run yet"):
        mira.review(tmp_path / "mira.yaml")
