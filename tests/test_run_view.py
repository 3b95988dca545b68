"""A run looked at from Python: its tables, SQL over them, one record explained, and the errors."""

import json
import shutil
from pathlib import Path

import duckdb
import pyarrow as pa
import pytest

import mira
from docs.conftest import SLOTS, SOURCES, finished_run  # noqa: F401  (a fixture)
from mira.errors import ConfigError, InputError, RunError
from mira.run_folder.lock import lock_file, unlock_file


@pytest.fixture(scope="module")
def project(finished_run: Path) -> Path:  # noqa: F811
    return finished_run


def test_tables(project: Path) -> None:
    run = mira.open(project / "mira.yaml")
    assert set(run.tables) >= {"index", "labels", "scores", "cells", "selection"}
    assert run.index.num_rows == run.selection.num_rows == run.scores.num_rows == 40 * len(SOURCES)
    assert run.labels.num_rows == 50 * len(SOURCES)
    assert run.labels["group"].unique().to_pylist() == ["text_group_A"]
    assert {"A1", "A2", "A3"} <= set(run.scores.column_names)
    assert run.cells.num_rows == len(SOURCES) * len(SLOTS)
    (source,) = run.table("scores", "deepwiki")["source"].unique().to_pylist()
    assert source == "deepwiki"


def test_kept_is_what_the_thresholds_say(project: Path) -> None:
    run = mira.open(project / "run")
    kept = run.kept
    assert 0 < kept.num_rows < run.selection.num_rows
    assert all(kept["kept"].to_pylist())
    lines = sum(len(path.read_bytes().splitlines()) for path in (project / "run/selected").rglob("*.jsonl"))
    assert lines == kept.num_rows
    assert run.thresholds


def test_sql(project: Path) -> None:
    run = mira.open(project / "run")
    counts = run.sql("SELECT source, count(*) AS n FROM selection GROUP BY source ORDER BY source")
    assert counts.to_pylist() == [{"source": s, "n": 40} for s in sorted(SOURCES)]
    (row,) = run.sql("SELECT id FROM index WHERE id = $id", {"id": "deepwiki-3"}).to_pylist()
    assert row == {"id": "deepwiki-3"}
    assert isinstance(run.sql("SET threads = 1"), pa.Table)
    with pytest.raises(duckdb.Error, match="nonsense"):
        run.sql("SELECT * FROM nonsense")


def test_tables_follow_a_run_that_goes_on(project: Path, tmp_path: Path) -> None:
    shutil.copytree(project / "run", tmp_path / "run")
    run = mira.open(tmp_path / "run")
    assert run.table("selection").num_rows == 80
    shutil.rmtree(tmp_path / "run/selection")
    assert "selection" not in run.tables
    with pytest.raises(InputError, match="table 'selection' does not exist yet"):
        run.table("selection")


def test_groups_rubric_and_explain(project: Path) -> None:
    run = mira.open(project / "mira.yaml")
    (group,) = run.groups
    assert set(group.sources) == set(SOURCES)
    assert [anchor.name for anchor in run.rubric(group.name).anchors] == list(SLOTS)
    why = run.explain("deepwiki-3", "deepwiki")
    assert why.id == "deepwiki-3"
    with pytest.raises(InputError, match="nobody"):
        run.explain("nobody")


def test_settings_are_those_of_the_file_beside_the_folder(project: Path, tmp_path: Path) -> None:
    assert mira.open(project / "run").config.run == project / "run"
    shutil.copytree(project / "run", tmp_path / "elsewhere")
    with pytest.raises(ConfigError, match="settings of this run are not known"):
        _ = mira.open(tmp_path / "elsewhere").config


def test_a_moved_run_is_explained_with_its_settings(project: Path, tmp_path: Path) -> None:
    shutil.copytree(project / "run", tmp_path / "elsewhere")
    run = mira.open(tmp_path / "elsewhere", settings=project / "mira.yaml")
    assert run.config.run == tmp_path / "elsewhere"
    assert run.explain("deepwiki-3").where == f"{project / 'deepwiki.jsonl'}:4"
    with pytest.raises(ConfigError, match=r"(?s)settings of this run are not known.*settings='mira.yaml'"):
        mira.open(tmp_path / "elsewhere").explain("deepwiki-3")


def test_a_project_folder_leads_to_its_run(project: Path) -> None:
    assert mira.open(project).folder.path == project / "run"


def test_relations_read_when_they_are_asked(project: Path) -> None:
    run = mira.open(project / "run")
    scores = run.relation("scores")
    other = run.relation("scores", "pr_issue")
    assert scores.filter("A1 > 5").limit(3).to_arrow_table().num_rows == 3
    assert other.aggregate("count(*)").fetchall() == [(40,)]
    assert scores.aggregate("count(*)").fetchall() == [(80,)], "one relation does not change another"
    batches = run.relation("selection").to_arrow_reader(16)
    assert sum(batch.num_rows for batch in batches) == 80
    strange = run.relation("scores", "it's; DROP")
    assert strange.to_arrow_table().num_rows == 0


def test_lines_and_texts(project: Path) -> None:
    run = mira.open(project)
    told = run.explain_line("pr_issue.jsonl:2")
    assert isinstance(told, mira.Explanation)
    assert told.id == "pr_issue-1"
    found = run.find("DEEPWIKI 7 ", limit=5)
    assert [(m.id, m.where) for m in found.matches] == [("deepwiki-7", f"{project / 'deepwiki.jsonl'}:8")]
    assert mira.explain(project / "mira.yaml", text="deepwiki 7 ").matches == found.matches
    assert mira.explain(project / "mira.yaml", "deepwiki-7").kept == run.explain("deepwiki-7").kept


def test_an_unfinished_run_says_so(project: Path, tmp_path: Path) -> None:
    shutil.copytree(project / "run", tmp_path / "run")
    assert mira.open(tmp_path / "run").unfinished == ()
    manifest = json.loads((tmp_path / "run/manifest.json").read_text())
    del manifest["stages"]["select"]  # as while select runs, or after it was killed
    (tmp_path / "run/manifest.json").write_text(json.dumps(manifest))
    run = mira.open(tmp_path / "run")
    assert run.unfinished == ("selection",)
    assert "unfinished=['selection']" in repr(run)
    assert "Unfinished tables: selection" in run._repr_html_()


def test_a_run_in_use_is_read_but_not_explained(project: Path, tmp_path: Path) -> None:
    shutil.copytree(project, tmp_path / "project")
    run = mira.open(tmp_path / "project")
    lock = lock_file(run.folder.lock)
    try:
        assert run.kept.num_rows
        assert "In use by process" in run._repr_html_()
        for ask in (lambda: run.explain("deepwiki-3"), lambda: run.find("deepwiki"), lambda: run.explain_line(1)):
            with pytest.raises(RunError, match=r"another mira \(process \d+ on .*\) is working"):
                ask()
    finally:
        unlock_file(lock)
    assert run.explain("deepwiki-3").id == "deepwiki-3"
    assert "In use" not in run._repr_html_()


def test_a_run_of_another_format_is_refused(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text('{"mira": "9.9.9", "format": 99, "stages": {}}')
    with pytest.raises(RunError, match=r"(?s)made by mira 9.9.9.*mira-select==9.9.9"):
        mira.open(tmp_path)


def test_a_folder_that_is_not_a_run_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("Not a run.")
    with pytest.raises(RunError, match="this is not a run folder"):
        mira.open(tmp_path)


def test_a_run_shows_itself_briefly_and_safely(project: Path, tmp_path: Path) -> None:
    shown = mira.open(project)._repr_html_()
    assert "Finished stages: index, group" in shown
    assert "deepwiki" in shown and "tokens kept" in shown
    assert len(shown) < 5000
    thresholds = json.loads((project / "run/thresholds.json").read_text())
    shutil.copytree(project / "run", tmp_path / "<b>run")
    thresholds["sources"] = {"<script>x</script>": thresholds["sources"]["deepwiki"]}
    (tmp_path / "<b>run/thresholds.json").write_text(json.dumps(thresholds))
    shown = mira.open(tmp_path / "<b>run")._repr_html_()
    assert "<script>" not in shown and "<b>run" not in shown
    assert "&lt;script&gt;x" in shown


def test_results_show_themselves(project: Path) -> None:
    settings = project / "mira.yaml"
    plan = mira.plan(settings)
    assert plan[0].name == "index"
    assert "up to date" in plan._repr_html_()
    compared = mira.compare(settings, ["mira", "random"])
    assert list(compared.methods) == ["mira", "random"]
    assert "random" in compared._repr_html_()
    evaluated = mira.evaluate(settings)
    assert evaluated.agreement.all.n
    assert "held-out records kept" in evaluated._repr_html_()
    assert "text_group_A" in mira.students(settings)._repr_html_()
    assert "deepwiki/deepwiki-3" in mira.explain(settings, "deepwiki-3")._repr_html_()


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="does not exist"):
        mira.open(tmp_path / "run")
    (tmp_path / "run").mkdir()
    run = mira.open(tmp_path / "run")
    assert run.tables == ()
    with pytest.raises(InputError, match="table 'labels' does not exist yet"):
        _ = run.labels
    with pytest.raises(RunError, match="nothing is selected yet"):
        _ = run.thresholds


def test_a_run_that_is_up_to_date_is_opened(project: Path) -> None:
    before = (project / "run/manifest.json").read_bytes()
    run = mira.run(project / "mira.yaml", "select")
    assert run.kept.num_rows
    assert (project / "run/thresholds.json").is_file()
    assert before
    assert mira.validate(project / "mira.yaml")[-1].startswith("all in order")
