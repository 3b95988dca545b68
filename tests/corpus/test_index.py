import os

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from mira.config.settings import ScoreSettings
from mira.corpus import Record, Shard, check_fields, peek, shards, totals
from mira.corpus import index as index_module
from mira.engine import LocalEngine
from mira.errors import ConfigError, InputError, RunError
from mira.tokens import tokenizer
from support.corpus_project import Project

GOOD = {"id": "ok", "text": "hello world"}

BAD_LINES = [
    (b'{"id": "a", "text": "x"', "bad_json", "not JSON: "),
    (b"[" * 5000, "bad_json", "not JSON: "),
    (b'{"id": "a", "text": "x"} y', "bad_json", "not JSON: Extra data at character 26"),
    (b"[", "bad_json", "not JSON: a file that is one array is not read, only one object a line"),
    (b"[1]", "not_an_object", "not a JSON object"),
    (b'"text"', "not_an_object", "not a JSON object"),
    (b'{"id": "a", "text": "\xff"}', "invalid_utf8", "not UTF-8 at byte 21 of the line"),
    (b'{"id": "a", "text": "\\ud800"}', "invalid_utf8", "lone surrogate '\\ud800'"),
    (b'{"id": "\\udc00", "text": "x"}', "invalid_utf8", "lone surrogate '\\udc00'"),
    (b'{"text": "\\ud800"}', "invalid_utf8", "lone surrogate '\\ud800'"),
    (b'{"id": "a"}', "missing_field", "field 'text' is missing"),
    (b'{"id": "a", "text": null}', "missing_field", "field 'text' is missing"),
    (b'{"id": "a", "text": {"x": 1}}', "bad_field", "field 'text' is an object, not a string"),
    (b'{"id": 1.5, "text": "x"}', "bad_field", "field 'id' is neither a string nor a whole number"),
    (b'{"id": true, "text": "x"}', "bad_field", "field 'id' is neither a string nor a whole number"),
    (b'{"id": "a", "text": " \\n"}', "empty_text", "field 'text' is blank"),
    (b'{"id": "a", "text": "' + b"x" * 20_000 + b'"}', "too_long", "the line or row has 20,023 bytes, more than"),
]


def entries(project: Project, name: str = "in") -> list[dict[str, object]]:
    rows: list[dict[str, object]] = pq.read_table(project.run.index("s") / f"{name}.parquet").to_pylist()
    return rows


@pytest.mark.parametrize(("line", "reason", "what"), BAD_LINES, ids=[f"{i}_{b[1]}" for i, b in enumerate(BAD_LINES)])
def test_a_bad_line_is_counted_with_its_reason_and_place(project: Project, line: bytes, reason: str, what: str) -> None:
    project.put("in.jsonl", b"\n" + line + b"\n" + orjson.dumps(GOOD))
    summary = project.index(config := project.config(project.source(), max_record_bytes=2**14))
    bad, good = entries(project)
    assert (bad["row"], bad["id"], bad["n_tokens"], bad["n_chars"], bad["reason_rejected"]) == (1, None, 0, 0, reason)
    assert str(bad["detail"]).startswith(f"in.jsonl:2: {what}")
    expected = {"row": 2, "id": "ok", "n_tokens": 2, "n_chars": 11, "reason_rejected": None, "detail": None}
    assert good == expected
    counts = {"rows": 2, "valid": 1, "rejected": {reason: 1}, "tokens": 2}
    assert summary == {"sources": {"s": counts}, "shards": 1, "indexed": 1, "skipped": 0}
    assert totals(config.corpus, project.run) == {"s": counts}
    assert [r.id for r in project.records(config)] == ["ok"]


def test_what_is_tolerated(project: Project) -> None:
    lines = [
        b'\xef\xbb\xbf{"id": 7, "text": "bom"}\r\n',
        b'{"id": "nan", "text": "x", "v": NaN, "w": -Infinity}\n',
        b'{"id": "other surrogate", "text": "x", "unread": "\\ud800"}\n',
        b'{"id": "huge", "text": "x", "n": 123456789012345678901234567890}\n',
        b'{"id": "nul", "text": "a\\u0000<|im_end|>"}',
    ]
    project.put("in.jsonl", b"".join(lines))
    config = project.config(project.source())
    project.index(config)
    assert [r.id for r in project.records(config)] == ["7", "nan", "other surrogate", "huge", "nul"]
    assert project.records(config)[-1].n_tokens == tokenizer("qwen3").count(["a\0<|im_end|>"])[0] == 8


def test_records_without_id_get_the_hash_of_source_and_text(project: Project) -> None:
    project.lines("in.jsonl", {"text": "a"}, {"text": "b", "id": None}, {"text": "c", "id": ""}, {"text": "a", "x": 1})
    config = project.config(project.source())
    summary = project.index(config)
    # printf 's\0a' | sha256sum
    assert project.records(config)[0].id == "4cfd2308ceb4735a"
    assert len({r.id for r in project.records(config)}) == 3
    assert summary["sources"]["s"]["rejected"] == {"duplicate_id": 1}  # type: ignore[index]


def test_the_first_of_equal_ids_stays_by_path_and_row(project: Project) -> None:
    project.lines("b.jsonl", {"id": "x", "text": "b0"}, {"id": "y", "text": "b1"})
    project.lines("a.jsonl", {"id": "z", "text": "a0"}, {"id": "x", "text": ""}, {"id": "x", "text": "a2"}, GOOD, GOOD)
    for paths in (["a.jsonl", "b.jsonl"], ["b.jsonl", "a.jsonl"]):
        config = project.config(project.source(paths))
        summary = project.index(config)
        assert [r.text for r in project.records(config)] == ["a0", "a2", "hello world", "b1"]
        assert summary["sources"]["s"]["rejected"] == {"duplicate_id": 2, "empty_text": 1}  # type: ignore[index]
    assert pq.read_table(project.run.index("s") / "duplicates.parquet").to_pylist() == [
        {"shard": "a", "row": 4, "id": "ok"},
        {"shard": "b", "row": 0, "id": "x"},
    ]


def test_duplicates_do_not_depend_on_slicing(project: Project) -> None:
    project.lines("in.jsonl", *({"id": str(i % 70), "text": f"{i} " + "x" * 40} for i in range(200)))
    kept = []
    for shard_bytes in (2**20, 1024):
        config = project.config(project.source(), shard_bytes=shard_bytes)
        project.index(config)
        kept.append([(r.id, r.text) for r in project.records(config)])
    assert kept[0] == kept[1]
    assert len(kept[0]) == 70


def test_equal_ids_in_two_sources_are_no_duplicates(project: Project) -> None:
    project.lines("in.jsonl", GOOD)
    config = project.config(project.source(), project.source() | {"name": "t"})
    project.index(config)
    assert [(r.source, r.id) for r in project.records(config)] == [("s", "ok"), ("t", "ok")]


@pytest.mark.parametrize("suffix", ["gz", "zst"])
def test_a_truncated_file_keeps_what_was_read(project: Project, suffix: str) -> None:
    path = project.lines(f"in.jsonl.{suffix}", *({"id": str(i), "text": os.urandom(200).hex()} for i in range(3000)))
    path.write_bytes(path.read_bytes()[:-200_000])
    config = project.config(project.source(f"in.jsonl.{suffix}"))
    counts = project.index(config)["sources"]["s"]  # type: ignore[index]
    assert counts["rejected"] == {"truncated_file": 1}
    assert 500 < counts["valid"] < 3000
    assert [r.id for r in project.records(config)] == [str(i) for i in range(counts["valid"])]
    last = entries(project)[-1]
    assert last["row"] == counts["valid"]
    assert str(last["detail"]).startswith(f"{path.name}:{counts['valid'] + 1}: what follows is lost: ")


def test_tables(project: Project) -> None:
    table = pa.table(
        {
            "uid": [1, 2, 3, None],
            "doc": [{"body": "a"}, {"body": None}, None, {"body": "d"}],
            "unread": pa.array([b"\xff"] * 4, pa.binary()),
        }
    )
    pq.write_table(table, project.folder / "a.parquet")
    folder = project.folder / "ds"
    folder.mkdir()
    with pa.ipc.new_stream(folder / "data-00000-of-00001.arrow", table.schema) as writer:
        writer.write_table(table.slice(3))
    with pa.ipc.new_file(folder / "other.arrow", table.schema) as writer:
        writer.write_table(table.slice(0, 1).set_column(0, "uid", pa.array([9])))
    (folder / "state.json").write_bytes(
        b'{"_data_files": [{"filename": "data-00000-of-00001.arrow"}, {"filename": "other.arrow"}]}'
    )
    config = project.config(project.source(["a.parquet", "ds"], fields={"text": "doc.body", "id": "uid"}))
    counts = project.index(config)["sources"]["s"]  # type: ignore[index]
    assert counts["rejected"] == {"missing_field": 2, "duplicate_id": 1}
    assert [(r.text, r.row) for r in project.records(config)] == [("a", 0), ("d", 3), ("a", 0)]
    assert project.records(config)[0].id == "1"
    assert entries(project, "a")[1]["detail"] == "a.parquet:2: field 'doc.body' is missing"


def test_messages_in_structs_and_as_json_columns(project: Project) -> None:
    messages = [{"role": "user", "content": "hi", "tool_calls": None}, {"role": "assistant", "content": "yo"}]
    pq.write_table(pa.table({"messages": [messages]}), project.folder / "a.parquet")
    pq.write_table(pa.table({"messages": [orjson.dumps(messages).decode()]}), project.folder / "b.parquet")
    project.lines("c.jsonl", {"messages": messages})
    config = project.config(project.source(["*"], family="agent"))
    assert project.index(config)["sources"]["s"]["rejected"] == {"duplicate_id": 2}  # type: ignore[index]
    assert [p.label for p in project.records(config)[0].parts] == ["[0] user", "[1] assistant"]


def test_a_string_of_a_table_that_is_not_utf8(project: Project) -> None:
    bad = pa.Array.from_buffers(
        pa.string(), 2, [None, pa.py_buffer(b"\0\0\0\0\1\0\0\0\2\0\0\0"), pa.py_buffer(b"\xffa")]
    )
    pq.write_table(pa.table({"text": bad}), project.folder / "in.parquet")
    config = project.config(project.source("in.parquet"))
    assert project.index(config)["sources"]["s"]["rejected"] == {"invalid_utf8": 1}  # type: ignore[index]
    assert [r.text for r in project.records(config)] == ["a"]


def test_a_damaged_table_is_counted_once(project: Project) -> None:
    path = project.folder / "b.arrow"
    table = pa.table({"text": [f"{i}" for i in range(3000)]})
    with pa.ipc.new_stream(path, table.schema) as writer:
        writer.write_table(table, max_chunksize=1000)
    path.write_bytes(path.read_bytes()[:-3000])
    project.put("c.parquet", b"PAR1 not really")
    config = project.config(project.source(["*.arrow", "*.parquet"]))
    counts = project.index(config)["sources"]["s"]  # type: ignore[index]
    assert (counts["valid"], counts["rejected"]) == (2000, {"truncated_file": 2})


def test_a_missing_field_is_told_with_a_way_out(project: Project) -> None:
    path = project.lines("in.jsonl", *({"uid": i, "title": "t", "body": "b"} for i in range(200)))
    with pytest.raises(InputError) as caught:
        project.index(project.config(project.source()))
    assert str(caught.value).startswith(f"source 's': field 'text' is missing in {path}:1; it has: uid, title, body\n")
    assert "fields: {text: body}" in str(caught.value)
    project.index(project.config(project.source(fields={"text": "body", "id": "uid"})))
    with pytest.raises(InputError, match=r"field 'uuid' is missing in .*\n.*\{id: uid\}, or leave it out"):
        project.index(project.config(project.source(fields={"text": "body", "id": "uuid"})))
    pq.write_table(pa.table({"qestion": ["q"], "answer": ["a"]}), project.folder / "qa.parquet")
    with pytest.raises(InputError, match=r"it has: qestion, answer\n.*fields: \{question: qestion\}"):
        project.index(project.config(project.source("qa.parquet", family="qa")))


def test_a_field_that_is_missing_in_some_records_is_counted(project: Project) -> None:
    project.lines("in.jsonl", *({"x": 1} for _ in range(99)), GOOD)
    counts = project.index(project.config(project.source()))["sources"]["s"]  # type: ignore[index]
    assert counts == {"rows": 100, "valid": 1, "rejected": {"missing_field": 99}, "tokens": 2}


def test_sources_without_any_record(project: Project) -> None:
    path = project.put("in.jsonl", b"\n\n")
    with pytest.raises(InputError, match=f"source 's': {path}: no record in it"):
        project.index(project.config(project.source()))
    project.put("in.jsonl", b"nonsense\n[]\n")
    with pytest.raises(InputError) as caught:
        project.index(project.config(project.source()))
    assert "every record is rejected (1 bad_json, 1 not_an_object)" in str(caught.value)
    assert f"{path}:1: not JSON" in str(caught.value)


def test_wrong_settings(project: Project) -> None:
    project.lines("in.jsonl", GOOD)
    with pytest.raises(ConfigError, match="family text has no field 'txt'; did you mean text"):
        project.index(project.config(project.source(fields={"txt": "body"})))
    with pytest.raises(ConfigError, match="'qwen' is not known"):
        project.index(project.config(project.source(), tokenizer="qwen"))


def test_only_what_changed_is_indexed_again(project: Project) -> None:
    project.lines("a.jsonl", GOOD)
    project.lines("b.jsonl", {"id": "b", "text": "bee"})
    config = project.config(project.source("*.jsonl"))

    def state() -> tuple[object, object, set[str]]:
        summary = project.index(config)
        return summary["indexed"], summary["skipped"], {p.name for p in project.run.index("s").iterdir()}

    both = {"a.parquet", "b.parquet", "duplicates.parquet"}
    assert state() == (2, 0, both)
    assert state() == (0, 2, both)
    (project.run.index("s") / ".a.parquet.1.tmp").touch()
    project.lines("b.jsonl", {"id": "c", "text": "bee"}, {"id": "ok", "text": "again"})
    assert state() == (1, 1, both)
    assert [r.id for r in project.records(config)] == ["ok", "c"]
    config = project.config(project.source("*.jsonl"), tokenizer="llama3")
    assert state() == (2, 0, both)
    config = project.config(project.source("*.jsonl", fields={"id": "text"}), tokenizer="llama3")
    assert state() == (2, 0, both)
    (project.folder / "a.jsonl").unlink()
    assert state() == (0, 1, both - {"a.parquet"})


def test_a_source_that_is_gone_leaves_no_index(project: Project) -> None:
    project.lines("a.jsonl", GOOD)
    project.lines("b.jsonl", GOOD)
    both = [project.source("a.jsonl", name="a"), project.source("b.jsonl", name="b")]
    project.index(project.config(*both))
    project.index(project.config(both[0]))
    assert [p.name for p in (project.run.path / "index").glob("[!.]*")] == ["a"]


def test_the_index_is_the_same_bytes_again(project: Project) -> None:
    project.lines("in.jsonl", *({"id": str(i % 50), "text": f"text {i}"} for i in range(100)))
    config = project.config(project.source())
    images = []
    for _ in range(2):
        project.index(config)
        folder = project.run.index("s")
        images.append({p.name: p.read_bytes() for p in folder.iterdir()})
        for path in folder.iterdir():
            path.unlink()
    assert images[0] == images[1]


def _peek(project: Project) -> Record:
    config = project.config(project.source())
    return peek(config.source("s"), shards(config.corpus)["s"], config.max_record_bytes)


def test_peek_reads_the_first_valid_record(project: Project) -> None:
    project.lines("in.jsonl", {"text": " "}, GOOD)
    assert _peek(project).text == GOOD["text"]
    project.lines("in.jsonl", {"text": " "})
    with pytest.raises(InputError, match=r"every record is rejected\n.*First: .*in\.jsonl:1: "):
        _peek(project)
    project.lines("in.jsonl")
    with pytest.raises(InputError, match="no record in it"):
        _peek(project)


def test_without_index_totals_tells_the_way(project: Project) -> None:
    project.lines("in.jsonl", GOOD)
    with pytest.raises(RunError, match="source 's' is not indexed yet"):
        totals(project.config(project.source()).corpus, project.run)


def test_small_inputs_need_no_processes(monkeypatch: pytest.MonkeyPatch, project: Project) -> None:
    project.lines("a.jsonl", GOOD)
    project.lines("b.jsonl", GOOD)
    found = shards(project.config(project.source("*.jsonl")).corpus)["s"]

    def workers(parts: list[Shard]) -> int:
        engine = index_module._engine(ScoreSettings(workers=3), parts)
        assert isinstance(engine, LocalEngine)
        return engine.workers

    assert workers(found) == 1
    monkeypatch.setattr(index_module, "_WORTHWHILE_BYTES", 1)
    assert workers(found) == 3
    assert workers(found[:1]) == 1


def test_indexing_in_processes_gives_the_same_index(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    project.lines("in.jsonl", *({"id": str(i), "text": f"text {i}" * 9} for i in range(100)))
    config = project.config(project.source(), shard_bytes=4096)
    project.index(config)
    alone = {p.name: p.read_bytes() for p in project.run.index("s").iterdir()}
    for path in project.run.index("s").iterdir():
        path.unlink()
    monkeypatch.setattr(index_module, "_WORTHWHILE_BYTES", 1)
    project.index(config)
    assert {p.name: p.read_bytes() for p in project.run.index("s").iterdir()} == alone
    assert len(shards(config.corpus)["s"]) == len(alone) - 1 > 1


def test_a_zstd_file_of_a_large_window(project: Project) -> None:
    parameters = zstandard.ZstdCompressionParameters(window_log=28, enable_ldm=True, write_content_size=False)
    data = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    packed = data.compress(orjson.dumps(GOOD)) + data.flush()
    (project.folder / "in.jsonl.zst").write_bytes(packed)
    config = project.config(project.source("in.jsonl.zst"))
    assert project.index(config)["sources"]["s"]["valid"] == 1  # type: ignore[index]


@pytest.mark.parametrize(
    ("encoding", "what"),
    [
        ("utf-16", "UTF-16-LE text, not UTF-8: convert the file with iconv -f UTF-16-LE -t UTF-8"),
        ("utf-16-be", "UTF-16 text"),
        ("utf-32-be", "UTF-32 text"),
        ("utf-32", "UTF-32-LE text"),
    ],
)
def test_other_encodings_are_not_utf8_and_named(project: Project, encoding: str, what: str) -> None:
    text = "".join(f'{{"id": "r{i}", "text": "some words"}}\n' for i in range(3))
    project.put("in.jsonl", text.encode(encoding))
    project.lines("good.jsonl", GOOD)
    counts = project.index(project.config(project.source(["in.jsonl", "good.jsonl"])))["sources"]["s"]  # type: ignore[index]
    assert counts["valid"] == 1
    assert set(counts["rejected"]) <= {"invalid_utf8", "bad_json"}
    assert what in str(entries(project)[0]["detail"])


@pytest.mark.parametrize(
    ("line", "reason", "what"),
    [
        (b'{"text": "\xed\xa0\x80 x", "y": NaN}', "invalid_utf8", "not UTF-8 at byte 10 of the line"),
        (b"\x1f\x8b\x08\x00\xff\xfe", "invalid_utf8", "the file is gzip data"),
        (b"\0" * 4096, "bad_json", "only zero bytes"),
        (b'{"text": "a"}\r{"text": "b"}', "bad_json", "lines end with CR alone"),
    ],
)
def test_a_line_that_is_something_else_says_what(project: Project, line: bytes, reason: str, what: str) -> None:
    project.put("in.jsonl", line + b"\n" + orjson.dumps(GOOD))
    project.index(project.config(project.source()))
    bad = entries(project)[0]
    assert bad["reason_rejected"] == reason
    assert what in str(bad["detail"])


def test_whole_numbers_of_any_size_are_ids(project: Project) -> None:
    ids = ["18446744073709551616", "18446744073709551617", f"{10**40}", "9223372036854775807", "-9223372036854775809"]
    lines = [f'{{"id": {i}, "text": "text {i}"}}' for i in [*ids, "7.0"]]
    lines += ['{"id": 1e300, "text": "inexact"}', '{"id": "x", "text": "y", "unread": ' + "9" * 5000 + "}"]
    project.put("in.jsonl", "\n".join(lines).encode())
    config = project.config(project.source())
    assert project.index(config)["sources"]["s"]["rejected"] == {"bad_field": 1, "bad_json": 1}  # type: ignore[index]
    assert [record.id for record in project.records(config)] == [*ids, "7"]
    assert "too large to be exact" in str(entries(project)[6]["detail"])


@pytest.mark.parametrize("name", ["in.jsonl", "in.jsonl.gz", "in.parquet"])
def test_records_of_another_schema_at_the_head_are_counted(project: Project, name: str) -> None:
    rows = [*({"id": f"h{i}", "title": "gone"} for i in range(300)), *({"id": f"{i}", "text": "x"} for i in range(900))]
    if name == "in.parquet":
        columns = {key: [row.get(key) for row in rows] for key in ("id", "title", "text")}
        pq.write_table(pa.table(columns), project.folder / name)
    else:
        project.lines(name, *rows)
    config = project.config(project.source(name))
    counts = project.index(config)["sources"]["s"]  # type: ignore[index]
    assert (counts["valid"], counts["rejected"]) == (900, {"missing_field": 300})
    warning = check_fields(config.source("s"), shards(config.corpus)["s"], 2**20)
    assert warning.startswith("field 'text' is missing in the first 100 records")


def test_names_like_miras_own_do_not_collide(project: Project) -> None:
    project.lines("data/duplicates.jsonl", {"id": "a", "text": "a"})
    project.lines("data/x.000000000000.jsonl", {"id": "b", "text": "b"})
    project.lines("data/x.jsonl", *({"id": f"c{i}", "text": "c" * 50} for i in range(40)))
    project.lines("data/lo::cal.jsonl", {"id": "d", "text": "d"})
    project.lines(f"data/{'f' * 120}/{'g' * 120}/{'h' * 200}.jsonl", {"id": "e", "text": "e"})
    config = project.config(project.source("data"), shard_bytes=1024)
    found = shards(config.corpus)["s"]
    assert len({shard.name for shard in found}) == len(found) > 5
    assert "duplicates" not in {shard.name for shard in found}
    assert max(len(shard.name) for shard in found) < 200
    project.index(config)
    assert len(project.records(config)) == 44
