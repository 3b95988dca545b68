from dataclasses import replace

import numpy as np
import orjson
import pyarrow.parquet as pq
import pytest

from mira.config.settings import Config
from mira.errors import InputError, RunError
from mira.progress import Quiet
from mira.reliability.group_summary import GroupSummary
from mira.reliability.stage import RELIABILITY_SCHEMA, reliability
from mira.reliability.summary import source_notes
from mira.rubric.rubric import Anchor, Reference, Rubric
from mira.run_folder.files import write_json, write_parquet
from mira.run_folder.paths import RunFolder
from mira.run_folder.results import from_plain
from mira.selection.quality import load_mask
from support.simulate import labels, pair, predictions, shuffled

GROUP = "text_group_A"


class Notes(Quiet):
    def __init__(self):
        self.lines = []

    def note(self, text):
        self.lines.append(text)


def config(**reliability_settings):
    sources = [{"name": s, "path": "unused.jsonl"} for s in ("docs", "tests")]
    return Config.model_validate({"sources": sources, "reliability": {"bootstrap": 300, **reliability_settings}})


def write_group(run, k, name=GROUP):
    group = {"name": name, "family": "text", "group": "A", "sources": ["docs", "tests"], "cosines": []}
    write_json(run.groups, {"groups": [group], "k": {}})
    anchors = [Anchor(f"A{j + 1}", f"slot {j + 1}", 10, Reference("r", 5.0, "why")) for j in range(k)]
    Rubric(name, tuple(anchors)).save(run.rubric(name))


def simulated(seed=0):
    """Slot 1 is strong, slot 2 collapsed in `tests`, slot 3 nothing but the difference between sources."""
    rng = np.random.default_rng(seed)
    teacher, student, again = {}, {}, {}
    for source, level in (("docs", 3.0), ("tests", 7.0)):
        strong, second, third = (pair(150, rho, rng, level=level) for rho in (0.8, 0.8, 0.0))
        teacher[source] = np.stack([strong[0], second[0], third[0]], axis=1)
        student[source] = np.stack([strong[1], second[1], third[1]], axis=1)
        again[source] = teacher[source][:30] + rng.normal(0, 0.3, (30, 3))
    teacher["tests"][:, 1] = 9.5
    return teacher, student, again


@pytest.fixture
def run(tmp_path):
    run = RunFolder(tmp_path)
    teacher, student, again = simulated()
    write_group(run, 3)
    overall = {s: list(10 * m[:, 0]) for s, m in teacher.items()}
    keep = {s: ["keep" if v > 5 else "drop" for v in m[:, 0]] for s, m in teacher.items()}
    write_parquet(run.labels(GROUP), labels(teacher, again, overall=overall, recommendation=keep))
    write_parquet(run.student(GROUP) / "out_of_fold.parquet", predictions(student))
    write_parquet(run.student(GROUP) / "held_out.parquet", predictions({s: m[:30] for s, m in student.items()}))
    return run


def cells(run):
    return {(c["source"], c["slot"]): c for c in pq.read_table(run.reliability).to_pylist()}


def test_cells_are_judged_and_written(run):
    summary = reliability(config(), run, Quiet())
    table = pq.read_table(run.reliability)
    assert table.schema.equals(RELIABILITY_SCHEMA)
    found = cells(run)
    assert len(found) == table.num_rows == 6
    strong = found["docs", "A1"]
    assert (strong["group"], strong["name"], strong["n"], strong["n_held_out"]) == (GROUP, "slot 1", 150, 30)
    assert (strong["level"], strong["masked"], strong["why"]) == ("cell", False, None)
    assert strong["rho_low"] < strong["rho"] < strong["rho_high"]
    assert strong["ceiling"] > 0.95 and strong["n_pairs"] == 30
    assert strong["rho_held_out"] == pytest.approx(strong["rho"], abs=0.2)
    assert strong["skill"] == pytest.approx(1 - strong["mae"] / strong["mae_constant"])
    assert found["tests", "A2"]["why"].startswith("collapsed")
    assert found["tests", "A2"]["rho"] is None
    assert found["docs", "A3"]["why"].startswith("weak ranking")
    assert load_mask(run) == {"docs": ("A1", "A2"), "tests": ("A1",)}
    assert summary["cells"] == {"total": 6, "masked": 3, "by_reason": {"collapsed": 1, "weak ranking": 2}}
    orjson.dumps(summary)


def test_of_a_group_of_one_source_the_source_alone_is_not_told(run):
    notes = Notes()
    told = from_plain(GroupSummary, reliability(config(), run, notes)["groups"][GROUP], run.manifest)
    assert any("the source alone reaches" in line for line in source_notes(GROUP, told))
    one = replace(told, sources={"docs": told.sources["docs"]})
    lines = source_notes(GROUP, one)
    assert lines and not any("the source alone" in line or "unknown" in line for line in lines)


def test_summary_sets_the_source_alone_beside_the_student(run):
    notes = Notes()
    group = reliability(config(), run, notes)["groups"][GROUP]
    weak = group["slots"][2]
    assert abs(weak["rho_within_sources"]) < 0.2
    assert weak["rho_source_alone"] > 0.6 and weak["auc_source_alone"] > 0.8
    assert weak["rho_pooled"] > 0.6
    assert group["slots"][0]["rho_within_sources"] > 0.7
    assert group["mean_rho_of_ceiling"]["cells"] == 3
    assert group["mean_rho_of_ceiling"]["low"] < group["mean_rho_of_ceiling"]["value"] < 1
    assert group["overall"]["rho_within_sources"] > 0.4
    assert group["overall"]["auc_keep"] > 0.8
    assert group["sources"]["tests"]["masked"] == ["A2", "A3"]
    assert group["doubly_judged"] == 60
    assert any("3 of 6 cells masked (1 collapsed, 2 weak ranking)" in line for line in notes.lines)
    assert any("as well as by quality" in line for line in notes.lines)


def test_a_wholly_masked_source_is_told(run):
    notes = Notes()
    reliability(config(min_rho=0.95), run, notes)
    assert f"{GROUP}: every slot of docs is masked" in notes.lines


def test_same_bytes_whatever_the_order_of_rows(run):
    summary = reliability(config(), run, Quiet())
    before = run.reliability.read_bytes()
    for path in (run.labels(GROUP), *run.student(GROUP).iterdir()):
        write_parquet(path, shuffled(pq.read_table(path)))
    assert reliability(config(), run, Quiet()) == summary
    assert run.reliability.read_bytes() == before


def test_a_student_that_cannot_refit_is_judged_on_held_out_records_alone(run):
    (run.student(GROUP) / "out_of_fold.parquet").unlink()
    group = reliability(config(), run, Quiet())["groups"][GROUP]
    assert not group["cross_fitted"] and group["labels_unpredicted"] == 240
    strong = cells(run)["docs", "A1"]
    assert strong["n"] == strong["n_held_out"] == 30
    assert strong["rho"] == strong["rho_held_out"]


def test_one_source_has_no_source_only_baseline(run):
    group = {"name": GROUP, "family": "text", "group": "A", "sources": ["docs"], "cosines": []}
    write_json(run.groups, {"groups": [group], "k": {}})
    for path in (run.labels(GROUP), *run.student(GROUP).iterdir()):
        table = pq.read_table(path)
        write_parquet(path, table.filter(np.array(table["source"].to_pylist()) == "docs"))
    found = reliability(config(), run, Quiet())["groups"][GROUP]
    assert found["mean"]["rho_source_alone"] is None
    assert found["mean"]["rho_within_sources"] == pytest.approx(found["mean"]["rho_pooled"])


def test_without_labels_a_given_mask_is_used_as_it_is(run, tmp_path):
    run.labels(GROUP).unlink()
    with pytest.raises(RunError, match=r"reliability\.mask"):
        reliability(config(), run, Quiet())
    mask = tmp_path / "mask.jsonl"
    mask.write_text('{"source": "docs", "slot": "A2", "why": "collapsed"}\n\n{"source": "elsewhere", "slot": "A1"}\n')
    summary = reliability(config(mask=str(mask)), run, Quiet())
    assert summary["cells"] == {"total": 6, "masked": 1, "by_reason": {"given": 1}}
    assert cells(run)["docs", "A2"]["why"] == "given: collapsed"
    assert load_mask(run) == {"docs": ("A1", "A3"), "tests": ("A1", "A2", "A3")}


@pytest.mark.parametrize(
    ("line", "message"),
    [("[1]", ":1: not a masked cell"), ("{", ":1: not"), ('{"source": "docs", "slot": "A9"}', "unknown slot 'A9'")],
)
def test_a_wrong_mask_is_refused_with_its_line(run, tmp_path, line, message):
    run.labels(GROUP).unlink()
    (tmp_path / "mask.jsonl").write_text(line + "\n")
    with pytest.raises(InputError, match=message):
        reliability(config(mask=str(tmp_path / "mask.jsonl")), run, Quiet())
    with pytest.raises(InputError, match="cannot read"):
        reliability(config(mask=str(tmp_path / "none.jsonl")), run, Quiet())
