"""DataMan judging over real HTTP: every record once, missing lines refused, shards resumed."""

import pyarrow.parquet as pq
import pytest

from mira.corpus import shards
from mira.errors import ConfigError, JudgeError, RunError
from mira.pipeline.runner import run_stages, stage_states
from mira.progress import Quiet
from mira.selection.methods.dataman_endpoint import score_dataman
from mira.selection.stage import selection_inputs
from support.endpoint_server import DataManServer
from support.selection_world import Item, World


def text(i, quality):
    return f"document {i} on {'court' if i % 4 == 3 else 'code'} quality{quality}"


@pytest.fixture
def world(tmp_path):
    many = [Item(f"r{i:03d}", [5.0], text(i, i % 5 + 1)) for i in range(40)]
    bad = [Item("cut", [5.0], text(0, 9)), Item("line", [5.0], text(0, 0))]
    return World(tmp_path, {"ant": [many[:20] + bad, many[20:]], "bee": [[Item("b", [5.0], text(0, 3))]]}, {})


@pytest.fixture
def server():
    with DataManServer() as running:
        yield running


def config(world, server, budget=0.05, teacher=None, **endpoint):
    settings = {"endpoint": {"base_url": server.url, "model": "RuPeng/DataMan-1.5B-EN", "max_retries": 0, **endpoint}}
    made = world.config(method="dataman", scope="global", budget="50%", dataman=settings)
    update = made.teacher.model_copy(update={"failure_budget": budget, **(teacher or {})})
    return made.model_copy(update={"teacher": update})


def rows(world, source="ant"):
    return [r for path in sorted(world.run.dataman(source).glob("*.parquet")) for r in pq.read_table(path).to_pylist()]


def test_every_record_has_a_row_and_only_whole_replies_count(world, server):
    told = score_dataman(selection_inputs(config(world, server), world.run, Quiet()))
    assert told["rows"] == {"ant": 42, "bee": 1}
    assert told["unscored"] == {"ant": {"truncated": 1, "unparsable": 1}, "bee": {}}
    by_id = {row["id"]: row for row in rows(world)}
    assert [by_id[f"r{i:03d}"]["overall"] for i in range(40)] == [i % 5 + 1 for i in range(40)]
    assert (by_id["r003"]["domain_tag"], by_id["r004"]["domain_tag"]) == ("Law", "Coding")
    assert by_id["r004"]["ratings"] == [5, 4, 5, 3, 2, 4, 1, 4, 5, 3, 4, 5, 5, 5]
    assert by_id["line"]["overall"] is None and by_id["line"]["ratings"] is None
    assert by_id["line"]["reason_unscored"] == "unparsable"
    first = pq.read_table(sorted(world.run.dataman("ant").glob("*.parquet"))[0])
    assert first["row"].to_pylist() == list(range(22))
    assert {(b["temperature"], b["top_p"], b["max_tokens"]) for b in server.bodies} == {(0.0, 1.0, 40)}


def test_a_second_run_sends_nothing_and_a_lost_sidecar_comes_from_the_journal(world, server):
    score_dataman(selection_inputs(config(world, server), world.run, Quiet()))
    sent = len(server.bodies)
    lost = sorted(world.run.dataman("ant").glob("*.parquet"))[0]
    before = lost.read_bytes()
    lost.unlink()
    told = score_dataman(selection_inputs(config(world, server), world.run, Quiet()))
    assert told["rows"] == {"ant": 42, "bee": 1} and told["unscored"]["ant"] == {"truncated": 1, "unparsable": 1}
    assert len(server.bodies) == sent == 43
    assert lost.read_bytes() == before


def test_another_model_makes_sidecars_stale_and_price_does_not(world, server):
    score_dataman(selection_inputs(config(world, server), world.run, Quiet()))
    score_dataman(selection_inputs(config(world, server, price_in=1.0), world.run, Quiet()))
    assert len(server.bodies) == 43
    score_dataman(selection_inputs(config(world, server, model="RuPeng/DataMan-1.5B-ZH"), world.run, Quiet()))
    assert len(server.bodies) == 86


def test_too_many_failures_are_an_error_and_are_asked_again(tmp_path, server):
    world = World(tmp_path, {"bee": [[Item("b", [5.0], "quality8"), Item("c", [5.0], "quality4")]]}, {})
    for _ in range(2):
        with pytest.raises(JudgeError, match=r"1 of 2 records stayed unscored"):
            score_dataman(selection_inputs(config(world, server), world.run, Quiet()))
        assert [r["reason_unscored"] for r in rows(world, "bee")] == ["endpoint_error", None]
    assert server.of_text == {"quality8": 2, "quality4": 1}
    for _ in range(2):  # within the budget it is left as it is: the server may be gone
        told = score_dataman(selection_inputs(config(world, server, budget=0.5), world.run, Quiet()))
        assert told["rows"] == {"bee": 2}
    assert server.of_text["quality8"] == 2


def test_offline_sends_nothing(world, server):
    with pytest.raises(JudgeError, match="43 of 43"):
        score_dataman(selection_inputs(config(world, server, teacher={"offline": True}), world.run, Quiet()))
    assert not server.bodies
    score_dataman(selection_inputs(config(world, server), world.run, Quiet()))
    assert len(server.bodies) == 43


def test_a_long_record_is_cut_as_the_model_was_tuned(tmp_path, server):
    item = Item("long", [5.0], "quality4 " + "word " * 4000 + "end")
    world = World(tmp_path, {"ant": [[item]]}, {})
    score_dataman(selection_inputs(config(world, server), world.run, Quiet()))
    (row,) = rows(world)
    assert row["overall"] == 4 and row["notes"].startswith("cut:2")
    score_dataman(selection_inputs(config(world, server, max_model_len=600), world.run, Quiet()))
    assert len(server.bodies[1]["messages"][0]["content"]) < len(server.bodies[0]["messages"][0]["content"]) / 3
    with pytest.raises(ConfigError, match="no room"):
        score_dataman(selection_inputs(config(world, server, max_model_len=150), world.run, Quiet()))


def test_a_run_asks_selects_and_is_then_up_to_date(world, server):
    run_stages(config(world, server), ["index", "select"])
    kept = {row["quality"] for row in world.rows("ant") if row["kept"]}
    assert kept and min(kept) >= 3
    assert world.record("line")["reason"] == "unscored:unparsable"
    states = {state.stage.name: state.reasons for state in stage_states(config(world, server))}
    assert states["select"] == ()
    run_stages(config(world, server), ["index", "select"])
    assert len(server.bodies) == 43


def test_scores_from_elsewhere_are_neither_asked_for_nor_written_over(world, server):
    score_dataman(selection_inputs(config(world, server), world.run, Quiet()))
    shard = shards(world.config().corpus)["bee"][0]
    own = world.run.dataman("bee") / f"{shard.name}.parquet"
    pq.write_table(pq.read_table(own).replace_schema_metadata(None), own)
    with pytest.raises(RunError, match="not made by mira"):
        score_dataman(selection_inputs(config(world, server), world.run, Quiet()))
    elsewhere = world.folder / "given"
    (world.run.path / "dataman").rename(elsewhere)
    made = config(world, server)
    dataman = made.select.dataman.model_copy(update={"scores": str(elsewhere)})
    made = made.model_copy(update={"select": made.select.model_copy(update={"dataman": dataman})})
    run_stages(made, ["index", "select"])
    assert world.record("b")["quality"] == 3 and len(server.bodies) == 43


def test_what_would_have_no_effect_is_refused(world, server):
    with pytest.raises(ValueError, match="samples: without effect"):
        config(world, server, samples=2)
