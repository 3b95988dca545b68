"""A run folder at a URL: the same files as in a folder, and a working copy that is never believed more than the URL."""

import os
import pickle
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import fsspec
import orjson
import pyarrow as pa
import pytest

from mira.config.settings import Config
from mira.errors import ConfigError
from mira.pipeline.outputs import measure
from mira.pipeline.runner import run_stages, stage_states
from mira.run_folder.files import (
    KEY,
    atomic,
    hash_file,
    read_key,
    remove_folder,
    remove_others,
    together,
    write_bytes,
    write_parquet,
)
from mira.run_folder.paths import RunFolder
from mira.run_folder.ranged import prefetch_footers, read_footer
from mira.run_folder.receipts import receipts
from mira.run_folder.stored import StoredPath, run_path
from mira.run_folder.working_copy import Recorded, apply_changes, fetch, refresh, working_copy_of

MEMORY = fsspec.filesystem("memory")


@pytest.fixture
def url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("MIRA_CACHE", str(tmp_path / "cache"))
    place = f"/{uuid4().hex}"
    yield f"memory://{place}/run"
    if MEMORY.exists(place):
        MEMORY.rm(place, recursive=True)


def _objects(url: str) -> dict[str, bytes]:
    top = MEMORY._strip_protocol(url)
    found = {path[len(top) + 1 :]: MEMORY.cat(path) for path in MEMORY.find(top)}
    return {name: content for name, content in found.items() if not name.startswith("leases/")}


def _put(url: str, name: str, content: bytes) -> None:
    """Put an object as another machine does."""
    MEMORY.pipe(f"{MEMORY._strip_protocol(url)}/{name}", content)


def _config(tmp_path: Path, run: str) -> Config:
    folder = tmp_path / "source"
    folder.mkdir(exist_ok=True)
    for n in range(3):
        rows = [{"id": f"r{n}.{i}", "text": f"Text {n} number {i}. " * (1 + i % 5)} for i in range(40)]
        (folder / f"{n}.jsonl").write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows))
    select = {"method": "random", "scope": "source", "budget": "40%"}
    return Config.model_validate({"run": run, "sources": [{"name": "a", "path": str(folder)}], "select": select})


def test_a_run_at_a_url_is_the_run_in_a_folder(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    far, near = _config(tmp_path, url), _config(tmp_path, str(tmp_path / "near" / "run"))
    assert run_stages(far) == run_stages(near) == ["index", "select", "report"]
    there, here = _objects(url), near.run
    local = {p.relative_to(here).as_posix() for p in here.rglob("*") if p.is_file()}
    assert set(there) == {n for n in local if not n.startswith((".", "values/", "index/.")) and n != ".lock"}
    assert [n for n in there if n[0] == "s" and there[n] != (here / n).read_bytes() and "sums/" not in n] == []
    assert there["thresholds.json"] == (here / "thresholds.json").read_bytes()

    monkeypatch.setenv("MIRA_CACHE", str(tmp_path / "another machine"))
    again = _config(tmp_path, url)
    assert [state.reasons for state in stage_states(again)] == [()] * 3
    fetched = {p.relative_to(str(again.run)).parts[0] for p in Path(str(again.run)).rglob("*") if p.is_file()}
    assert fetched <= {"manifest.json", "sums", "index"}  # "index": hashes of the sources, which are of this machine
    assert run_stages(again) == []


def test_a_run_moves_into_a_bucket_and_back(url: str, tmp_path: Path) -> None:
    near = _config(tmp_path, str(tmp_path / "run"))
    run_stages(near)
    for path in near.run.rglob("*"):
        if path.is_file():
            _put(url, path.relative_to(near.run).as_posix(), path.read_bytes())
    assert run_stages(_config(tmp_path, url)) == []
    for name, content in _objects(url).items():
        write_bytes(tmp_path / "back" / name, content)
    assert run_stages(_config(tmp_path, str(tmp_path / "back"))) == []


def test_what_is_at_the_url_counts(url: str) -> None:
    folder = run_path(url)
    write_bytes(folder / "scores" / "a" / "0.parquet", b"first")
    assert _objects(url) == {"scores/a/0.parquet": b"first"}
    assert (folder / "scores" / "a" / "0.parquet").read_bytes() == b"first"
    _put(url, "scores/a/0.parquet", b"other")  # of the same size
    _put(url, "scores/a/1.parquet", b"new")
    refresh(folder)
    assert (folder / "scores" / "a" / "0.parquet").read_bytes() == b"other"
    assert [p.name for p in (folder / "scores").glob("*/*.parquet")] == ["0.parquet", "1.parquet"]
    MEMORY.rm(f"{MEMORY._strip_protocol(url)}/scores/a/0.parquet")
    refresh(folder)
    assert not (folder / "scores" / "a" / "0.parquet").exists()
    assert [p.name for p in (folder / "scores" / "a").iterdir()] == ["1.parquet"]


def test_a_copy_that_was_changed_here_is_fetched_again(url: str) -> None:
    path = run_path(url) / "groups.json"
    write_bytes(path, b"right")
    Path(str(path)).write_bytes(b"wrong")
    assert path.read_bytes() == b"right"


def test_what_is_of_this_machine_stays_here(url: str) -> None:
    folder = run_path(url)
    for name in (".lock", "values/mira/a/0.parquet", ".cache/x", "index/.fingerprints.json", "students/.A.new/f"):
        write_bytes(folder / name, b"here")
        assert (folder / name).exists()
    assert _objects(url) == {}


def test_files_that_are_put_together_are_there_in_order(url: str) -> None:
    folder = run_path(url)
    with together():
        for n in range(20):
            with atomic(folder / "selection" / f"{n}") as outer:
                write_bytes(folder / "selected" / f"{n}", b"kept")
                outer.write_bytes(b"sidecar")
        assert _objects(url) == {}
    assert len(_objects(url)) == 40


def test_a_write_that_fails_leaves_what_was_there(url: str) -> None:
    path = run_path(url) / "groups.json"
    write_bytes(path, b"before")
    with pytest.raises(ZeroDivisionError), atomic(path) as temporary:
        temporary.write_bytes(b"half")
        raise ZeroDivisionError
    assert _objects(url) == {"groups.json": b"before"}
    assert path.read_bytes() == b"before"
    assert [p.name for p in Path(str(path.parent)).iterdir()] == ["groups.json"]


def test_removing_removes_at_the_url(url: str) -> None:
    folder = run_path(url)
    for n in range(3):
        write_bytes(folder / "scores" / f"{n}", b"x")
    remove_others((folder / "scores").glob("*"), {folder / "scores" / "1"})
    assert list(_objects(url)) == ["scores/1"]
    (folder / "scores" / "1").unlink()
    with pytest.raises(FileNotFoundError):
        (folder / "scores" / "1").unlink()
    write_bytes(folder / "flags" / "a" / "0", b"x")
    remove_folder(folder / "flags")
    assert _objects(url) == {}
    assert not (folder / "flags").exists()


def test_a_finished_folder_takes_the_place_of_another(url: str) -> None:
    students = run_path(url) / "students"
    for name in ("bundle.json", "weights", "SHA256SUMS"):
        write_bytes(students / "A" / name, b"old")
        if name != "weights":
            write_bytes(students / ".A.new" / name, b"new")
    (students / "A").replace(students / ".A.old")
    (students / ".A.new").replace(students / "A")
    assert _objects(url) == {f"students/A/{name}": b"new" for name in ("bundle.json", "SHA256SUMS")}
    assert sorted(p.name for p in (students / "A").iterdir()) == ["SHA256SUMS", "bundle.json"]
    assert (students / ".A.old" / "bundle.json").read_bytes() == b"old"


def test_another_machine_finds_the_same_object_elsewhere(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = RunFolder(run_path(url))
    write_bytes(run.groups, b"groups")
    job = pickle.dumps((run, run.scores("a")))
    monkeypatch.setenv("MIRA_CACHE", str(tmp_path / "elsewhere"))
    there, scores = pickle.loads(job)
    assert str(there.path).startswith(str(tmp_path / "elsewhere"))
    assert f"{scores}" == f"{url}/scores/a"
    assert there.groups.read_bytes() == b"groups"
    assert isinstance(scores, StoredPath)


def test_the_parent_learns_what_a_worker_put_and_removed(url: str) -> None:
    folder = run_path(url)
    write_bytes(folder / "scores" / "gone", b"x")
    copy, _ = working_copy_of(folder) or pytest.fail("no working copy")

    def work(name: str) -> int:
        write_bytes(folder / "scores" / name, b"content")
        (folder / "scores" / "gone").unlink()
        return 7

    result, changes = pickle.loads(pickle.dumps(Recorded(work)("new")))
    for name, known in (("scores/new", None), ("scores/gone", copy.store.stat("scores/new"))):
        copy.set(name, known)  # as the parent, who has not heard of it
    assert not (folder / "scores" / "new").exists()
    apply_changes(changes)
    assert result == 7
    assert [p.name for p in (folder / "scores").iterdir()] == ["new"]


def test_measuring_fetches_only_what_is_not_known(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = RunFolder(run_path(url))
    for n in range(3):
        write_bytes(run.scores("a") / f"{n}.parquet", b"%d" % n)
    known = measure(run, [run.path / "scores"])
    monkeypatch.setenv("MIRA_CACHE", str(tmp_path / "elsewhere"))
    other = RunFolder(run_path(url))
    assert measure(other, [other.path / "scores"], known) == known
    assert not Path(str(other.scores("a"))).exists()
    _put(url, "scores/a/1.parquet", b"9")
    refresh(other.path)
    found = measure(other, [other.path / "scores"], known)
    assert [name for name in found if found[name] != known[name]] == ["scores/a/1.parquet"]
    assert [p.name for p in Path(str(other.scores("a"))).iterdir()] == ["1.parquet"]


def test_many_are_fetched_at_once_by_name(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for n in range(40):
        _put(url, f"index/a/{n}.parquet", b"%d" % n)
    folder = run_path(url) / "index" / "a"
    fetch([str(path) for path in folder.glob("*.parquet")])
    assert len(list(Path(str(folder)).iterdir())) == 40
    fetch([tmp_path / "no run"])  # a path of this machine: nothing to do


def test_a_place_that_cannot_be_used_is_refused_in_one_line(tmp_path: Path) -> None:
    config = _config(tmp_path, "http://127.0.0.1:9/run")
    with pytest.raises(ConfigError, match="cannot write to http://"):
        run_stages(config)


def test_a_folder_url_is_the_folder(tmp_path: Path) -> None:
    assert run_path(f"file://{tmp_path}/run") == tmp_path / "run"
    assert not isinstance(run_path(tmp_path), StoredPath)


def test_the_command_line_shows_the_url(tmp_path: Path) -> None:
    settings = _config(tmp_path, "x").model_dump(mode="json", exclude_defaults=True) | {"run": "http://127.0.0.1:9/r"}
    (tmp_path / "mira.yaml").write_bytes(orjson.dumps(settings))
    env = {**os.environ, "MIRA_CACHE": str(tmp_path / "cache"), "COLUMNS": "300"}
    command = [sys.executable, "-m", "mira", "run", str(tmp_path / "mira.yaml")]
    done = subprocess.run(command, capture_output=True, text=True, env=env, check=False)
    assert done.returncode == 2
    assert "run: 'http://127.0.0.1:9/r': mira cannot write to http://" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_receipt_says_hashes_of_what_others_need_not_read(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = RunFolder(run_path(url))
    with pytest.raises(ZeroDivisionError), receipts(run.path, "worker 1") as report:  # of a worker that is stopped
        for n in range(3):
            write_bytes(run.scores("a") / f"{n}.parquet", b"%d" % n)
            report()
        raise ZeroDivisionError
    with receipts(run.path, "worker 1"):
        pass  # nothing new
    assert len([name for name in _objects(url) if name.startswith("receipts/")]) == 1
    _put(url, "scores/a/1.parquet", b"9")  # by somebody who reports nothing
    monkeypatch.setenv("MIRA_CACHE", str(tmp_path / "elsewhere"))
    other = RunFolder(run_path(url))
    found = measure(other, [other.path / "scores"])
    assert [hash_file(other.scores("a") / f"{n}.parquet") for n in (0, 2)] == [
        found[f"scores/a/{n}.parquet"][3] for n in (0, 2)
    ]
    assert [p.name for p in Path(str(other.scores("a"))).iterdir()] == ["1.parquet"]
    for n, content in enumerate((b"0", b"9", b"2")):
        write_bytes(tmp_path / "same", content)
        assert found[f"scores/a/{n}.parquet"][3] == hash_file(tmp_path / "same")
    assert measure(other, [other.path / "scores"], read=True) == found
    assert len(list(Path(str(other.scores("a"))).iterdir())) == 3


def test_a_worker_process_lists_anew_for_each_map(url: str) -> None:
    folder = run_path(url)

    def listed(_: int) -> list[str]:
        return sorted(path.name for path in (folder / "index").glob("*"))

    first, second = Recorded(listed), Recorded(listed)
    assert first(0)[0] == []
    _put(url, "index/other", b"by another machine")
    assert first(0)[0] == []
    assert second(0)[0] == ["other"]


def test_leftovers_of_a_folder_that_is_gone_are_no_hindrance(url: str) -> None:
    students = run_path(url) / "students"
    (students / "A").mkdir()
    Path(str(students / "A" / "left")).write_bytes(b"here alone")
    write_bytes(students / ".A.new" / "bundle.json", b"new")
    (students / ".A.new").replace(students / "A")
    assert _objects(url) == {"students/A/bundle.json": b"new"}
    assert [p.name for p in Path(str(students / "A")).iterdir()] == ["bundle.json"]


def test_a_footer_is_read_without_the_file(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = run_path(url) / "scores" / "a"
    long = {b"long": b"x" * 200_000}
    for n, facts in enumerate(({KEY: b"0"}, {KEY: b"1", **long})):
        table = pa.table({"n": range(100_000)}).replace_schema_metadata(facts)
        write_parquet(folder / f"{n}.parquet", table)
    write_bytes(folder / "torn.parquet", b"PAR1 torn")
    monkeypatch.setenv("MIRA_CACHE", str(tmp_path / "elsewhere"))
    folder = run_path(url) / "scores" / "a"
    prefetch_footers(folder.glob("*"))
    assert [read_key(folder / f"{n}.parquet") for n in range(2)] == ["0", "1"]
    assert [read_footer(folder / f"{n}.parquet").num_rows for n in range(2)] == [100_000] * 2
    assert read_key(folder / "torn.parquet") == read_key(folder / "missing.parquet") == ""
    assert not Path(str(folder)).exists()
    write_parquet(folder / "0.parquet", pa.table({"n": [1]}).replace_schema_metadata({KEY: b"new"}))
    assert read_key(folder / "0.parquet") == "new"
