"""Gates: a floor beside quality, within each source."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from mira.errors import ConfigError
from mira.run_folder.files import read_json
from support.selection_world import Item, World, items, words

GROUPS = {"text_group_A": ["ant", "bee"]}


def texts(source: str, n: int, garbled: Sequence[int]) -> list[Item]:
    """Records of English words, of which some are garbled; quality rises with their number."""
    rng = np.random.default_rng([len(source), n])
    english = ["the", "cat", "sat", "on", "a", "mat", "and", "looked", "at", "dog", "that", "slept", "in", "sun"]
    found = []
    for k in range(n):
        chosen = [english[i] for i in rng.integers(len(english), size=60)]
        noise = rng.choice(list("QZXJVKWPFBGY"), 60)
        text = " ".join(noise if k in garbled else chosen)
        found.append(Item(f"{source}-{k:02d}", [5 + k / n] * 4, text))
    return found


@pytest.fixture
def world(tmp_path: Path) -> World:
    sources = {"ant": [texts("ant", 20, (19, 3)), texts("ant", 12, ())[10:]], "bee": [texts("bee", 20, (18,))]}
    sources["ant"][1] = [Item(f"ant-x{i}", item.scores, item.text) for i, item in enumerate(sources["ant"][1])]
    return World(tmp_path, sources, GROUPS)


def gate(**settings: object) -> list[dict[str, object]]:
    return [{"value": "ppl", **settings}]


def test_the_lowest_values_of_each_source_are_dropped_and_the_budget_is_filled_from_the_others(world: World) -> None:
    before = world.select(budget="50%", scope="group")
    assert {("ant", "ant-19"), ("bee", "bee-18")} <= world.kept()
    found = world.select(budget="50%", scope="group", gates=gate(drop="12%"))
    kept = world.kept()
    assert not {("ant", "ant-19"), ("ant", "ant-03"), ("bee", "bee-18")} & kept
    assert world.record("ant-19")["reason"] == world.record("ant-03")["reason"] == "gate:ppl"
    assert world.record("ant-19")["quality"] is None
    assert (
        0 <= found["budget_tokens"] - found["tokens_kept"] < 300 and found["budget_tokens"] == before["budget_tokens"]
    )
    ant = found["sources"]["ant"]
    assert ant["gates"]["ppl"]["records"] == ant["reasons"]["gate:ppl"] and ant["gates"]["ppl"]["missing"] == 0
    assert 0 < ant["gates"]["ppl"]["tokens"] <= 0.12 * ant["tokens_in"] and ant["gates"]["ppl"]["floor"] < 0
    assert ant["kept"] + ant["dropped"] == ant["records_in"] == 22 and found["gates"][0]["drop"] == 0.12


def test_a_run_without_gates_stays_as_it_was(world: World) -> None:
    before = world.select(budget="50%")
    files = {p: p.read_bytes() for p in world.run.path.rglob("*") if p.is_file() and "values" not in p.parts}
    world.select(budget="50%", gates=gate(drop="12%"))
    assert world.select(budget="50%") == before and "gates" not in before
    assert {p: p.read_bytes() for p in world.run.path.rglob("*") if p.is_file() and "values" not in p.parts} == files


def test_a_share_that_no_record_fits_into_drops_nothing(world: World) -> None:
    found = world.select(budget="50%", gates=gate(drop="1%"))
    assert found["sources"]["bee"]["gates"]["ppl"] == {
        "floor": None, "tokens_in": found["sources"]["bee"]["tokens_in"], "records": 0, "tokens": 0, "missing": 0,
    }  # fmt: skip


def test_a_floor_of_a_value_and_sources(world: World) -> None:
    by_share = world.select(budget="100%", gates=gate(drop="12%"))["sources"]["bee"]["gates"]["ppl"]
    floor = by_share["floor"]
    found = world.select(budget="100%", gates=gate(min=floor + 1e-9, sources=["bee"]))
    assert world.record("bee-18")["reason"] == "gate:ppl" and world.record("ant-19")["reason"] == "kept"
    assert "gates" not in found["sources"]["ant"] and found["sources"]["bee"]["gates"]["ppl"] == by_share
    found = world.select(budget="100%", gates=gate(min=floor, sources=["bee"]))
    assert found["sources"]["bee"]["gates"]["ppl"]["records"] == by_share["records"] - 1


def test_sharding_does_not_change_what_is_dropped(tmp_path: Path) -> None:
    whole = items("ant", 60, seed=3)

    def dropped(folder: Path, parts: Sequence[Sequence[Item]]) -> set[str]:
        world = World(folder, {"ant": parts}, {"text_group_A": ["ant"]})
        world.select(budget="50%", gates=[{"value": "mira", "drop": 0.3}])
        return {row["id"] for row in world.rows("ant") if row["reason"] == "gate:mira"}

    one = dropped(tmp_path / "one", [whole])
    assert one and one == dropped(tmp_path / "many", [whole[i::4] for i in range(4)])
    means = {i.id: np.sort(np.float32(i.scores)).mean() for i in whole}
    assert max(means[i] for i in one) <= min(value for i, value in means.items() if i not in one)


def test_records_without_the_value(tmp_path: Path) -> None:
    short = [Item("ant-s", [9.0] * 4, words(3)), *items("ant", 20, tokens=200)]
    world = World(tmp_path, {"ant": [short]}, {"text_group_A": ["ant"]})
    dsir = {"min_words": 100, "target": {"name": "t", "path": str(tmp_path / "input" / "ant" / "*.jsonl")}}
    found = world.select(budget="100%", dsir=dsir, gates=[{"value": "dsir", "drop": "10%"}])
    assert world.record("ant-s")["reason"] == "gate_missing:dsir"
    assert found["sources"]["ant"]["gates"]["dsir"]["missing"] == 1
    world.select(budget="100%", dsir=dsir, gates=[{"value": "dsir", "drop": "10%", "missing": "keep"}])
    assert world.record("ant-s")["kept"]


def test_a_source_without_any_value_is_refused(tmp_path: Path) -> None:
    world = World(tmp_path, {"ant": [items("ant", 9)], "bee": [items("bee", 9)]}, GROUPS)
    world.mask({"bee": ["A1", "A2", "A3", "A4"]})
    with pytest.raises(ConfigError, match="no record of source 'bee' has a value of mira") as error:
        world.select(gates=[{"value": "mira", "drop": "10%"}])
    assert "missing: keep" in str(error.value)
    world.select(gates=[{"value": "mira", "drop": "30%", "sources": ["ant"]}])
    assert {row["reason"] for row in world.rows("bee")} == {"masked_source"}


def test_two_gates_and_a_method_without_quality(world: World) -> None:
    gates = [{"value": "ppl", "drop": "12%"}, {"value": "mira", "drop": "20%"}]
    found = world.select(method="random", budget="100%", gates=gates)
    reasons = found["sources"]["ant"]["reasons"]
    assert reasons["gate:ppl"] == 2 and reasons["gate:mira"] >= 2 and set(reasons) == {"gate:ppl", "gate:mira", "kept"}
    assert world.record("ant-03")["reason"] == "gate:ppl"  # the first gate that drops it
    assert read_json(world.run.thresholds) == found


@pytest.mark.parametrize(
    ("gates", "told"),
    [
        ([{"value": "ppl"}], "give either drop"),
        ([{"value": "ppl", "drop": 0.1, "min": 1}], "give either drop"),
        ([{"value": "random", "drop": 0.1}], "says nothing of a record"),
        ([{"value": "pppl", "drop": 0.1}], "input should be"),
        ([{"value": "ppl", "drop": 0.1}, {"value": "ppl", "min": 1}], "two gates on ppl"),
        ([{"value": "ppl", "drop": "100%"}], "less than 1"),
    ],
)
def test_gates_that_make_no_sense(world: World, gates: list[dict[str, object]], told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        world.config(gates=gates)


def test_an_unknown_source_and_a_value_without_a_floor(world: World) -> None:
    with pytest.raises(ConfigError, match="there is no source 'bees'") as error:
        world.select(gates=gate(drop="10%", sources=["bees"]))
    assert "Did you mean 'bee'?" in str(error.value)
    with pytest.raises(ConfigError, match="median"):
        world.select(gates=gate(drop="10%"), ppl={"keep": "middle"})
