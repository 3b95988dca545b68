"""Selections that ask an endpoint about every record, done by workers: the same bytes, and nothing is paid twice."""

import threading

import pytest

from mira.leased.shards import do_shards
from mira.progress import Quiet
from mira.selection.ranks.steps import value_parts, write_parts
from mira.selection.stage import STAGE, select, selection_inputs
from mira.sharing.worker import as_worker
from mira.stage import Share, all_shards
from selection.ranks.test_workers import WRITTEN, outputs
from support.endpoint_server import CompletionsServer, DataManServer
from support.selection_world import Item, World

OF = 3


def text(source, at, number):
    return f"{'a' * number} document {at}-{number} of {source} quality{number % 5 + 1}"


def world(folder):
    shards = {s: [[Item(f"{s}{at}{n}", [5.0], text(s, at, n)) for n in range(8)] for at in range(3)] for s in "xy"}
    return World(folder, shards, {})


def settings(world, method, url):
    endpoint = {"endpoint": {"base_url": url, "model": "m", "identity": "m"}}
    return world.config(method=method, scope="global", budget="40%", **{method: endpoint})


def worker(config, run, index, parts, step, of=OF):
    """Do a worker's shards of a step, or with `of` = 1 all of them."""
    inputs = selection_inputs(config, run, Quiet())
    with as_worker(index, OF):
        found = list(do_shards(lambda wanted: parts(inputs, wanted), run, step, Quiet(), Share(index % of, of)))
    assert [item.error for item in found if item.error] == []
    return found


@pytest.mark.parametrize(("method", "server"), [("dataman", DataManServer), ("ppl", CompletionsServer)])
def test_workers_ask_about_their_shards_and_the_selection_is_the_same(tmp_path, method, server):
    alone, shared = world(tmp_path / "alone"), world(tmp_path / "shared")
    with server() as running:
        select(settings(alone, method, running.url), alone.run, Quiet())
        running.bodies.clear()
        config = settings(shared, method, running.url)
        (step,) = [step for step in STAGE.steps if step.name == "values"]
        assert step.paid(config, shared.run)
        left = [i for part in step.parts(config, shared.run, Quiet(), all_shards) for i in part.items if not i.done]
        assert (len(left), running.bodies) == (6, []), "looking at what is left asks nothing"
        for index in range(OF):
            worker(config, shared.run, index, value_parts, "values")
        assert len(running.bodies) == 48
        assert all(item.done for item in worker(config, shared.run, 0, value_parts, "values"))
        for index in range(OF):
            worker(config, shared.run, index, write_parts, "write")
        select(config, shared.run, Quiet())
        assert len(running.bodies) == 48, "the gathering asks nothing"
    assert outputs(shared.run) == outputs(alone.run)
    assert set(WRITTEN) <= {path.name for path in shared.run.path.iterdir()}


def test_two_workers_forced_on_every_shard_ask_once(tmp_path):
    made = world(tmp_path)
    with DataManServer() as running:
        config = settings(made, "dataman", running.url)
        threads = [
            threading.Thread(target=worker, args=(config, made.run, index, value_parts, "values", 1))
            for index in range(2)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert set(running.of_text.values()) == {1}
        assert len(running.of_text) == 48
    assert len(list(made.run.journal.glob("dataman-*.jsonl.zst"))) == 2
