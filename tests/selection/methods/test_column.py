"""Foreign scores in selection: a method of their own, slots of quality, rows of compare."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mira.config.settings import Config
from mira.errors import ConfigError
from mira.evaluation.compare import compare
from mira.foreign.stage import join
from mira.pipeline.fingerprints import stage_settings
from mira.progress import Quiet
from mira.selection.explain.explain import explain
from mira.selection.quality import load_mask
from mira.selection.stage import STAGE, select
from mira.selection.yardstick.held_out import held_out_quality
from mira.selection.yardstick.yardsticks import Yardstick, load_yardsticks
from support.selection_world import Item, World

N = 12


@pytest.fixture
def world(tmp_path: Path) -> World:
    sources = {
        s: [[Item(f"{s}-{k}", [float(k % 7), 5.0, float(k % 3)]) for k in range(h, N, 2)] for h in (0, 1)]
        for s in ("a", "b")
    }
    return World(tmp_path, sources, {"g": ("a", "b")})


def scored(world: World, score: dict[str, Any], **chosen: Any) -> Config:
    """Score record k of both sources k, but for a-5, which has none; join."""
    path = world.folder / "edu.parquet"
    rows = [(f"{s}-{k}", float(k)) for s in ("a", "b") for k in range(N) if (s, k) != ("a", 5)]
    pq.write_table(pa.table({"id": [r[0] for r in rows], "edu": [r[1] for r in rows]}), path)
    config = world.config(**chosen)
    settings = {"edu": {"path": str(path), "range": [0, 20], **score}}
    config = Config.model_validate(config.model_dump(mode="json", exclude_defaults=True) | {"scores": settings})
    join(config, world.run, Quiet())
    return config


def by_edu(**more: Any) -> dict[str, Any]:
    return {"method": "column", "column": {"score": "edu"}, **more}


@pytest.mark.parametrize(("better", "best"), [("higher", {11, 10, 9}), ("lower", {0, 1, 2})])
def test_records_rank_by_the_score(world: World, better: str, best: set[int]) -> None:
    config = scored(world, {"better": better}, **by_edu(scope="source", budget="25%"))
    told = select(config, world.run, Quiet())
    assert world.kept() == {(s, f"{s}-{k}") for s in ("a", "b") for k in best}
    assert told["method"] == "column.edu"
    assert (world.record("a-5")["kept"], world.record("a-5")["reason"]) == (False, "unscored:no_row")
    assert world.record("b-5")["quality"] == (5.0 if better == "higher" else -5.0)


def test_a_source_without_the_score_is_not_ranked(world: World) -> None:
    config = scored(world, {"sources": ["a"]}, **by_edu(scope="global"))
    select(config, world.run, Quiet())
    assert world.record("b-5")["reason"] == "unscored:source_without_score"


def as_slot(world: World, masked: bool = False) -> None:
    cells = [{"source": s, "slot": "edu", "name": "edu", "masked": masked, "why": None} for s in ("a", "b")]
    rows = [cell | {"low": 0.0, "high": 20.0, "better": "higher"} for cell in cells]
    pq.write_table(pa.Table.from_pylist(rows), world.run.foreign_slots)


def test_quality_takes_in_a_slot_on_the_scale_of_slots(world: World) -> None:
    config = scored(world, {"slot": "trusted"}, scope="source", trim=0, min_slots=1)
    select(config, world.run, Quiet())
    without = world.record("b-6")["quality"]
    assert without == pytest.approx((6 + 5 + 0) / 3)
    as_slot(world)
    assert load_mask(world.run)["b"] == ("A1", "A2", "A3", "edu")
    select(config, world.run, Quiet())
    assert world.record("b-6")["quality"] == pytest.approx((6 + 5 + 0 + 6 / 20 * 10) / 4)
    assert world.record("a-5")["quality"] == pytest.approx((5 + 5 + 2) / 3)  # its score is missing, not 0
    shown = {slot.slot: slot.score for slot in explain(config, world.run, "b-6").slots}
    assert shown == {"A1": 6.0, "A2": 5.0, "A3": 0.0, "edu": 3.0}
    as_slot(world, masked=True)
    select(config, world.run, Quiet())
    assert world.record("b-6")["quality"] == without


def test_a_slot_is_centred_over_the_records_of_all_rivals(world: World) -> None:
    config = scored(world, {"slot": "trusted"}, compare_by="centred")
    as_slot(world)
    edu = load_yardsticks(config.select, world.run)["a"]
    values = np.array([k / 2 for s in ("a", "b") for k in range(N) if (s, k) != ("a", 5)])
    assert edu.means[3] == pytest.approx(values.mean())
    assert edu.deviations[3] == pytest.approx(values.std())
    assert edu.by_judge() == Yardstick(edu.slots[:3], edu.means[:3], edu.deviations[:3])


def test_held_out_records_have_the_slot(world: World) -> None:
    config = scored(world, {"slot": "trusted"}, trim=0, min_slots=1)
    as_slot(world)
    path = world.run.student("g") / "held_out.parquet"
    path.parent.mkdir(parents=True)
    table = {
        "id": ["b-6", "a-5"],
        "source": ["b", "a"],
        **{f"A{k}": pa.array([1.0, 1.0], pa.float32()) for k in (1, 2, 3)},
    }
    pq.write_table(pa.table(table), path)
    found = held_out_quality(config.select, world.run, {"a": "g", "b": "g"})
    assert found == {("b", "b-6"): (1 + 1 + 1 + 3) / 4, ("a", "a-5"): 1.0}


def test_compare_has_a_row_per_score(world: World) -> None:
    config = scored(world, {})
    found = compare(config, world.run, ["random", "column"], Quiet())
    assert list(found.methods) == ["random", "column.edu"]
    assert list(compare(config, world.run, ["column.edu"], Quiet()).methods) == ["column.edu"]
    with pytest.raises(ConfigError, match=r"unknown methods: column\.edv"):
        compare(config, world.run, ["column.edv"], Quiet())


def test_only_scores_that_decide_redo_the_selection(world: World) -> None:
    scores = {"edu": {"field": "x", "range": [0, 1], "slot": "tested"}, "other": {"field": "y"}}
    config = world.config()
    config = Config.model_validate(config.model_dump(mode="json", exclude_defaults=True) | {"scores": scores})
    assert {name for name in stage_settings(STAGE, config) if name.startswith("scores")} == {"scores.edu"}
    assert "join" in STAGE.needs(config)
    by_other = config.model_copy(
        update={"select": config.select.model_validate({"method": "column", "column": {"score": "other"}})}
    )
    assert {name for name in stage_settings(STAGE, by_other) if name.startswith("scores")} == {"scores.other"}
    assert "join" not in STAGE.needs(world.config())


def test_a_gate_measures_a_score(world: World) -> None:
    gates = [{"value": "column.edu", "min": 6}]
    config = scored(world, {}, scope="source", budget="99%", gates=gates, trim=0, min_slots=1)
    assert "join" in STAGE.needs(config)
    assert "scores.edu" in stage_settings(STAGE, config)
    select(config, world.run, Quiet())
    assert {id for source, id in world.kept() if source == "b"} <= {f"b-{k}" for k in range(6, N)}
    assert world.record("b-5")["reason"].startswith("gate:column.edu")
    assert world.record("a-5")["reason"].startswith("gate_missing:column.edu")
