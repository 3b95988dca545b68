"""What `mira explain` says of gates."""

import re
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from mira.cli.tables import print_explanation
from mira.evaluation.compare import compare
from mira.progress import Quiet
from mira.selection.explain.explain import explain
from mira.selection.explain.results import Explanation
from support.selection_world import World, items

GATES = [{"value": "mira", "drop": "30%"}]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    folder: Path = tmp_path_factory.mktemp("gates")
    world = World(folder, {"ant": [items("ant", 30), items("ant2", 10)]}, {"g": ["ant"]})
    world.select(method="random", budget="50%", gates=GATES)
    return world


def told(world: World, id: str, **settings: object) -> Explanation:
    return explain(world.config(**({"method": "random", "budget": "50%", "gates": GATES} | settings)), world.run, id)


def printed(explanation: Explanation) -> str:
    console = Console(file=StringIO(), width=200)
    print_explanation(explanation, console)
    return console.file.getvalue()


def test_the_gate_that_drops_a_record_and_what_would_let_it_through(world: World) -> None:
    rows = {row["id"]: row for row in world.rows("ant")}
    dropped = [id_ for id_, row in rows.items() if row["reason"] == "gate:mira"]
    whys = {id_: told(world, id_) for id_ in dropped}
    (gate,) = whys[dropped[0]].gates
    assert gate.dropped and gate.value is not None and gate.floor is not None and gate.value <= gate.floor
    assert whys[dropped[0]].ungated is not None and not whys[dropped[0]].kept
    highest = max(dropped, key=lambda id_: whys[id_].gates[0].value or 0)
    share = whys[highest].gates[0].share
    assert share is not None and 0.2 < share <= 0.3
    text = printed(whys[highest])
    assert (
        "not kept (gate:mira)" in text and "gate mira: dropped with" in text and "it passes with a drop below" in text
    )
    least = float(re.findall(r"a min of at most ([\d.]+)", text)[0])
    world.select(method="random", budget="100%", gates=[{"value": "mira", "drop": share * 0.99}])
    assert world.record(highest)["reason"] == "kept"
    world.select(method="random", budget="100%", gates=[{"value": "mira", "min": least}])
    assert world.record(highest)["reason"] == "kept"
    world.select(method="random", budget="50%", gates=GATES)


def test_a_record_that_passes(world: World) -> None:
    kept = next(row["id"] for row in world.rows("ant") if row["kept"])
    why = told(world, kept)
    assert why.ungated is None and not why.gates[0].dropped and "gate mira: passes with" in printed(why)
    assert told(world, kept, gates=[]).gates == []


def test_compare_sets_the_method_with_gates_beside_itself_without(world: World) -> None:
    found = compare(world.config(budget="50%", gates=GATES, scope="source"), world.run, ["mira", "random"], Quiet())
    assert list(found.methods) == ["mira", "random", "mira, no gates"]
    with_gates, without = found.methods["random"], found.methods["mira, no gates"]
    assert with_gates.unscored > without.unscored == 0
    assert abs(with_gates.tokens_kept - found.budget_tokens) < 60  # the budget is filled from what passes
    no_gates = compare(world.config(budget="50%", scope="source"), world.run, ["mira"], Quiet())
    assert no_gates.methods["mira"] == without
