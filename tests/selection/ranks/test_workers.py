import random
import shutil
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import fsspec
import orjson
import pytest

from mira.config.settings import Config
from mira.errors import ConfigError, RunError
from mira.progress import Quiet
from mira.run_folder.paths import RunFolder
from mira.run_folder.working_copy import working_copy_of
from mira.selection.ranks import agree
from mira.selection.ranks.steps import value_parts, write_parts
from mira.selection.stage import select, selection_inputs
from mira.sharing import lease
from mira.sharing.worker import as_worker
from mira.stage import Share, all_shards, do_parts
from support.selection_workers import WRITTEN, hash_bytes, outputs, world


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    return world(tmp_path_factory.mktemp("world"))


def copy_of(world, folder, **settings):
    """Return settings of a run folder with what came before the selection, and nothing of it."""
    given = world.config(**settings)
    target = folder / "run"
    shutil.copytree(world.run.path, target, ignore=shutil.ignore_patterns(*WRITTEN, "values", "ranks", "written"))
    return Config.model_validate({**given.model_dump(mode="json"), "run": target})


def work(config, parts, seed=0, of=5):
    """Do a step by workers of their own, in any order."""
    inputs = selection_inputs(config, RunFolder(config.run), Quiet())
    workers = [Share(index, of) for index in range(of)]
    random.Random(seed).shuffle(workers)
    for worker in workers:
        shutil.rmtree(str(config.run / "values"), ignore_errors=True)  # of another machine
        assert all(item.error is None for item in do_parts(parts(inputs, worker)))


def left(config, parts):
    inputs = selection_inputs(config, RunFolder(config.run), Quiet())
    return [item for part in parts(inputs, all_shards) for item in part.items if not item.done]


CASES = {
    "plain": {},
    "source": {"scope": "source", "budget": "7%"},
    "bounds": {"scope": "global", "source_min": {"ant": "60%"}, "source_max": {"bee": "10%"}},
    "skip": {"fit": "skip", "scope": "global", "budget": 1501, "source_max": {"bee": 300}},
    "temperature": {"temperature": 0.5},
    "strata": {"length": {"control": "strata", "strata": 3}},
    "shared slots": {"compare_by": "shared", "scope": "global"},
    "random": {"method": "random", "budget": "20%"},
    "raw": {"method": "raw"},
    "not written": {"write_selected": False, "scope": "group", "budget": "30%"},
}


@pytest.mark.parametrize("settings", CASES.values(), ids=CASES.keys())
def test_workers_in_any_order_write_what_a_local_run_writes(shared, tmp_path, settings):
    shared.select(**settings)
    wanted = outputs(shared.run)
    config = copy_of(shared, tmp_path, **settings)
    work(config, value_parts)
    work(config, write_parts, seed=1)
    assert not left(config, value_parts) and not left(config, write_parts)
    shutil.rmtree(config.run / "values")
    times = {path: path.stat().st_mtime_ns for path in (config.run / "selection").rglob("*.parquet")}
    select(config, RunFolder(config.run), Quiet())
    assert outputs(RunFolder(config.run)) == wanted
    assert times == {path: path.stat().st_mtime_ns for path in times} and len(times) == 6
    assert not (config.run / "values" / "mira").exists()


def test_values_of_other_scores_are_not_taken(tmp_path):
    made = world(tmp_path, n=12)
    config = made.config()
    work(config, value_parts)
    work(config, write_parts)
    for item in made.sources["ant"][1]:
        item.scores = [10 - score for score in item.scores]
    made.score("ant")
    assert [(item.source, item.shard) for item in left(config, value_parts)] == [("ant", "part_001")]
    assert len(left(config, write_parts)) == 6  # the plan was made of other values
    with pytest.raises(RunError, match="1 of 6 shards have no values yet"):
        work(config, write_parts)
    select(config, made.run, Quiet())
    found = outputs(made.run)
    again = copy_of(made, tmp_path / "again")
    select(again, RunFolder(again.run), Quiet())
    assert outputs(RunFolder(again.run)) == found


def test_a_worker_removes_nothing_and_takes_no_file_of_another_selection(tmp_path):
    made = world(tmp_path, n=12)
    first, second = made.config(budget="30%"), made.config(budget="60%")
    work(first, value_parts)
    work(first, write_parts)
    plan = (made.run.path / "plan.json").read_bytes()
    files = {path: path.read_bytes() for path in (made.run.path / "selection").rglob("*.parquet")}
    assert len(left(second, write_parts)) == 6 and not left(second, value_parts)
    inputs = selection_inputs(second, made.run, Quiet())
    (part,) = write_parts(inputs, all_shards)
    (item,) = part.run([item for item in part.items if (item.source, item.shard) == ("ant", "part_000")])
    assert item.error is None
    assert (made.run.path / "plan.json").read_bytes() != plan
    other = made.run.selection("ant") / "part_000.parquet"
    assert {path for path, was in files.items() if path.read_bytes() != was} == {other}
    assert len(left(second, write_parts)) == 5
    select(second, made.run, Quiet())
    found = outputs(made.run)
    again = copy_of(made, tmp_path / "again", budget="60%")
    select(again, RunFolder(again.run), Quiet())
    assert outputs(RunFolder(again.run)) == found


def test_a_selection_that_workers_cannot_do_removes_what_they_wrote(tmp_path):
    made = world(tmp_path, n=12)
    gates = [{"value": "mira", "drop": "10%", "sources": ["ant"]}]
    made.select(gates=gates)
    wanted = outputs(made.run)
    work(made.config(), value_parts)
    work(made.config(), write_parts)
    assert outputs(made.run) != wanted
    made.select(gates=gates)
    assert outputs(made.run) == wanted


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"gates": [{"value": "mira", "drop": "10%", "sources": ["ant"]}]}, "select.gates have floors"),
        ({"method": "dsir", "dsir": {"target": {"name": "t", "path": "t.jsonl"}}}, "dsir is fitted"),
        ({"method": "ppl"}, "n-gram model"),
        ({"compare_by": "centred"}, "level of every slot"),
    ],
)
@pytest.mark.parametrize("parts", [value_parts, write_parts])
def test_what_workers_cannot_do_is_refused_with_the_way_out(shared, settings, why, parts):
    inputs = selection_inputs(shared.config(**settings), shared.run, Quiet())
    with pytest.raises(ConfigError, match=why) as refused:
        next(parts(inputs, all_shards))
    assert "mira select CONFIG" in refused.value.hint


@pytest.mark.parametrize("damage", [b"", b"x" * 70_000, b"[]"])
def test_damaged_files_of_workers_are_made_again(tmp_path, damage):
    made = world(tmp_path, n=12)
    config = made.config()
    made.select()
    wanted = outputs(made.run)
    work(config, value_parts)
    work(config, write_parts)
    ranks = made.run.path / "ranks" / "mira" / "ant" / "part_000.parquet"
    whole, plan = ranks.read_bytes(), (made.run.path / "plan.json").read_bytes()
    for path in (ranks, made.run.written("bee") / "part_001.json", made.run.selection("cat") / "part_001.parquet"):
        path.write_bytes(damage)
    assert len(left(config, value_parts)) == 1 and len(left(config, write_parts)) == 2
    (made.run.path / "plan.json").write_bytes(damage)
    assert len(left(config, write_parts)) == 6
    select(config, made.run, Quiet())
    assert outputs(made.run) == wanted
    assert (ranks.read_bytes(), (made.run.path / "plan.json").read_bytes()) == (whole, plan)
    changed = orjson.loads(plan) | {"folder": "random"}
    (made.run.path / "plan.json").write_bytes(orjson.dumps(changed))
    assert len(left(config, write_parts)) == 6


def test_cutoffs_of_a_run_at_a_url_need_neither_scores_nor_values(tmp_path, monkeypatch):
    """The machine that gathers lists the scores, and reads neither them nor the index."""
    monkeypatch.setenv("MIRA_CACHE", str(tmp_path / "cache"))
    made = world(tmp_path, n=12)
    made.select()
    wanted = outputs(made.run)
    url = f"memory://{tmp_path}/run"
    memory = fsspec.filesystem("memory")
    for path in sorted(made.run.path.rglob("*")):
        name = path.relative_to(made.run.path).as_posix()
        if path.is_file() and not name.startswith((*WRITTEN, "values")) and "/." not in f"/{name}":
            memory.pipe(f"{tmp_path}/run/{name}", path.read_bytes())
    config = Config.model_validate({**made.config().model_dump(mode="json"), "run": url})
    for parts in (value_parts, write_parts):
        work(config, parts)
        shutil.rmtree(str(config.run))
    copy, read = working_copy_of(config.run)[0], []
    fetched = copy.fetch
    monkeypatch.setattr(copy, "fetch", lambda name: read.append(name) or fetched(name))
    select(config, RunFolder(config.run), Quiet())
    assert not {name.partition("/")[0] for name in read if name.endswith(".parquet")} & {"scores", "index", "ranks"}
    found = {name: memory.cat(f"{tmp_path}/run/{name}") for name in wanted}
    assert {name: hash_bytes(content) for name, content in found.items()} == wanted


def test_of_several_workers_one_finds_the_cutoffs(tmp_path, monkeypatch):
    made = world(tmp_path, n=12)
    config = made.config()
    work(config, value_parts)
    monkeypatch.setattr(lease, "BEAT_S", 0.2)
    started, calls, find = threading.Barrier(3), [], agree.shared_plan

    def slowly(*args, **options):
        calls.append(args)
        time.sleep(0.5)
        return find(*args, **options)

    monkeypatch.setattr(agree, "shared_plan", slowly)

    def worker(index):
        inputs = selection_inputs(config, RunFolder(config.run), Quiet())
        with as_worker(index, 3):
            (part,) = write_parts(inputs, Share(index, 3))
            started.wait(60)
            return [item.error for item in part.run(part.items)]

    with ThreadPoolExecutor(3) as pool:
        assert not any(error for errors in pool.map(worker, range(3)) for error in errors)
    assert len(calls) == 1
    assert not left(config, write_parts)
