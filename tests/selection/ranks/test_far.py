"""A cluster whose nodes share nothing but the URL of the run: each has a working copy of its own."""

import shutil

import pytest

from mira.config.settings import Config
from mira.progress import Quiet
from mira.run_folder.paths import RunFolder
from mira.selection import map_shards
from mira.selection.stage import select
from support.node import Node
from support.selection_workers import WRITTEN, hash_bytes, outputs, world


@pytest.fixture(scope="module")
def node(tmp_path_factory):
    made = Node(str(tmp_path_factory.mktemp("node") / "cache"))
    yield made
    made.pool.shutdown()


def far(made, folder, **settings):
    """Put what came before the selection at a URL that processes can share."""
    bucket = folder / "bucket" / "run"
    shutil.copytree(made.run.path, bucket, ignore=shutil.ignore_patterns(*WRITTEN, "values", ".*"))
    given = made.config(**settings).model_dump(mode="json")
    return bucket, Config.model_validate({**given, "run": f"shared:/{bucket}", "score": {"engine": "ray"}})


CASES = {
    "mira": ({}, True),
    "gates": ({"gates": [{"value": "mira", "drop": "10%", "sources": ["ant"]}]}, False),
    "dsir": ({"method": "dsir", "dsir": {"buckets": 100}}, True),
    "ppl": ({"method": "ppl", "ppl": {"sample": 20, "order": 2}}, True),
    "centred": ({"compare_by": "centred", "temperature": 0.5}, True),
}


@pytest.mark.parametrize(("settings", "spread"), CASES.values(), ids=CASES.keys())
def test_nodes_that_share_the_url_alone_write_what_one_machine_writes(tmp_path, monkeypatch, node, settings, spread):
    made = world(tmp_path, n=12)
    if settings.get("method") == "dsir":
        target = tmp_path / "target.jsonl"
        shutil.copy(tmp_path / "input" / "ant" / "part_000.jsonl", target)
        settings = {**settings, "dsir": {**settings["dsir"], "target": {"name": "t", "path": str(target)}}}
    made.select(**settings)
    wanted = outputs(made.run)
    monkeypatch.setenv("MIRA_CACHE", str(tmp_path / "cache"))
    bucket, config = far(made, tmp_path, **settings)
    load = map_shards.load_engine
    monkeypatch.setattr(map_shards, "load_engine", lambda name, n: node if name == "ray" else load(name, n))
    node.calls.clear()
    select(config, RunFolder(config.run), Quiet())
    assert {name: hash_bytes((bucket / name).read_bytes()) for name in wanted} == wanted
    assert ({"make_ranks", "Attempt"} & set(node.calls) != set()) == spread
