import duckdb
import numpy as np
import pyarrow as pa
import pytest

from mira.errors import RunError
from mira.report.overview import Overview, ScopeRow, SourceRow, Tally
from mira.report.quality import BINS, panels
from mira.run_folder.files import write_parquet
from mira.run_folder.paths import RunFolder

NOTHING = Tally(0, 0, 0, 0, 0, 0, 0)


def view(thresholds, scopes, temperature=0.0):
    sources = tuple(SourceRow(s, "", "", t, NOTHING, ()) for s, t in thresholds.items())
    rows = tuple(ScopeRow(key, cut, not temperature, 0, 0, 0, 0, 0, members) for key, cut, members in scopes)
    return Overview("run", "mira", "group", "50%", 1, "t", 0, temperature, NOTHING, sources, rows, (), False, "0", "")


def put(run, source, quality, cut, tokens=1, shards=1):
    for k, part in enumerate(np.array_split(np.asarray(quality, dtype=np.float64), shards)):
        table = pa.table(
            {
                "id": [f"{k}-{i}" for i in range(len(part))],
                "n_tokens": pa.array([tokens] * len(part), pa.int32()),
                "quality": pa.array(part, from_pandas=True),
                "kept": part >= cut,
                "reason": pa.array(["kept"] * len(part)).dictionary_encode(),
            }
        )
        write_parquet(run.selection(source) / f"{k}'[x].parquet", table)


def test_a_panel_a_scope_with_its_cutoff_on_the_axis(tmp_path):
    run = RunFolder(tmp_path)
    rng = np.random.default_rng(0)
    put(run, "ant", rng.uniform(2, 8, 3000), 5.0, shards=3)
    put(run, "bee", rng.uniform(4, 6, 500), 5.5)
    put(run, "cat", [np.nan, np.nan], 0)
    with duckdb.connect() as con:
        scopes = [("A", 5.0, ("ant", "bee")), ("B", 1.0, ("cat",))]
        (a,) = panels(con, run, view({"ant": 5.0, "bee": 5.5, "cat": None}, scopes))
    assert (a.key, a.threshold, [r.source for r in a.ridges]) == ("A", 5.0, ["ant", "bee"])
    assert a.cut == pytest.approx(50, abs=2)
    ant, bee = a.ridges
    assert (ant.records, bee.records) == (3000, 500)
    assert not ant.own and bee.own and bee.cut > ant.cut
    width = 100 / BINS
    assert all(bar.x + bar.width <= ant.cut + width for bar in ant.bars if bar.kind == "dropped")
    assert all(bar.x >= ant.cut - width for bar in ant.bars if bar.kind == "kept")
    assert max(bar.height + bar.y for bar in bee.bars) == pytest.approx(100) and min(bar.y for bar in bee.bars) == 0


def test_all_panels_share_one_axis_that_holds_each_of_them(tmp_path):
    run = RunFolder(tmp_path)
    put(run, "ant", np.linspace(4, 8, 5000), 6.0)
    put(run, "bee", np.linspace(1, 2, 4), 1.5)
    with duckdb.connect() as con:
        scopes = [("A", 6.0, ("ant",)), ("B", 1.5, ("bee",))]
        a, b = panels(con, run, view({"ant": 6.0, "bee": 1.5}, scopes))
    assert a.ticks == b.ticks and [t.label for t in a.ticks] == ["2", "4", "6", "8"]
    assert a.cut == pytest.approx(100 * 5 / 7, abs=1) and b.cut == pytest.approx(100 * 0.5 / 7, abs=1)
    assert min(bar.x for bar in a.ridges[0].bars) > 40 and max(bar.x for bar in b.ridges[0].bars) < 16
    assert len(b.ridges[0].bars) == 4 and not b.outside


def test_far_outliers_do_not_squeeze_the_axis(tmp_path):
    run = RunFolder(tmp_path)
    put(run, "ant", np.append(np.random.default_rng(0).uniform(0, 10, 5000), [-40, 60]), 5.0)
    with duckdb.connect() as con:
        (panel,) = panels(con, run, view({"ant": 5.0}, [("A", 5.0, ("ant",))]))
    assert panel.outside and panel.cut == pytest.approx(50, abs=3)
    assert len({bar.x for bar in panel.ridges[0].bars}) > 0.9 * BINS


def test_one_value_only(tmp_path):
    run = RunFolder(tmp_path)
    put(run, "ant", [5.0] * 40, 5.0, tokens=10**8)
    with duckdb.connect() as con:
        (panel,) = panels(con, run, view({"ant": 5.0}, [("A", 5.0, ("ant",))]))
    assert [bar.kind for bar in panel.ridges[0].bars] == ["kept"] and panel.ridges[0].bars[0].height == 100


def test_noise_hides_the_cutoffs(tmp_path):
    run = RunFolder(tmp_path)
    put(run, "ant", np.linspace(0, 10, 50), 5.0)
    with duckdb.connect() as con:
        (panel,) = panels(con, run, view({"ant": 0.3}, [("A", 0.3, ("ant",))], temperature=1.0))
    assert panel.cut is None and panel.threshold is None and panel.ridges[0].cut is None


def test_scopes_that_share_sources_share_a_panel_without_cutoffs(tmp_path):
    run = RunFolder(tmp_path)
    put(run, "ant", np.linspace(0, 10, 50), 5.0)
    scopes = [("A / law", 0.3, ("ant",)), ("A / code", 0.5, ("ant",))]
    with duckdb.connect() as con:
        (panel,) = panels(con, run, view({"ant": None}, scopes))
    assert panel.cut is None and [r.source for r in panel.ridges] == ["ant"] and not panel.has_cuts


def test_a_source_without_sidecars(tmp_path):
    with duckdb.connect() as con, pytest.raises(RunError, match="selection/ant"):
        panels(con, RunFolder(tmp_path), view({"ant": 5.0}, [("A", 5.0, ("ant",))]))
