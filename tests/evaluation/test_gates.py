"""Gates in a small run: validated, selected, explained, evaluated and shown."""

import json
from pathlib import Path

import pyarrow.dataset as ds
import pytest

import mira
from mira.evaluation.pairs.results import PairsResult
from mira.evaluation.results import EvaluationResult
from mira.run_folder.files import read_json
from mira.run_folder.paths import RunFolder
from mira.run_folder.results import read_result
from support.tiny_world import RECORDS, SOURCES, TinyWorld

GATES = [{"value": "ppl", "drop": "20%"}]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> TinyWorld:
    world = TinyWorld(tmp_path_factory.mktemp("world"))
    world.use_recorded_labels()
    replies = world.folder / "replies.jsonl"  # faults are planted in records without a label
    lines = replies.read_text().splitlines(keepends=True)
    replies.write_text("".join(line for at, line in enumerate(lines) if at % 4))
    world.set(evaluate={"methods": ["random", "ppl"], "planted": 4, "subtle": 4}, select={"gates": GATES})
    told = world.mira("run")
    assert "Dropped by gate ppl: " in told
    return world


def test_a_run_with_gates_is_up_to_date_until_they_change(world: TinyWorld) -> None:
    sources = read_json(RunFolder(world.run).thresholds)["sources"]
    assert all(entry["gates"]["ppl"]["records"] for entry in sources.values())
    assert "below the floor of the gate ppl" in (world.run / "report.html").read_text()
    assert "select       up to date" in world.mira("run")
    other = mira.load_config(world.folder / "mira.yaml", ["select.gates=[{value: ppl, drop: 10%}]"])
    (state,) = [stage.state for stage in mira.plan(other) if stage.name == "select"]
    assert "select.gates changed" in state


def test_validate_names_the_gates_and_refuses_what_is_wrong_with_them(world: TinyWorld) -> None:
    assert "gate ppl: drops up to 20% of the tokens of every source" in world.mira("validate")
    wrong = "select.gates=[{value: ppl, min: -3, sources: [source_C]}]"
    told = world.mira("validate", "--set", wrong, ok=False)
    assert "select.gates.0.sources: there is no source 'source_C'" in told and "Did you mean 'source_" in told


def test_the_endpoint_of_a_gate_is_validated_and_its_calls_are_planned(world: TinyWorld) -> None:
    at = "select.ppl.endpoint={base_url: 'http://127.0.0.1:9/v1', model: m, max_retries: 0}"
    told = world.mira("validate", "--set", at, ok=False)
    assert "127.0.0.1:9" in told
    (stage,) = [
        stage for stage in mira.plan(mira.load_config(world.folder / "mira.yaml", [at])) if stage.name == "select"
    ]
    assert stage.calls == len(RECORDS)


def test_what_gates_catch_and_cost(world: TinyWorld) -> None:
    told = world.mira("evaluate")
    found = read_result(EvaluationResult, RunFolder(world.run).evaluation)
    assert found.gates is not None
    assert found.gates.with_gates == found.agreement.all and found.gates.without.n == found.gates.with_gates.n
    caught = found.gates.faults["ppl"]
    assert caught["garbage"].worse == 1.0 and caught["garbage"].better is not None and caught["garbage"].better < 0.5
    assert caught["all"].pairs == sum(c.pairs for kind, c in caught.items() if kind != "all")
    assert "without gates: the teacher would keep" in told and "gate ppl, garbage: drops 100%" in told
    assert "Gates beside quality" in (world.run / "report.html").read_text()


def test_what_gates_drop_of_pairs(world: TinyWorld, tmp_path: Path) -> None:
    lines = [
        {"better": r.text, "worse": "QZX JVK WPF BGY " * 30, "source": r.source, "kind": "garbage", "id": r.id}
        for r in RECORDS
    ]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    told = world.mira("evaluate", "--pairs", tmp_path / "pairs.jsonl")
    caught = read_result(PairsResult, RunFolder(world.run).pairs).gates["ppl"]
    assert set(caught) == {"all", "garbage"} and caught["all"].worse == 1.0
    assert "gate ppl, garbage: drops 100% of the worse and" in told
    dropped = {source: read_json(RunFolder(world.run).thresholds)["sources"][source]["gates"] for source in SOURCES}
    share = sum(gates["ppl"]["records"] for gates in dropped.values()) / len(RECORDS)
    assert caught["all"].better == pytest.approx(share)  # the same records by the same models


def test_explain_says_which_gate_dropped_a_record(world: TinyWorld) -> None:
    sidecars = [RunFolder(world.run).selection(source) for source in SOURCES]
    rows = [row for folder in sidecars for row in ds.dataset(sorted(folder.glob("*.parquet"))).to_table().to_pylist()]
    dropped = next(row["id"] for row in rows if row["reason"] == "gate:ppl")
    assert "gate ppl: dropped with" in world.mira("explain", dropped)
