import subprocess
import sys
from decimal import Decimal
from pathlib import Path
from uuid import UUID

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mira.corpus.files.lines import TooLong
from mira.corpus.files.tables import batches, python_rows
from support.corpus_project import Project

N = 6
STAMPS = {
    "ns": pa.array([1_700_000_000_123_456_789] * N).cast(pa.timestamp("ns")),
    "year 12000": pa.array([316_000_000_000_000_000] * N).cast(pa.timestamp("us")),
    "odd zone": pa.array([1] * N).cast(pa.timestamp("us", tz="Mars/Olympus")),
    "duration": pa.array([1_234_567_891] * N).cast(pa.duration("ns")),
    "time": pa.array([1_234_567_891] * N).cast(pa.time64("ns")),
    "before Christ": pa.array([-800_000] * N, pa.int32()).cast(pa.date32()),
}


def write(path: Path, table: pa.Table) -> None:
    if path.suffix == ".parquet":
        pq.write_table(table, path)
        return
    with pa.ipc.new_stream(path, table.schema) as writer:
        writer.write_table(table)


def valid(project: Project, name: str, **source: object) -> list[str]:
    config = project.config(project.source(name, **source))
    project.index(config)
    return [record.text for record in project.records(config)]


@pytest.mark.parametrize("suffix", ["parquet", "arrow"])
@pytest.mark.parametrize("stamp", STAMPS.values(), ids=STAMPS)
def test_times_that_python_has_no_value_for_are_not_read(project: Project, stamp: pa.Array, suffix: str) -> None:
    texts = pa.array([f"text {i}" for i in range(N)])
    body = pa.StructArray.from_arrays([texts, stamp], ["text", "at"])
    write(project.folder / f"in.{suffix}", pa.table({"body": body}))
    assert valid(project, f"in.{suffix}", fields={"text": "body.text"}) == texts.to_pylist()
    turns = pa.StructArray.from_arrays([pa.array(["user"] * N), texts, stamp], ["role", "content", "at"])
    messages = pa.ListArray.from_arrays(list(range(N + 1)), turns)
    write(project.folder / f"chat.{suffix}", pa.table({"messages": messages}))
    rendered = valid(project, f"chat.{suffix}", family="agent")
    assert rendered == [f"[0] user:\n{text}" for text in texts.to_pylist()]


def test_only_the_fields_that_are_asked_for_are_read(tmp_path: Path) -> None:
    table = pa.table({"a": [{"b": "x", "c": {"d": 1, "e": 2}}], "f.g": ["dotted"], "h": ["whole"]})
    pq.write_table(table, tmp_path / "in.parquet")
    read = next(batches(str(tmp_path / "in.parquet"), "parquet", ["a.c.d", "f.g", "h.0", "none"])).to_pylist()
    assert read == [{"a": {"c": {"d": 1}}, "f.g": "dotted", "h": "whole"}]


def test_maps_and_views_and_columns_of_one_name(project: Project) -> None:
    maps = pa.array([[("text", "in a map")]], pa.map_(pa.string(), pa.string()))
    for suffix in ("parquet", "arrow"):
        write(project.folder / f"m.{suffix}", pa.table({"m": maps}))
        assert valid(project, f"m.{suffix}", fields={"text": "m.text"}) == ["in a map"]
        write(project.folder / f"v.{suffix}", pa.table({"text": pa.array(["a view"], pa.string_view())}))
        assert valid(project, f"v.{suffix}") == ["a view"]
        twice = pa.Table.from_arrays([pa.array(["text"]), pa.array([1]), pa.array([2])], names=["text", "a", "a"])
        write(project.folder / f"t.{suffix}", twice)
        assert valid(project, f"t.{suffix}") == ["text"]


IDS = {
    "binary text": (pa.array([b"k1", b"k2"]), ["k1", "k2"]),
    "binary": (pa.array([b"\xff\x00", b"\x01\x02"]), ["ff00", "0102"]),
    "decimal": (pa.array([Decimal(10**30), Decimal(7)], pa.decimal128(38, 0)), [f"{10**30}", "7"]),
    "float": (pa.array([1.0, 2.0]), ["1", "2"]),
    "uint64": (pa.array([2**64 - 1, 0], pa.uint64()), [f"{2**64 - 1}", "0"]),
    "uuid": (
        pa.ExtensionArray.from_storage(pa.uuid(), pa.array([bytes([i] * 16) for i in (1, 2)], pa.binary(16))),
        [str(UUID(bytes=bytes([i] * 16))) for i in (1, 2)],
    ),
}


@pytest.mark.parametrize(("ids", "expected"), IDS.values(), ids=IDS)
def test_ids_of_many_types(project: Project, ids: pa.Array, expected: list[str]) -> None:
    write(project.folder / "in.parquet", pa.table({"id": ids, "text": ["a", "b"]}))
    config = project.config(project.source("in.parquet"))
    project.index(config)
    assert [record.id for record in project.records(config)] == expected


def test_a_row_that_is_too_long_is_told_and_not_converted(project: Project) -> None:
    table = pa.table({"text": ["short", "x" * 50_000, "end"]})
    write(project.folder / "in.parquet", table)
    config = project.config(project.source("in.parquet"), max_record_bytes=2**14)
    assert project.index(config)["sources"]["s"]["rejected"] == {"too_long": 1}  # type: ignore[index]
    assert [record.row for record in project.records(config)] == [0, 2]
    assert isinstance(python_rows(table.to_batches()[0], 2**14)[1], TooLong)


@pytest.mark.parametrize("suffix", ["parquet", "arrow"])
def test_rows_come_by_bytes(tmp_path: Path, suffix: str) -> None:
    write(tmp_path / f"in.{suffix}", pa.table({"text": [f"{i}" * 1_000_000 for i in range(10, 40)]}))
    sizes = [batch.nbytes for batch in batches(str(tmp_path / f"in.{suffix}"), suffix, ["text"])]
    assert max(sizes) <= 2**25
    assert sum(sizes) > 30 * 2_000_000 > 2**25


def test_many_long_rows_need_little_memory(tmp_path: Path) -> None:
    path = tmp_path / "in.parquet"
    schema = pa.schema([("text", pa.string())])
    with pq.ParquetWriter(path, schema, compression="none", use_dictionary=False, write_statistics=False) as writer:
        writer.write_table(pa.table({"text": [chr(97 + i % 26) * 2_000_000 for i in range(120)]}, schema=schema))
    read = (
        "import resource; from mira.corpus.files.tables import batches, python_rows\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        f"n = sum(len(python_rows(b, 2**26)) for b in batches({str(path)!r}, 'parquet', ['text']))\n"
        "print(n, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)"
    )
    done = subprocess.run([sys.executable, "-c", read], capture_output=True, text=True, check=True)
    n, kilobytes = map(int, done.stdout.split())
    assert n == 120
    assert kilobytes < 150_000 < 120 * 2_000


@pytest.mark.parametrize(
    ("name", "data", "what"),
    [
        ("in.parquet", b"\x1f\x8b" + b"x" * 100, "the file is gzip data"),
        ("in.parquet", b'{"text": "x"}\n' * 10, "the file is plain text"),
        ("in.arrow", b"PAR1" + b"x" * 100, "the file is a Parquet file"),
    ],
)
def test_a_file_that_is_something_else_says_so(project: Project, name: str, data: bytes, what: str) -> None:
    (project.folder / name).write_bytes(data)
    project.lines("good.jsonl", {"text": "x"})
    project.index(project.config(project.source([name, "good.jsonl"])))
    assert what in str(pq.read_table(project.run.index("s") / "in.parquet")["detail"][0])
