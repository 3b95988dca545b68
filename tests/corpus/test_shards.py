import os
import time
from pathlib import Path
from typing import Any

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from hypothesis import given, settings
from hypothesis import strategies as st

from mira.config.settings import Config
from mira.corpus import shards
from mira.corpus.parse import Parser
from mira.corpus.shards import Format, Shard, format_of
from mira.errors import ConfigError, InputError
from support.corpus_project import Project

ROW = {"id": "1", "text": "x"}


def found(project: Project, path: object, **settings: object) -> list[Shard]:
    return shards(project.config(project.source(path), **settings).corpus)["s"]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a.jsonl", Format("jsonl", "", ".jsonl")),
        ("a.b.NDJSON.gz", Format("jsonl", "gz", ".NDJSON.gz")),
        ("a.json.zstd", Format("jsonl", "zst", ".json.zstd")),
        ("a.pq", Format("parquet", "", ".pq")),
        ("s3://b/a.arrow", Format("arrow", "", ".arrow")),
    ],
)
def test_formats_go_by_the_name(name: str, expected: Format) -> None:
    assert format_of(name) == expected


def test_shards_are_in_order_of_path_and_named_below_the_fixed_part(project: Project) -> None:
    for name in ("d/b.jsonl", "d/x/a.jsonl.gz", "d/x/ü.parquet", "e/b.jsonl"):
        project.lines(name, ROW)
    globs = found(project, ["d/**/*", "d/b.jsonl"])
    assert [Path(s.path).name for s in globs] == ["b.jsonl", "a.jsonl.gz", "ü.parquet"]
    assert [s.name for s in globs[:2]] == ["b", "x__a"]
    assert globs[2].name.isascii()
    assert [s.name for s in found(project, "d")] == [s.name for s in globs]
    assert found(project, ["e/b.jsonl", "d/**/*.gz"]) == found(project, ["d/**/*.gz", "e/b.jsonl"])


def test_names_do_not_collide(project: Project) -> None:
    for name in ("a/x.jsonl", "b/x.jsonl", "b/x.jsonl.gz", "b/X.jsonl", "b/y__z.jsonl", "b/y/z.jsonl", "b/y z.jsonl"):
        project.lines(name, ROW)
    names = [s.name.lower() for s in found(project, ["a/x.jsonl", "b"])]
    assert len(set(names)) == len(names) == 7


def test_a_name_with_wildcards_in_it_is_that_file(project: Project) -> None:
    project.lines("a[1].jsonl", ROW)
    assert [Path(s.path).name for s in found(project, "a[1].jsonl")] == ["a[1].jsonl"]


def test_the_fingerprint_follows_the_content_not_the_time(project: Project) -> None:
    path = project.lines("in.jsonl", ROW)
    first = found(project, "in.jsonl")
    os.utime(path, ns=(time.time_ns(), time.time_ns() + 10**9))
    assert found(project, "in.jsonl") == first
    project.lines("in.jsonl", {"id": "2", "text": "x"})
    os.utime(path, ns=(time.time_ns(), time.time_ns() + 2 * 10**9))
    assert found(project, "in.jsonl")[0].fingerprint != first[0].fingerprint


def test_only_plain_jsonl_is_sliced_at_line_ends(project: Project) -> None:
    rows = [{"id": str(i), "text": "x" * (i * 37 % 300)} for i in range(100)]
    data = project.lines("in.jsonl", *rows).read_bytes()
    project.lines("in2.jsonl.gz", *rows)
    slices = found(project, ["in.jsonl", "in2.jsonl.gz"], shard_bytes=2048)
    assert (slices.pop().start, len(slices) > 5) == (None, True)
    pieces = [data[s.start : s.stop] for s in slices]
    assert b"".join(pieces) == data
    assert all(p.endswith(b"\n") for p in pieces)
    assert [s.first_line for s in slices] == [1 + b"".join(pieces[:i]).count(b"\n") for i in range(len(pieces))]
    assert slices[1].where(2) == f"{project.folder / 'in.jsonl'}:{(slices[1].first_line or 0) + 2}"
    assert len({s.fingerprint for s in slices}) == len({s.name for s in slices}) == len(slices)


@settings(max_examples=40)
@given(st.lists(st.integers(1, 3000), min_size=1, max_size=30), st.integers(1024, 5000), st.booleans())
def test_reading_does_not_depend_on_slicing(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int], shard_bytes: int, crlf: bool
) -> None:
    project = Project(tmp_path_factory.mktemp("slices"))
    lines = [b'{"id": %d, "text": "%s"}' % (i, b"x" * n) if n % 7 else b"" for i, n in enumerate(sizes)]
    project.put("in.jsonl", (b"\r\n" if crlf else b"\n").join(lines) or b"\n")

    def read(config: Config) -> list[object]:
        parser = Parser(config.sources[0], config.max_record_bytes)
        return [(item.id, item.text) for s in shards(config.corpus)["s"] for item in parser.parse(s)]  # type: ignore[union-attr]

    whole = read(project.config(project.source()))
    assert len(whole) == sum(bool(line) for line in lines)
    assert read(project.config(project.source(), shard_bytes=shard_bytes)) == whole


def test_remote_files(project: Project) -> None:
    fs = fsspec.filesystem("memory")
    data = b"".join(b'{"id": %d, "text": "hello %d"}\n' % (i, i) for i in range(200))
    fs.pipe({"/box/a.jsonl": data, "/box/deep/b.jsonl": b'{"id": "b", "text": "bee"}\nnonsense\n'})
    try:
        source = {"name": "s", "path": "memory://box/**/*.jsonl"}
        config = project.config(source, shard_bytes=1024)
        slices = shards(config.corpus)["s"]
        assert {s.path for s in slices} == {"memory:///box/a.jsonl", "memory:///box/deep/b.jsonl"}
        assert len(slices) > 4
        summary = project.index(config)
        assert summary["sources"]["s"]["rejected"] == {"bad_json": 1}  # type: ignore[index]
        assert [r.id for r in project.records(config)] == [*map(str, range(200)), "b"]
        assert project.index(config)["indexed"] == 0
        assert [s.name for s in shards(project.config(source | {"path": "memory://box"}).corpus)["s"]] == [
            "a",
            "deep__b",
        ]
        with pytest.raises(InputError, match="matches no file"):
            shards(project.config(source | {"path": "memory://nothing/*.jsonl"}).corpus)
    finally:
        fs.rm("/box", recursive=True)


class Flaky(MemoryFileSystem):
    """A file system that raises its own kind of error."""

    protocol = "flaky"
    broken = "read"

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return super()._strip_protocol(path.removeprefix("flaky://"))

    def _open(self, path: str, mode: str = "rb", **options: Any) -> Any:
        file = super()._open(path, mode, **options)
        if self.broken == "read" and mode == "rb":
            file.read = self._refuse
        return file

    def _refuse(self, *_: Any) -> bytes:
        raise LookupError("the token has expired\nand more")

    def checksum(self, path: str) -> int:
        return 1 if self.broken == "read" else self._refuse()


def test_errors_of_a_remote_file_system_are_told_with_the_file(project: Project, monkeypatch: Any) -> None:
    fsspec.register_implementation("flaky", Flaky, clobber=True)
    fs = fsspec.filesystem("memory")
    fs.pipe({"/box/a.jsonl": b'{"id": 1, "text": "hello"}\n'})
    config = project.config({"name": "s", "path": "flaky://box/*.jsonl"})
    try:
        with pytest.raises(InputError, match=r"'s': \S+box/a\.jsonl: LookupError: the token has expired\n") as caught:
            project.index(config)
        assert "\n" not in caught.value.message
        monkeypatch.setattr(Flaky, "broken", "checksum")
        with pytest.raises(InputError, match=r"source 's': .*box/a\.jsonl: LookupError: the token has expired"):
            shards(config.corpus)
    finally:
        fs.rm("/box", recursive=True)


def test_a_path_with_a_password_is_refused_without_telling_it(project: Project) -> None:
    with pytest.raises(ConfigError, match="user name and password") as caught:
        shards(project.config({"name": "s", "path": "ftp://me:hush@host/a.jsonl"}).corpus)
    assert "hush" not in str(caught.value)


def test_paths_that_cannot_be_used(project: Project) -> None:
    project.lines("in.jsonl", ROW)
    project.put("in.txt", b"x")
    (project.folder / "void").mkdir()
    for path in ("no.jsonl", "*.parquet", "void"):
        with pytest.raises(InputError, match=r"source 's': path '.*' matches no file"):
            found(project, path)
    with pytest.raises(InputError, match=r"in\.txt: unknown format\n.*\.jsonl"):
        found(project, "in.*")
    with pytest.raises(ConfigError, match="nosuch"):
        shards(project.config({"name": "s", "path": "nosuch://a/b.jsonl"}).corpus)
    with pytest.raises(ConfigError, match="used twice: s"):
        shards(project.config(project.source(), project.source()).corpus)


def test_a_dataset_with_splits_asks_for_one(project: Project) -> None:
    project.put("ds/dataset_dict.json", b'{"splits": ["train", "test"]}')
    with pytest.raises(InputError, match=r"holds the splits train, test(.|\n)*ds/train"):
        found(project, "ds")
