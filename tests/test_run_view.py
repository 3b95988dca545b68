"""A run looked at from Python: its tables, SQL over them, one record explained, and the errors."""

import shutil
from pathlib import Path

import duckdb
import pyarrow as pa
import pytest

import mira
from docs.conftest import SLOTS, SOURCES, finished_run  # noqa: F401  (a fixture)
from mira.errors import ConfigError, InputError, RunError


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
