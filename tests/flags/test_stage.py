import shutil

import pyarrow.parquet as pq
import pytest

from mira.corpus import build_index, shards
from mira.errors import ConfigError, ConservationError, RunError
from mira.flags import dropped_rows, flags_path
from mira.flags.signatures import signature_path
from mira.progress import Quiet
from mira.run_folder.files import hash_file
from support.flags_world import World

LEAK = "the answer to the question of life the universe and everything is forty two they say"


@pytest.fixture
def world(tmp_path):
    first = {"a": "same text here", "b": LEAK, "c": "alone"}
    return World(tmp_path, {"ant": [first, {"d": "same text here"}], "bee": [{"e": "same text here", "f": LEAK}]})


def files(world, name):
    return {p: hash_file(p) for p in sorted((world.run.path / name).rglob("*.parquet"))}


def test_one_row_a_valid_record_in_order(world):
    path = world.folder / "input" / "ant" / "part_000.jsonl"
    path.write_bytes(b'{"id": "z", "text": "zz"}\n\nbroken\n' + path.read_bytes() + b'{"id": "a", "text": "again"}\n')
    build_index(world.config(), world.run, Quiet())
    summary = world.flag()
    (shard, _) = shards(world.config().corpus)["ant"]
    table = pq.read_table(flags_path(world.run, shard))
    assert table.schema.names == ["row", "id", "duplicate_of", "near_duplicate_of", "contaminated_by", "overlap"]
    assert table["row"].to_pylist() == [0, 3, 4, 5]
    assert table["id"].to_pylist() == ["z", "a", "b", "c"]
    assert summary["sources"]["ant"]["records"]["records"] == 5


def test_nothing_is_redone_while_nothing_changes_and_bytes_are_the_same(world):
    assert {k: v for k, v in world.flag().items() if k in ("read", "written", "shards")} == {
        "read": 3, "written": 3, "shards": 3,
    }  # fmt: skip
    before = files(world, "flags") | files(world, "signatures")
    again = world.flag()
    assert (again["read"], again["written"]) == (0, 0)
    assert again["sources"]["bee"]["duplicates"]["records"] >= 0
    shutil.rmtree(world.run.path / "flags")
    shutil.rmtree(world.run.path / "signatures")
    world.flag()
    assert files(world, "flags") | files(world, "signatures") == before


def test_an_interrupted_run_goes_on_where_it_stopped(world):
    summary = world.flag()
    before = files(world, "flags")
    (shard,) = shards(world.config().corpus)["bee"]
    signature_path(world.run, shard).unlink()
    flags_path(world.run, shard).unlink()
    signature_path(world.run, shard).with_name(".x.tmp").touch()
    again = world.flag()
    assert (again["read"], again["written"]) == (1, 1)
    assert again["sources"] == summary["sources"]
    assert files(world, "flags") == before
    assert not list((world.run.path / "signatures").rglob("*.tmp"))


def test_a_changed_shard_is_read_again_and_has_its_say_in_all_others(world):
    world.flag()
    world.put("bee", [{"e": "changed", "f": LEAK}])
    build_index(world.config(), world.run, Quiet())
    again = world.flag()
    assert (again["read"], again["written"]) == (1, 3)
    assert len(world.column("duplicate_of")) == 2  # one of "same text here", one of LEAK


def test_flags_of_shards_that_are_gone_are_removed(world):
    world.flag()
    (world.folder / "input" / "ant" / "part_001.jsonl").unlink()
    build_index(world.config(), world.run, Quiet())
    world.flag()
    assert len(files(world, "flags")) == len(files(world, "signatures")) == 2


def test_switching_a_part_off_takes_its_flags_away(world):
    world.flag()
    assert len(world.column("duplicate_of")) == 3
    again = world.flag(exact=False)
    assert (again["read"], again["written"]) == (0, 3)
    assert world.column("duplicate_of") == {}


def test_what_depends_on_a_setting_is_done_again_when_it_changes(world):
    pytest.importorskip("rensa")

    def done(**flags):
        summary = world.flag(**flags)
        return summary["read"], summary["written"]

    assert done() == (3, 3)
    assert done(near=True) == (3, 3)
    assert done(near=True, jaccard=0.79) == (0, 3)  # the bands are the same
    assert done(near=True, jaccard=0.79, shingle_words=2) == (3, 3)


def test_dropped_rows_follow_the_settings(world):
    bench = [{"name": "life", "path": world.benchmark("life.jsonl", {"text": LEAK})}]
    world.flag(benchmarks=bench)
    leaks = dict.fromkeys(["ant/b", "bee/f"], "contaminated")
    assert world.dropped() == world.dropped(duplicates="drop") == {}, "the selection decides which copy goes"
    assert world.dropped(contaminated="drop", benchmarks=bench) == leaks
    assert world.dropped(contaminated="drop", duplicates="drop", benchmarks=bench) == leaks


def test_near_duplicates_are_counted(tmp_path):
    pytest.importorskip("rensa")
    words = [f"word{i}" for i in range(200)]
    world = World(tmp_path, {"s": [{"a": " ".join(words), "b": " ".join([*words, "more"]), "c": "else"}]}, near=True)
    assert world.flag()["sources"]["s"]["near_duplicates"]["records"] == 1


def test_flags_are_asked_for_only_where_they_are_used(world):
    (shard,) = shards(world.config().corpus)["bee"]
    assert len(dropped_rows(world.config().flags, world.run, shard).rows) == 0
    with pytest.raises(RunError, match="mira flag"):
        dropped_rows(world.config(duplicates="drop").flags, world.run, shard)
    world.flag()
    world.put("bee", [{"f": LEAK}])
    build_index(world.config(), world.run, Quiet())
    (shard,) = shards(world.config().corpus)["bee"]
    with pytest.raises(RunError, match="has changed since it was flagged"):
        dropped_rows(world.config(duplicates="drop").flags, world.run, shard)


def test_dropping_what_is_not_looked_for_is_refused(world):
    with pytest.raises(ConfigError, match=r"no flags\.benchmarks"):
        world.flag(contaminated="drop")


def test_rows_that_do_not_add_up_are_noticed(world, monkeypatch):
    world.flag()
    (shard,) = shards(world.config().corpus)["bee"]
    path = flags_path(world.run, shard)
    metadata = {**pq.read_schema(path).metadata, b"mira.counts": b'{"records": {"records": 1, "tokens": 1}}'}
    pq.write_table(pq.read_table(path).replace_schema_metadata(metadata), path)
    with pytest.raises(ConservationError, match="source 'bee': 2 valid records, 1 rows"):
        world.flag()


def test_processes_give_what_one_does(world):
    world.flag(near=False)
    before = files(world, "flags")
    shutil.rmtree(world.run.path / "flags")
    shutil.rmtree(world.run.path / "signatures")
    world_config = world.config

    def config(**flags):
        plain = world_config(**flags)
        return plain.model_copy(update={"score": plain.score.model_copy(update={"workers": 2})})

    world.config = config
    world.flag()
    assert files(world, "flags") == before
