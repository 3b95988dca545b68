"""Bits per byte from a server over real HTTP, against values worked out by hand."""

import pyarrow.parquet as pq
import pytest

from mira.errors import ConfigError, JudgeError
from mira.pipeline.runner import run_stages
from mira.progress import Quiet
from mira.selection.methods.ppl_endpoint import score_ppl
from mira.selection.stage import selection_inputs
from support.endpoint_server import CompletionsServer
from support.selection_world import Item, World

ITEMS = [
    Item("plain", [5.0], "aaaaaaaa"),  # 7 tokens of 1 bit, 8 bytes
    Item("mixed", [5.0], "abab"),  # 4 + 1 + 4 bits, 4 bytes
    Item("wide", [5.0], "aź"),  # 4 bits, 3 bytes
    Item("one", [5.0], "b"),
]
BITS = {"plain": 7 / 8, "mixed": 9 / 4, "wide": 4 / 3, "one": None}


@pytest.fixture
def world(tmp_path):
    return World(tmp_path, {"ant": [ITEMS[:2], ITEMS[2:]]}, {})


def config(world, server, ppl=None, **endpoint):
    endpoint = {"base_url": server.url, "model": "m", **endpoint}
    return world.config(method="ppl", scope="global", budget="60%", ppl={"endpoint": endpoint, **(ppl or {})})


def rows(world):
    parts = (pq.read_table(path).to_pylist() for path in sorted(world.run.ppl("ant").glob("*.parquet")))
    return {row["id"]: row for part in parts for row in part}


@pytest.mark.parametrize("form", ["prompt_logprobs", "echo"])
def test_bits_are_those_worked_out_by_hand_and_nothing_is_sent_twice(world, form):
    with CompletionsServer(echo=form == "echo") as server:
        told = score_ppl(selection_inputs(config(world, server, form=form), world.run, Quiet()))
        assert told["rows"] == {"ant": 4} and told["unscored"] == {"ant": {"too_short": 1}}
        found = rows(world)
        assert {i: row["bits_per_byte"] for i, row in found.items()} == pytest.approx(BITS)
        assert (found["wide"]["n_bytes"], found["wide"]["n_measured"]) == (3, 1)
        assert found["one"]["reason_unscored"] == "too_short"
        for path in world.run.ppl("ant").glob("*.parquet"):
            path.unlink()
        score_ppl(selection_inputs(config(world, server, form=form), world.run, Quiet()))
        assert len(server.bodies) == 4 and rows(world) == found
        assert all(body["max_tokens"] == 1 and "messages" not in body for body in server.bodies)


def test_the_prompts_own_token_is_found_among_likelier_ones(world):
    with CompletionsServer() as server:
        score_ppl(selection_inputs(config(world, server, extra_body={"prompt_logprobs": 1}), world.run, Quiet()))
    assert {i: row["bits_per_byte"] for i, row in rows(world).items()} == pytest.approx(BITS)


@pytest.mark.parametrize("form", ["prompt_logprobs", "echo"])
def test_a_server_that_cannot_measure_is_told(tmp_path, form):
    world = World(tmp_path, {"ant": [[Item(f"r{i}", [5.0], f"text {i}") for i in range(30)]]}, {})
    with CompletionsServer(mute=True) as server, pytest.raises(JudgeError, match="logprobs"):
        score_ppl(selection_inputs(config(world, server, form=form, max_concurrency=4), world.run, Quiet()))
    with CompletionsServer() as server:  # nothing of it is in the journal
        score_ppl(selection_inputs(config(world, server), world.run, Quiet()))
    assert all(row["bits_per_byte"] for row in rows(world).values())


@pytest.mark.parametrize(("max_model_len", "sent"), [(50, 48), (200, 50)])
def test_of_a_long_record_the_beginning_is_measured(tmp_path, max_model_len, sent):
    digits = "0123456789" * 100  # a token each
    world = World(tmp_path, {"ant": [[Item("long", [5.0], digits)]]}, {})
    with CompletionsServer(context=100) as server:
        score_ppl(selection_inputs(config(world, server, max_model_len=max_model_len), world.run, Quiet()))
    assert server.prompts[-1] == digits[:sent]
    row = rows(world)["long"]
    assert row["bits_per_byte"] == pytest.approx((sent - 1) * 4 / sent)
    assert (row["n_bytes"], row["notes"]) == (sent, f"cut:{1000 - sent}")


def test_a_context_without_room_is_told(world):
    with CompletionsServer() as server, pytest.raises(ConfigError, match="no room"):
        score_ppl(selection_inputs(config(world, server, max_model_len=3), world.run, Quiet()))


def test_selection_asks_once_for_all_slices(world):
    with CompletionsServer() as server:
        run_stages(config(world, server), ["index", "select"])
        assert {r["id"]: r["quality"] for r in world.rows("ant")}["plain"] == pytest.approx(-7 / 8)
        assert ("ant", "plain") in world.kept()
        assert world.record("one")["reason"] == "unscored:too_short"
        run_stages(config(world, server, {"slice": "high"}), ["index", "select"])
        assert ("ant", "mixed") in world.kept() and len(server.bodies) == 4


def test_settings_that_contradict_each_other_or_do_nothing(world):
    with CompletionsServer() as server:
        with pytest.raises(ValueError, match="model and endpoint"):
            config(world, server, {"model": "x.arpa"})
        with pytest.raises(ValueError, match="temperature: without effect"):
            config(world, server, temperature=1.0)
