"""Pairs ordered by students, methods and a live teacher, in a small run."""

import json
from pathlib import Path

import pytest

import mira
from mira.evaluation.pairs.results import PairsPlan, PairsResult, ScorerPairs, Tally
from mira.evaluation.pairs.tallies import findings
from mira.run_folder.paths import RunFolder
from mira.run_folder.results import read_result
from support.encoder_case import RUBRIC
from support.served_case import serving
from support.tiny_world import RECORDS, SOURCES, TinyWorld


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> TinyWorld:
    world = TinyWorld(tmp_path_factory.mktemp("world"))
    world.use_recorded_labels()
    world.set(evaluate={"methods": ["random", "ppl"]})
    world.mira("run")
    lines = [
        {"better": r.text, "worse": r.text[: len(r.text) // 8], "source": r.source, "kind": "cut", "id": r.id}
        for r in RECORDS[:60:2]
    ]
    swapped = [{"better": line["better"] + " x", "worse": line["better"] + " y", "kind": "letter"} for line in lines]
    (world.folder / "pairs.jsonl").write_text("".join(json.dumps(line) + "\n" for line in [*lines, *swapped, {}]))
    return world


def test_every_scorer_orders_the_pairs(world: TinyWorld) -> None:
    told = world.mira("evaluate", "--pairs", world.folder / "pairs.jsonl")
    assert "pairs.jsonl:61: field 'better' is missing" in told and "1 of 61 lines are not pairs" in told
    assert "pairs that name no source: 30, taken as records of source_A" in told
    found = read_result(PairsResult, RunFolder(world.run).pairs)
    assert (found.lines, found.pairs, found.rejected) == (61, 60, {"missing_field": 1})
    assert set(found.scorers) == {"mira", "length", "random", "ppl"}
    mira_ = found.scorers["mira"]
    assert mira_.kinds["cut"].share > 0.7 and mira_.kinds["cut"].words == "sees"
    assert mira_.verdict.startswith("sees cut (") and "letter (" in mira_.verdict
    length = found.scorers["length"]
    assert length.kinds["cut"].share == 1.0 and length.kinds["letter"].share == 0.5
    assert length.all.ties == length.kinds["letter"].ties == 30
    assert sum(t.pairs for t in mira_.sources.values()) == 60 and set(mira_.sources) == set(SOURCES)
    again = world.run.joinpath("pairs.json").read_bytes()
    world.mira("evaluate", "--pairs", world.folder / "pairs.jsonl")
    assert world.run.joinpath("pairs.json").read_bytes() == again
    assert "pairs.jsonl" in world.run.joinpath("report.html").read_text()


def test_a_live_teacher_judges_the_pairs_within_its_limits(world: TinyWorld, tmp_path: Path) -> None:
    world = world.copy_to(tmp_path / "live")
    pairs = world.folder / "pairs.jsonl"
    assert "there is no live teacher; recorded replies know only" in world.mira(
        "evaluate", "--pairs", pairs, "--judge", ok=False
    )
    with serving(lambda user: min(len(user) / 400, 10.0), RUBRIC) as server:
        endpoint = {"base_url": server.url, "model": "m", "max_model_len": 8192, "max_tokens": 500, "price_in": 2.0}
        world.settings["teacher"] = {"endpoint": endpoint}
        assert "120 requests to send" in world.mira("evaluate", "--pairs", pairs, "--judge", "--dry-run")
        plan = mira.evaluate(world.folder / "mira.yaml", pairs=pairs, judge=True, dry_run=True)
        assert isinstance(plan, PairsPlan) and not server.requests
        assert (plan.pairs, plan.calls, plan.answered) == (60, 120, 0) and plan.cost and plan.tokens_in > 10_000
        assert "All replies are in the journal" in world.mira(
            "evaluate", "--pairs", pairs, "--judge", "--max-requests", 40, ok=False
        )
        assert len(server.requests) == 40
        world.mira("evaluate", "--pairs", pairs, "--judge")
        assert len(server.requests) == 120  # the replies of before came from the journal
        plan = mira.evaluate(world.folder / "mira.yaml", pairs=pairs, judge=True, dry_run=True)
        assert isinstance(plan, PairsPlan) and (plan.calls, plan.answered, plan.cost) == (0, 120, 0.0)
    found = read_result(PairsResult, RunFolder(world.run).pairs)
    teacher = found.scorers["teacher"]
    assert teacher.kinds["cut"].share is not None and teacher.kinds["cut"].share > 0.9
    assert found.scorers["teacher_overall"].all.ties == 60  # it says 50 of every record


def test_options_of_pairs_need_a_file(world: TinyWorld) -> None:
    assert "Give them: --pairs FILE.jsonl" in world.mira("evaluate", "--judge", ok=False)


SEES, BLIND, FEW = Tally(9, 9, share=0.9, low=0.8, high=1.0), Tally(9, 9, share=0.5, low=0.4, high=0.6), Tally()


def scorer(**kinds: Tally) -> ScorerPairs:
    return ScorerPairs(FEW, kinds)


def test_a_blind_student_is_told_from_a_blind_teacher() -> None:
    student = scorer(a=BLIND, b=BLIND, c=SEES)
    told = findings(
        {"mira": student, "teacher": scorer(a=SEES, b=BLIND, c=SEES), "ppl": scorer(a=SEES, b=FEW, c=BLIND)}
    )
    assert told[0].startswith("The teacher sees a, the students do not") and len(told) == 3
    assert told[1].startswith("The teacher does not see b either")
    assert told[2].startswith("ppl sees a, the students do not") and "select.gates" in told[2]
    assert findings({"mira": student, "length": scorer(a=SEES, b=SEES, c=SEES)}) == []
    assert findings({"ppl": student}) == []
