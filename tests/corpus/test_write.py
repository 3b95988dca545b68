import bz2
import gzip
import lzma
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from mira.config.settings import Config
from mira.corpus import copy_kept, count_kept, describe_kept, shards
from mira.errors import ConservationError, InputError, RunError
from support.corpus_project import Project

LINES = (
    b'\xef\xbb\xbf{"id": "a",  "text": "caf\\u00e9 \xc3\xa9"}\r\n\n'
    b'{"id": "b", "text": "mirage", "v": NaN, "n": 1.0 }  \nnonsense\n{"id": "c", "text": "z"}'
)
KEPT = {0: {"quality": 7.5}, 2: {"quality": None, "scores": {"A1": 3}}, 4: {}}
COPIES = [
    b'{"id": "a",  "text": "caf\\u00e9 \xc3\xa9", "mira": {"quality":7.5}}\r\n',
    b'{"id": "b", "text": "mirage", "v": NaN, "n": 1.0 , "mira": {"quality":null,"scores":{"A1":3}}}  \n',
    b'{"id": "c", "text": "z", "mira": {}}\n',
]


def copy(project: Project, config: Config, kept: dict[int, dict[str, object]], nth: int = 0) -> Path:
    path = copy_kept(
        shards(config.corpus)["s"][nth],
        kept,
        project.folder / "out",
        field=config.select.provenance_field,
        longest=config.max_record_bytes,
    )
    assert path is not None
    return path


@pytest.mark.parametrize("name", ["in.jsonl", "in.ndjson.gz", "in.json.zst"])
def test_lines_are_copied_byte_by_byte(project: Project, name: str) -> None:
    project.put(name, LINES)
    config = project.config(project.source(name))
    unpack = {
        ".gz": gzip.decompress,
        ".zst": lambda data: zstandard.ZstdDecompressor().decompressobj().decompress(data),
    }
    for rows in ([0, 2, 4], [2], []):
        path = copy(project, config, {r: KEPT[r] for r in rows})
        assert path == project.folder / "out" / name
        data = unpack.get(path.suffix, lambda data: data)(path.read_bytes())
        assert data == b"".join(COPIES[r // 2] for r in rows)
        again = path.read_bytes()
        assert copy(project, config, {r: KEPT[r] for r in rows}).read_bytes() == again
    assert [p.name for p in (project.folder / "out").iterdir()] == [name]


@settings(max_examples=40)
@given(
    st.lists(
        st.dictionaries(
            st.text(max_size=3), st.none() | st.text() | st.lists(st.integers(-(2**63), 2**64 - 1)), max_size=3
        )
    ),
    st.integers(0, 2**32),
)
def test_without_the_field_the_copy_is_the_input(
    tmp_path_factory: pytest.TempPathFactory, values: list[dict[str, object]], mask: int
) -> None:
    project = Project(tmp_path_factory.mktemp("copy"))
    lines = [orjson.dumps({"text": "x"} | value) + b"\n" for value in values]
    project.put("in.jsonl", b"".join(lines))
    config = project.config(project.source(), shard_bytes=1024, select={"provenance_field": "p/v"})
    kept = {i: {"n": i} for i in range(len(lines)) if mask >> i & 1}
    start, found = 0, b""
    for nth, shard in enumerate(shards(config.corpus)["s"]):
        size = b"".join(lines).count(b"\n", shard.start or 0, shard.stop)
        inside = {i - start: kept[i] for i in kept if start <= i < start + size}
        found += copy(project, config, inside, nth).read_bytes()
        start += size
    assert found == b"".join(lines[i][:-2] + b', "p/v": {"n":%d}}\n' % i for i in kept)


@pytest.mark.parametrize("line", [b'{"mira": 1, "text": "x"}', b'{"text": "x", "\\u006dira": null}'])
def test_a_taken_name_is_told(project: Project, line: bytes) -> None:
    path = project.put("in.jsonl", b'{"text": "mira", "meta": {"mira": 1}}\n' + line)
    config = project.config(project.source())
    assert copy(project, config, {0: {}}).read_bytes() == b'{"text": "mira", "meta": {"mira": 1}, "mira": {}}\n'
    with pytest.raises(InputError, match=rf"{path}:2: the record has a field 'mira' already\n.*provenance_field"):
        copy(project, config, {0: {}, 1: {}})
    renamed = project.config(project.source(), select={"provenance_field": "why"})
    assert copy(project, renamed, {1: {}}).read_bytes() == line[:-1] + b', "why": {}}\n'


def test_rows_that_are_not_there_are_told_and_nothing_is_written(project: Project) -> None:
    project.put("in.jsonl", LINES)
    config = project.config(project.source())
    with pytest.raises(ConservationError, match=r"in\.jsonl: 1 of 3 kept rows"):
        copy(project, config, {0: {}, 1: {}, 9: {}})
    assert list((project.folder / "out").iterdir()) == []


def test_a_truncated_file_gives_what_there_is(project: Project) -> None:
    path = project.lines("in.jsonl.gz", *({"id": i, "text": str(i) * 50} for i in range(5000)))
    path.write_bytes(path.read_bytes()[:-100])
    config = project.config(project.source("in.jsonl.gz"))
    kept = {r.row: {} for r in (project.index(config), project.records(config))[1]}
    assert gzip.decompress(copy(project, config, kept).read_bytes()).count(b"\n") == len(kept) > 1000


@pytest.mark.parametrize("name", ["in.parquet", "in.arrow"])
def test_a_table_without_readable_columns_has_no_copy(project: Project, name: str) -> None:
    project.put(name, b"PAR1 and nothing that a reader could use")
    config = project.config(project.source(name))
    assert copy_kept(shards(config.corpus)["s"][0], {}, project.folder / "out", field="mira", longest=2**20) is None
    with pytest.raises(ConservationError, match="0 of 1 kept rows"):
        copy(project, config, {0: {}})
    assert list((project.folder / "out").iterdir()) == []


TABLE = pa.table(
    {
        "id": pa.array(range(2000), pa.int16()),
        "text": pa.array([f"t{i}" for i in range(2000)], pa.large_string()).dictionary_encode(),
        "deep": pa.array(
            [{"a": [1.5], "t": i} for i in range(2000)],
            pa.struct([("a", pa.list_(pa.float32())), ("t", pa.timestamp("ms"))]),
        ),
    },
    metadata={b"mine": b"kept", b"huggingface": orjson.dumps({"info": {"features": {"id": {"dtype": "int16"}}}})},
)
ROWS = [0, 511, 512, 1999]


def check_table(table: pa.Table, original: pa.Table = TABLE) -> None:
    assert [orjson.loads(v) for v in table.column("mira").to_pylist()] == [{"n": i} for i in ROWS]
    assert (
        table.drop_columns("mira")
        .replace_schema_metadata(None)
        .equals(original.take(ROWS).replace_schema_metadata(None))
    )
    assert table.schema.metadata[b"mine"] == b"kept"
    features = orjson.loads(table.schema.metadata[b"huggingface"])["info"]["features"]
    assert features == {"id": {"dtype": "int16"}, "mira": {"dtype": "string", "_type": "Value"}}


def test_parquet_keeps_columns_and_types(project: Project) -> None:
    pq.write_table(TABLE, project.folder / "in.parquet", compression="gzip", row_group_size=700)
    config = project.config(project.source("in.parquet"))
    path = copy(project, config, {i: {"n": i} for i in ROWS})
    assert path == project.folder / "out" / "in.parquet"
    check_table(pq.read_table(path), pq.read_table(project.folder / "in.parquet"))
    assert pq.ParquetFile(path).metadata.row_group(0).column(0).compression == "GZIP"
    assert pq.read_table(copy(project, config, {})).num_rows == 0
    with pytest.raises(InputError, match="has a field 'text' already"):
        copy(project, project.config(project.source("in.parquet"), select={"provenance_field": "text"}), {})


def test_a_dataset_stays_one(project: Project) -> None:
    folder = project.folder / "ds"
    folder.mkdir()
    table = TABLE.set_column(1, "text", TABLE.column("text").cast(pa.string()))
    names = ["data-00000-of-00002.arrow", "data-00001-of-00002.arrow"]
    for name in names:
        with pa.ipc.new_stream(folder / name, table.schema) as writer:
            writer.write_table(table)
    (folder / "state.json").write_bytes(
        orjson.dumps({"_data_files": [{"filename": n} for n in names], "_split": "train", "_fingerprint": "old"})
    )
    info = {"features": {"id": {"dtype": "int16", "_type": "Value"}}, "splits": {"train": {"num_examples": 4000}}}
    (folder / "dataset_info.json").write_bytes(orjson.dumps(info))
    config = project.config(project.source("ds"))
    paths = [copy(project, config, {i: {"n": i} for i in ROWS}, nth) for nth in (0, 1)]
    describe_kept(shards(config.corpus)["s"], project.folder / "out", "mira")
    assert [p.name for p in paths] == names
    with pa.ipc.open_stream(paths[1]) as reader:
        assert reader.read_all().num_rows == len(ROWS)
    state = orjson.loads((project.folder / "out" / "state.json").read_bytes())
    assert state["_data_files"] == [{"filename": n} for n in names]
    assert (state["_split"], state["_format_type"]) == ("train", None)
    assert state["_fingerprint"] is None
    written = orjson.loads((project.folder / "out" / "dataset_info.json").read_bytes())
    assert written == {"features": info["features"] | {"mira": {"dtype": "string", "_type": "Value"}}}


@pytest.mark.parametrize("info", [b"[]", b"{cut", b"\xff", b'{"features": [1]}', b"null"])
def test_a_description_of_odd_form_is_not_copied(project: Project, info: bytes) -> None:
    (project.folder / "ds").mkdir()
    with pa.ipc.new_stream(project.folder / "ds" / "data.arrow", TABLE.schema) as writer:
        writer.write_table(TABLE)
    (project.folder / "ds" / "dataset_info.json").write_bytes(info)
    config = project.config(project.source("ds"))
    copy(project, config, {0: {"n": 0}})
    describe_kept(shards(config.corpus)["s"], project.folder / "out", "mira")
    state = orjson.loads((project.folder / "out" / "state.json").read_bytes())
    assert state["_data_files"] == [{"filename": "data.arrow"}]
    assert isinstance(orjson.loads((project.folder / "out" / "dataset_info.json").read_bytes()), dict)


@pytest.mark.parametrize("described", [b"not json", b"[]", b"{}", b'{"info": []}', b'{"info": null}', b"\xff"])
def test_a_table_whose_description_has_an_odd_form_is_copied(project: Project, described: bytes) -> None:
    table = pa.table({"text": ["a", "b"]}).replace_schema_metadata({b"huggingface": described})
    pq.write_table(table, project.folder / "in.parquet")
    path = copy(project, project.config(project.source("in.parquet")), {1: {"n": 1}})
    found = pq.read_table(path)
    assert found.to_pylist() == [{"text": "b", "mira": '{"n":1}'}]
    assert found.schema.metadata[b"huggingface"] == described


def test_a_damaged_column_that_only_the_copy_reads_is_an_error_that_names_the_file(project: Project) -> None:
    path = project.folder / "in.parquet"
    table = pa.table(
        {"text": [f"text {i}" for i in range(50)], "extra": [f"{i * 7919 % 1000}" * 20 for i in range(50)]}
    )
    pq.write_table(table, path, compression="zstd", use_dictionary=False)
    column = pq.read_metadata(path).row_group(0).column(1)
    data = bytearray(path.read_bytes())
    end = column.data_page_offset + column.total_compressed_size
    data[end - 20 : end] = bytes(20)
    path.write_bytes(data)
    config = project.config(project.source("in.parquet"))
    project.index(config)
    assert len(project.records(config)) == 50
    with pytest.raises(ConservationError, match=rf"{path}: 0 of 2 kept rows (.|\n)*column (.|\n)*replace the file"):
        copy(project, config, {0: {}, 3: {}})
    assert list((project.folder / "out").iterdir()) == []


def test_an_arrow_file_without_a_dataset(project: Project) -> None:
    with pa.ipc.new_file(project.folder / "in.arrow", TABLE.schema) as writer:
        writer.write_table(TABLE)
    path = copy(project, project.config(project.source("in.arrow")), {i: {"n": i} for i in ROWS})
    with pa.ipc.open_stream(path) as reader:
        check_table(reader.read_all())


@pytest.mark.parametrize(("suffix", "unpack"), [("bz2", bz2.decompress), ("xz", lzma.decompress)])
def test_copies_are_compressed_as_the_input(project: Project, suffix: str, unpack: Any) -> None:
    project.lines(f"in.jsonl.{suffix}", {"id": 1, "text": "a"}, {"id": 2, "text": "b"})
    config = project.config(project.source(f"in.jsonl.{suffix}"))
    path = copy(project, config, {1: {"n": 1}})
    assert path.name == f"in.jsonl.{suffix}"
    assert unpack(path.read_bytes()) == b'{"id":2,"text":"b", "mira": {"n":1}}\n'


def test_byte_order_marks_of_joined_files_are_not_copied(project: Project) -> None:
    project.put("in.jsonl", b'\xef\xbb\xbf{"text": "a"}\n\xef\xbb\xbf\xef\xbb\xbf{"text": "b"}\n')
    config = project.config(project.source())
    project.index(config)
    assert [record.text for record in project.records(config)] == ["a", "b"]
    copied = copy(project, config, {0: {}, 1: {}}).read_bytes()
    assert copied == b'{"text": "a", "mira": {}}\n{"text": "b", "mira": {}}\n'


@pytest.mark.parametrize("suffix", ["parquet", "arrow"])
def test_types_without_a_kernel_are_copied(project: Project, suffix: str) -> None:
    texts = pa.array([f"t{i}" for i in range(9)])
    table = pa.table(
        {
            "text": texts,
            "view": texts.cast(pa.string_view()),
            "bytes": pa.array([b"b%d" % i for i in range(9)], pa.binary_view()),
            "deep": pa.array([[{"v": f"u{i}"}] for i in range(9)], pa.list_(pa.struct([("v", pa.string_view())]))),
        }
    )
    path = project.folder / f"in.{suffix}"
    if suffix == "parquet":
        table = table.drop_columns("deep")  # which pyarrow cannot write
        pq.write_table(table, path, row_group_size=4)
    else:
        with pa.ipc.new_stream(path, table.schema) as writer:
            writer.write_table(table, max_chunksize=4)
    copied = copy(project, project.config(project.source(path.name)), {i: {} for i in (0, 3, 4, 8)})
    found = pq.ParquetFile(copied).read() if suffix == "parquet" else pa.ipc.open_stream(copied.read_bytes()).read_all()
    assert found.drop_columns("mira").schema.remove_metadata() == table.schema
    rows = table.to_pylist()
    assert found.drop_columns("mira").to_pylist() == [rows[i] for i in (0, 3, 4, 8)]


@pytest.mark.parametrize("when", ["before", "during"])
def test_new_bytes_are_never_written_under_old_rows(project: Project, when: str) -> None:
    path = project.put("in.jsonl", b'{"text": "old"}\n')
    config = project.config(project.source("in.jsonl"))
    [shard] = shards(config.corpus)["s"]

    class Kept(dict[int, dict[str, object]]):
        def __getitem__(self, row: int) -> dict[str, object]:
            if when == "during":
                path.write_bytes(b'{"text": "new"}\n')
            return super().__getitem__(row)

    if when == "before":
        path.write_bytes(b'{"text": "new"}\n')
    with pytest.raises(RunError, match=r"in\.jsonl has changed while mira was at work"):
        copy_kept(shard, Kept({0: {}}), project.folder / "out", field="mira", longest=2**20)
    assert not list((project.folder / "out").glob("*"))


@pytest.mark.parametrize("name", ["in.jsonl", "in.ndjson.gz", "in.json.zst"])
def test_what_was_kept_is_counted_in_the_file(project: Project, name: str) -> None:
    project.put(name, LINES)
    config = project.config(project.source(name))
    path = copy(project, config, KEPT)
    assert count_kept(path) == 3
    assert count_kept(copy(project, config, {})) == 0
    if path.suffix != ".jsonl":
        path.write_bytes(copy(project, config, KEPT).read_bytes()[:-6])
        with pytest.raises(ConservationError, match="cannot be read back"):
            count_kept(path)
