"""Databases over a run's index: one per run and process, and nothing of one use is seen by the next."""

from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mira.corpus.database import connect
from mira.run_folder.paths import RunFolder

SPILLS = (
    "CREATE TEMP TABLE large AS SELECT md5(range::VARCHAR) AS a, md5((range + 1)::VARCHAR) AS b FROM range(1000000)"
)


def setting(con: duckdb.DuckDBPyConnection, name: str) -> str:
    (row,) = con.execute(f"SELECT current_setting('{name}')::VARCHAR").fetchall()
    return str(row[0])


def test_temporary_tables_end_with_their_use(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    with connect(run) as con, connect(run) as other:
        con.execute("CREATE TEMP TABLE places AS SELECT 1 AS x")
        other.execute("CREATE TEMP TABLE places AS SELECT 2 AS x")
        assert con.execute("SELECT x FROM places").fetchall() == [(1,)]
    with connect(run) as con, pytest.raises(duckdb.CatalogException):
        con.execute("SELECT x FROM places")


def test_a_file_that_is_replaced_is_read_anew(tmp_path: Path) -> None:
    path, run = tmp_path / "a.parquet", RunFolder(tmp_path / "run")
    for value in range(5):
        pq.write_table(pa.table({"x": [value]}), path)
        with connect(run) as con:
            assert con.execute(f"SELECT x FROM read_parquet('{path}')").fetchall() == [(value,)]


def test_settings_of_one_caller_are_not_those_of_the_next(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    with connect(run, alone=True) as con:
        con.execute("SET preserve_insertion_order = true")
    with connect(run) as con:
        assert setting(con, "preserve_insertion_order") == "false"


def test_every_run_spills_into_its_own_folder_and_nothing_is_left(tmp_path: Path) -> None:
    for name in ("a", "b"):
        spill = tmp_path / name / "index" / ".spill"
        with connect(RunFolder(tmp_path / name)) as con:
            assert setting(con, "temp_directory") == str(spill)
            con.execute("SET memory_limit = '32MB'")
            con.execute(SPILLS)
            assert any(spill.iterdir())
        assert not spill.exists()
