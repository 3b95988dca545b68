"""A worker finds the same shards as a run, and reads no more of the files than it must."""

from pathlib import Path

import orjson
import pytest

from mira.config.settings import Config
from mira.corpus import Shard, shards
from mira.stage import Share
from support.corpus_project import Project

WORKERS = 3


@pytest.fixture
def config(project: Project) -> Config:
    """Settings of one large file of many slices and of some small files."""
    project.lines("d/large.jsonl", *({"id": str(n), "text": f"text {n} " * (n % 40)} for n in range(400)))
    for n in range(12):
        project.lines(f"d/small-{n}.jsonl", {"id": f"s{n}", "text": "x"})
    return project.config(project.source("d"), shard_bytes=4096)


def of_worker(config: Config, index: int) -> list[Shard]:
    return shards(config.corpus, wanted=Share(index, WORKERS))["s"]


def notes(project: Project, name: str) -> dict[str, list[list[object]]]:
    found: dict[str, list[list[object]]] = orjson.loads((project.run.path / name).read_bytes())
    return found


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1)])
def test_the_shares_of_all_workers_are_the_shards_of_a_run(
    config: Config, order: tuple[int, ...], tmp_path_factory: pytest.TempPathFactory
) -> None:
    alone = config.model_copy(update={"run": tmp_path_factory.mktemp("alone")})
    whole = shards(alone.corpus)["s"]
    assert len(whole) > 20
    parts = {index: of_worker(config, index) for index in order}
    assert all(parts.values())
    assert sorted((s for found in parts.values() for s in found), key=whole.index) == whole


def test_a_worker_notes_only_the_files_of_its_shards(config: Config, project: Project) -> None:
    own = {Path(shard.path).name for shard in of_worker(config, 1)}
    known = notes(project, "workers/files-1-of-3.json")
    assert {key.partition("|")[0].rpartition("/")[2] for key in known} == own | {"large.jsonl"}
    (large,) = (pieces for key, pieces in known.items() if "large.jsonl" in key)
    hashed = [start for start, _, _, digest in large if digest]
    assert hashed == [shard.start for shard in of_worker(config, 1) if shard.path.endswith("large.jsonl")]


def test_a_run_takes_over_what_workers_noted(config: Config, project: Project) -> None:
    for index in range(WORKERS):
        of_worker(config, index)
    marked = project.run.path / "workers" / "files-0-of-3.json"
    known = notes(project, "workers/files-0-of-3.json")
    key = next(key for key in known if "small" in key)
    known[key][0][3] = "0123456789abcdef"  # what nobody could read from the file
    marked.write_bytes(orjson.dumps(known))
    shards(config.corpus)
    taken = notes(project, "index/.fingerprints.json")
    assert taken[key] == known[key]
    assert all(first_line and digest for pieces in taken.values() for _, _, first_line, digest in pieces)


def test_a_file_that_changed_is_read_again(config: Config, project: Project) -> None:
    for index in range(WORKERS):
        of_worker(config, index)
    path = project.lines("d/small-3.jsonl", {"id": "s3", "text": "another text"})
    (now,) = (shard for shard in shards(config.corpus)["s"] if shard.path == str(path))
    again = [shard for index in range(WORKERS) for shard in of_worker(config, index) if shard.path == str(path)]
    assert again == [now]
