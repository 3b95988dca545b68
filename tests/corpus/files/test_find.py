import os
from pathlib import Path

import fsspec
import orjson
import pyarrow as pa
import pytest

from mira.corpus import described, shards
from mira.corpus.files.find import find
from mira.errors import InputError
from support.corpus_project import Project

ROW = {"text": "a text"}
TREE = (
    "a.jsonl",
    "deep/er/b.jsonl.xz",
    ".hidden.jsonl",
    ".cache/c.jsonl",
    "_temporary/0/d.jsonl",
    "__MACOSX/._a.jsonl",
    "dataset_infos.json",
    "cache-12ab.arrow",
    "notes.csv",
    "_SUCCESS",
)
SKIPPED = "names that start with . or _"


def names(project: Project, path: str) -> list[str]:
    return sorted(find(str(project.folder / path)).files.values())


def arrow(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    table = pa.table({"text": ["x"]})
    with pa.ipc.new_stream(path, table.schema) as writer:
        writer.write_table(table)


@pytest.mark.parametrize("path", ["data", "data/**/*.j*", "data/**"])
def test_folders_and_globs_leave_out_the_same(project: Project, path: str) -> None:
    for name in TREE:
        project.lines(f"data/{name}", ROW)
    if path == "data/**":
        (project.folder / "data/notes.csv").unlink()  # a glob that names another format is a mistake
    assert names(project, path) == ["a.jsonl", "deep/er/b.jsonl.xz"]


def test_a_url_leaves_out_the_same(project: Project) -> None:
    fs = fsspec.filesystem("memory")
    fs.pipe({f"/find/data/{name}": b'{"text": "x"}\n' for name in TREE})
    fs.pipe({"/find/data/ds/state.json": b'{"_data_files": [{"filename": "x.arrow"}]}', "/find/data/ds/x.arrow": b""})
    fs.pipe({"/find/data/ds/y.arrow": b""})
    try:
        found = find("memory://find/data")
        assert sorted(found.files.values()) == ["a.jsonl", "deep/er/b.jsonl.xz", "ds/x.arrow"]
        assert "files that state.json does not name" in found.left_out
        assert sorted(find("memory://find/data/**/*.jsonl*").files.values()) == ["a.jsonl", "deep/er/b.jsonl.xz"]
    finally:
        fs.rm("/find", recursive=True)


def test_what_is_spelt_out_is_read(project: Project) -> None:
    for name in ("_old/a.jsonl", ".b.jsonl"):
        project.lines(f"data/{name}", ROW)
    assert names(project, "data/_old/*.jsonl") == ["a.jsonl"]
    assert names(project, "data/_o*/*.jsonl") == ["_old/a.jsonl"]
    assert names(project, "data/.b.jsonl") == [".b.jsonl"]
    assert names(project, "data/.*.jsonl") == [".b.jsonl"]


def test_what_is_left_out_is_told(project: Project) -> None:
    for name in TREE:
        project.lines(f"data/{name}", ROW)
    (project.folder / "data/gone.jsonl").symlink_to("nowhere")
    config = project.config(project.source("data"))
    line = described(config.source("s"), config.run)
    assert line.startswith(f"reads 2 file(s) (1 .jsonl, 1 .jsonl.xz), first {project.folder}/data/a.jsonl; leaves out ")
    for part in (
        "1 .csv files, such as",
        f"5 {SKIPPED}",
        "1 broken links",
        "1 caches of data sets",
        "1 descriptions of",
    ):
        assert part in line


def test_links_are_followed_once(project: Project) -> None:
    project.lines("data/a.jsonl", ROW)
    project.lines("other/b.jsonl", ROW)
    (project.folder / "data/loop").symlink_to(project.folder / "data")
    (project.folder / "data/again.jsonl").symlink_to("a.jsonl")
    (project.folder / "data/there").symlink_to(project.folder / "other")
    (project.folder / "data/there2").symlink_to(project.folder / "other")
    for path in ("data", "data/**/*.jsonl"):
        found = find(str(project.folder / path))
        assert sorted(found.files.values()) == ["a.jsonl", "there/b.jsonl"]
        assert len(found.left_out["links to what is read already"]) == 3
    config = project.config(project.source(["data/a.jsonl", "data/again.jsonl"]))
    assert len(shards(config.corpus)["s"]) == 1


@pytest.mark.parametrize("path", ["data", "data/**/*.arrow"])
def test_state_json_is_obeyed_at_any_depth(project: Project, path: str) -> None:
    for name in ("in/ds/data-0.arrow", "in/ds/old.arrow", "in/ds/parts/p.arrow", "free.arrow"):
        arrow(project.folder / "data" / name)
    listed = [{"filename": "data-0.arrow"}, {"filename": "parts/p.arrow"}]
    project.put("data/in/ds/state.json", orjson.dumps({"_data_files": listed}))
    assert names(project, path) == ["free.arrow", "in/ds/data-0.arrow", "in/ds/parts/p.arrow"]


@pytest.mark.parametrize(
    ("files", "problem"),
    [
        ([{"filename": "../secret.arrow"}], r"state\.json: names a file outside its folder: '\.\./secret"),
        ([{"filename": "a/../../b.arrow"}], "outside its folder"),
        ([{"filename": "/etc/passwd"}], "outside its folder"),
        ([{"filename": "s3://bucket/x.arrow"}], "outside its folder"),
        (["a.arrow"], "not a list of file names"),
        ({"a": 1}, "not a list of file names"),
        ([{"filename": "gone.arrow"}], "names gone.arrow, which is not there"),
    ],
)
def test_a_state_json_that_cannot_be_obeyed_is_refused(project: Project, files: object, problem: str) -> None:
    arrow(project.folder / "ds/a.arrow")
    arrow(project.folder / "secret.arrow")
    project.put("ds/state.json", orjson.dumps({"_data_files": files}))
    with pytest.raises(InputError, match=problem):
        shards(project.config(project.source("ds")).corpus)


def test_splits_further_down_are_refused_too(project: Project) -> None:
    arrow(project.folder / "data/ds/train/a.arrow")
    project.put("data/ds/dataset_dict.json", b'{"splits": ["train", "test"]}')
    with pytest.raises(InputError, match="holds the splits train, test"):
        shards(project.config(project.source("data")).corpus)


def test_what_is_no_regular_file_is_left_out(project: Project) -> None:
    project.lines("data/a.jsonl", ROW)
    os.mkfifo(project.folder / "data/pipe.jsonl")
    found = find(str(project.folder / "data"))
    assert list(found.files.values()) == ["a.jsonl"]
    assert list(found.left_out) == ["no regular files"]


def test_what_the_run_itself_wrote_is_no_source(project: Project) -> None:
    project.lines("a.jsonl", ROW)
    project.lines("run/selected/s/a.jsonl", ROW)
    project.lines("runner/b.jsonl", ROW)
    for path in (".", "**/*.jsonl"):
        config = project.config(project.source(path))
        assert [Path(s.path).relative_to(project.folder).as_posix() for s in shards(config.corpus)["s"]] == [
            "a.jsonl",
            "runner/b.jsonl",
        ]
        assert "1 files of the run folder" in described(config.source("s"), config.run)
    assert names(project, "run/selected/s/*.jsonl") == ["a.jsonl"], "unless the path says so"
