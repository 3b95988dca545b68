"""`mira students` on the demo's real teacher replies; the text of a record is what the teacher wrote about it."""

import io
import re
import shutil
from importlib import resources
from pathlib import Path

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from rich.console import Console

from mira.cli.tables import print_students
from mira.config.loading import load_config
from mira.config.settings import Config
from mira.corpus import build_index
from mira.distillation.stage import distill
from mira.errors import InputError, RunError
from mira.labelling.stage import label
from mira.progress import Quiet
from mira.reliability.stage import reliability
from mira.reliability.students.report import compare_group_students
from mira.reliability.students.results import StudentsResult
from mira.rubric.rubric import Rubric
from mira.run_folder.files import write_json, write_parquet
from mira.run_folder.paths import RunFolder
from mira.run_folder.results import read_result, write_result

GROUP, SOURCES = "text_group_A", ("project_docs", "release_notes")
DATA = Path(str(resources.files("mira.demo_project") / "data"))
EXTRA = 30
"""Records a source without a label."""


def replies():
    found = [orjson.loads(line) for line in (DATA / "teacher_replies.jsonl").read_bytes().splitlines()]
    ids = sorted({(r["source"], r["id"]) for r in found if r["group"] == "A"})
    again = {(r["source"], r["id"]) for r in found if r["replicate"]}
    chosen = {key for i, key in enumerate(ids) if i % 2 or key in again}
    return [r for r in found if (r["source"], r["id"]) in chosen]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run with labels and encoder: half of the labelled records of the demo's group A."""
    folder = tmp_path_factory.mktemp("trained")
    found = replies()
    lines = {source: [] for source in SOURCES}
    for reply in found:
        if not reply["replicate"]:
            text = "\n".join(re.findall(r"/10 — (.*)", reply["reply"]))
            lines[reply["source"]].append({"id": reply["id"], "text": text})
    for source, records in lines.items():
        records += [{"id": f"extra{i}", "text": f"unlabelled record {i}"} for i in range(EXTRA)]
        (folder / f"{source}.jsonl").write_bytes(b"".join(orjson.dumps(r) + b"\n" for r in records))
    (folder / "replies.jsonl").write_bytes(b"".join(orjson.dumps(r) + b"\n" for r in found))
    config = settings(folder)
    run = RunFolder(config.run)
    group = {"name": GROUP, "family": "text", "group": "A", "sources": list(SOURCES), "cosines": []}
    write_json(run.groups, {"groups": [group], "k": {}})
    Rubric.load(DATA / f"{GROUP}_dim_anchors.jsonl", GROUP).save(run.rubric(GROUP))
    build_index(config, run, Quiet())
    label(config, run, Quiet())
    distill(config, run, Quiet())
    return folder


def settings(folder, min_n=30, **distill_settings):
    return Config.model_validate(
        {
            "run": folder / "run",
            "sources": [{"name": s, "path": str(folder / f"{s}.jsonl")} for s in SOURCES],
            "teacher": {"replies": str(folder / "replies.jsonl")},
            "embedding": {"windows": 1, "window_tokens": 32},
            "distill": {"folds": 3, **distill_settings},
            "reliability": {"bootstrap": 200, "min_n": min_n},
        }
    )


@pytest.fixture
def done(trained, tmp_path):
    folder = Path(shutil.copytree(trained, tmp_path / "project"))
    return settings(folder), RunFolder(folder / "run")


class Said(Quiet):
    """Keeps what is said."""

    def __init__(self):
        self.lines = []

    def note(self, text):
        self.lines.append(text)


def served(run, folder, error, seed=0):
    """A dear student: the teacher's held-out scores with some error."""
    labels = pq.read_table(run.labels(GROUP)).filter((pc.field("split") == "held_out") & (pc.field("replicate") == 0))
    rng = np.random.default_rng(seed)
    columns = {"id": labels["id"], "source": labels["source"]}
    for j in range(15):
        scores = labels[f"A{j + 1}"].to_numpy()
        columns[f"A{j + 1}"] = pa.array(scores + rng.normal(0, error, len(scores)), pa.float32())
    write_parquet(folder / "held_out.parquet", pa.table(columns))
    rubric = Rubric.load(run.rubric(GROUP), GROUP)
    rubric.save(folder / "rubric.jsonl")
    write_json(folder / "bundle.json", {"kind": "endpoint", "rubric": rubric.hash, "endpoint": "0"})


def test_the_encoder_beside_naive_means_the_curve_and_what_to_label(done, tmp_path):
    config, run = done
    log = Said()
    result = compare_group_students(config, run, log)
    again = read_result(StudentsResult, run.students_report)
    assert again.groups[GROUP].held_out == result.groups[GROUP].held_out
    write_result(tmp_path / "again.json", again)
    assert (tmp_path / "again.json").read_bytes() == run.students_report.read_bytes()
    found = result.groups[GROUP]
    out = io.StringIO()
    print_students(result, Console(file=out, width=400))
    for note in found.notes:
        assert "\n".join([out.getvalue(), *log.lines]).count(note) == 1, "every finding is told once"
    labels = pq.read_table(run.labels(GROUP))
    held_out = labels.filter(pc.equal(labels["split"], "held_out"))
    assert found.labels.records == len(set(labels["id"].to_pylist()))
    assert found.labels.held_out == len(set(held_out["id"].to_pylist()))
    assert found.labels.doubly_judged == pc.sum(pc.equal(labels["replicate"], 1)).as_py() > 0
    assert list(found.students) == ["encoder"] and found.students["encoder"].cross_fitted
    for key, records in (("held_out", "held_out"), ("cross_fitted", "records")):
        for which in ("unmasked", "all"):
            table = getattr(getattr(found, key), which)
            assert table.records == getattr(found.labels, records)
            assert list(table.students) == [
                "encoder", "constant", "source mean", "length", "n-grams", "fastText-style", "Model2Vec-style",
            ]  # fmt: skip
            assert table.students["constant"].of_ceiling.value == 0
            gap = table.differences["encoder"]["constant"]
            assert gap.of_ceiling.low > 0.1 and gap.mae.high < 0
        assert getattr(found, key).unmasked.cells <= getattr(found, key).all.cells <= 30
    curve = found.curve
    train = len(set(labels["id"].to_pylist())) - found.labels.held_out
    assert curve["points"][-1]["labels"] == pytest.approx(train * 2 / 3, abs=1)
    assert [p["labels"] for p in curve["projection"]] == pytest.approx(
        [curve["points"][-1]["labels"] * f for f in (2, 4, 8)], rel=0.02
    )
    assert {p.source for p in found.label_next} == set(SOURCES)
    assert all(p.unlabelled == EXTRA for p in found.label_next)
    for records in (found.labels.held_out, found.labels.records):
        (line,) = [n for n in found.notes if f"of the teacher's ceiling on {records} " in n]
        assert line.startswith("encoder: ") and "better than" in line
    assert any("rests on" in note and "doubly judged" in note for note in found.notes)
    assert any("too few labels to read single cells" in note for note in found.notes)


def test_the_choice_is_that_of_reliability_and_the_output_is_the_same_again(done):
    config, run = done
    reliability(config, run, Quiet())
    masked = {(c["source"], c["slot"]): c["masked"] for c in pq.read_table(run.reliability).to_pylist()}
    found = compare_group_students(config, run, Quiet()).groups[GROUP]
    assert {(c.source, c.slot): c.chosen is None for c in found.cells} == masked
    told = {p.source: p for p in found.label_next}
    for source in SOURCES:
        plan = told[source]
        last = plan.more[-1].unmasks if plan.more else []
        rest = [c.slot for c in [*plan.too_few, *plan.hopeless]]
        assert sorted([*last, *rest]) == sorted(slot for (s, slot), yes in masked.items() if s == source and yes)
    first = run.students_report.read_bytes()
    compare_group_students(config, run, Quiet())
    assert run.students_report.read_bytes() == first


def test_the_held_out_table_does_not_depend_on_cross_fitted_held_out_predictions(done):
    """Cells are chosen on the training split: spoiling everything else about the held-out split changes nothing."""
    config, run = done
    before = compare_group_students(config, run, Quiet()).groups[GROUP]
    path = run.student(GROUP) / "out_of_fold.parquet"
    table = pq.read_table(path)
    spoiled = pc.if_else(pc.equal(table["split"], "held_out"), pa.scalar(1.0, pa.float32()), table["A1"])
    write_parquet(path, table.set_column(table.schema.get_field_index("A1"), "A1", spoiled))
    after = compare_group_students(config, run, Quiet()).groups[GROUP]
    assert after.held_out == before.held_out
    assert after.cross_fitted != before.cross_fitted


def test_students_beside_the_runs_own_and_from_elsewhere(done, tmp_path):
    config, run = done
    served(run, run.student(f"{GROUP}_served"), error=0.3)
    served(run, tmp_path / "elsewhere" / "noisy", error=20.0)
    # Some 15 held-out labels a source: too few for cells, enough for the group.
    config = settings(run.path.parent, min_n=20, compare=[str(tmp_path / "elsewhere")])
    found = compare_group_students(config, run, Quiet()).groups[GROUP]
    encoder, good, noisy = found.students
    assert encoder == "encoder" and good.endswith("_served") and noisy.endswith("noisy")
    assert not found.students[good].cross_fitted
    held_out = found.held_out.unmasked
    assert held_out.differences[good]["encoder"].of_ceiling.low > 0
    assert held_out.differences[noisy]["n-grams"].of_ceiling.high < 0
    assert good not in found.cross_fitted.unmasked.students
    chosen = {c.chosen for c in found.cells}
    assert noisy not in chosen and "encoder" in chosen and good in chosen
    for cell in found.cells:
        assert cell.level == "group" and cell.n < 20
        if cell.why["encoder"] is None:  # other sources' labels do not displace what the cell's own speak for
            assert cell.chosen == "encoder"
    assert any(note.startswith(f"{noisy}: ") and "not clearly better" in note for note in found.notes)


def test_mistakes_are_told(done, tmp_path):
    config, run = done
    with pytest.raises(InputError, match="is not a bundle and holds no bundle"):
        compare_group_students(settings(run.path.parent, compare=[str(tmp_path / "nothing")]), run, Quiet())
    served(run, tmp_path / "other", error=1.0)
    write_json(tmp_path / "other" / "bundle.json", {"kind": "endpoint", "rubric": "another", "endpoint": "0"})
    with pytest.raises(InputError, match="a rubric that no group of this run has"):
        compare_group_students(settings(run.path.parent, compare=[str(tmp_path / "other")]), run, Quiet())
    for name in ("out_of_fold", "held_out"):
        (run.student(GROUP) / f"{name}.parquet").unlink()
    with pytest.raises(RunError, match="no student has predictions"):
        compare_group_students(config, run, Quiet())
    run.labels(GROUP).unlink()
    with pytest.raises(RunError, match="there is no student in this run, and no labels"):
        compare_group_students(config, run, Quiet())


def test_paths_of_bundles_are_relative_to_the_settings(tmp_path):
    (tmp_path / "mira.yaml").write_text(
        "sources: [{name: a, path: a.jsonl}]\ndistill: {compare: [other/students, hf/bundle]}\n"
    )
    found = load_config(tmp_path / "mira.yaml").distill.compare
    assert found == [str(tmp_path / "other/students"), str(tmp_path / "hf/bundle")]
