"""Batch files: results give the judgements that the live endpoint gives."""

import random
from pathlib import Path
from typing import Any

import orjson
import pytest

import mira.llm.journal.batch_files as module
from judging.test_endpoint import judge, long_record, run, tasks
from mira.errors import InputError
from mira.judging.judge import JudgeTask
from mira.llm.journal.batch_files import export_batch, import_batch
from mira.llm.journal.journal import Journal
from mira.unscored import Unscored
from support.fault_server import FaultServer, completion, number, reply_text

URL = "http://127.0.0.1:9/v1"


def export(folder: Path, n: int, url: str = URL) -> list[dict[str, Any]]:
    with Journal(folder / "journal") as journal:
        exported = export_batch(judge(journal, url).requests(tasks(n)), journal, folder / "batch.jsonl")
    lines = [orjson.loads(line) for path in exported.paths for line in path.read_bytes().splitlines()]
    assert exported.requests == len(lines)
    return lines


def answer(line: dict[str, Any]) -> dict[str, Any]:
    body = completion(reply_text(number(line["body"])))
    return {"id": "x", "custom_id": line["custom_id"], "response": {"status_code": 200, "body": body}, "error": None}


def write(path: Path, lines: list[dict[str, Any]]) -> Path:
    path.write_bytes(b"\n".join(orjson.dumps(line) for line in lines) + b"\n")
    return path


def test_lines_are_what_batch_apis_take(tmp_path: Path) -> None:
    (line,) = export(tmp_path, 1)
    assert sorted(line) == ["body", "custom_id", "method", "url"]
    assert (line["method"], line["url"], len(line["custom_id"])) == ("POST", "/v1/chat/completions", 32)
    assert (line["body"]["model"], line["body"]["max_tokens"]) == ("fake", 2048)


def test_results_in_any_order_give_the_live_endpoints_judgements(tmp_path: Path) -> None:
    with FaultServer() as server:
        live = run(tmp_path / "live", server.url, tasks(300))
        lines = export(tmp_path, 300, server.url)
        results = [answer(line) for line in lines]
        random.Random(1).shuffle(results)
        with Journal(tmp_path / "journal") as journal:
            imported = import_batch(write(tmp_path / "out.jsonl", results), journal)
            assert (imported.replies, imported.known, imported.failures, imported.unreadable) == (300, 0, 0, 0)
        server.asked.clear()
        assert run(tmp_path / "journal", server.url, tasks(300)) == live
        assert not server.asked


def test_partial_results_error_lines_and_torn_lines(tmp_path: Path) -> None:
    lines = export(tmp_path, 10)
    results = [answer(line) for line in lines[:5]]
    results += [
        {"custom_id": lines[5]["custom_id"], "response": None, "error": {"code": "batch_expired", "message": "late"}},
        {"custom_id": lines[6]["custom_id"], "response": {"status_code": 500, "body": {"error": {"message": "x"}}}},
        {
            "custom_id": lines[7]["custom_id"],
            "response": {"status_code": 400, "body": {"error": {"code": "context_length_exceeded", "message": "long"}}},
        },
        {"custom_id": "somebody-elses", "response": {"status_code": 200, "body": completion("x")}},
    ]
    path = write(tmp_path / "out.jsonl", results)
    with path.open("ab") as file:
        file.write(orjson.dumps(answer(lines[8]))[:100])
    with Journal(tmp_path / "journal") as journal:
        imported = import_batch(path, journal)
        assert (imported.replies, imported.known, imported.failures, imported.unreadable) == (5, 0, 3, 2)
        again = import_batch(path, journal)
        assert (again.replies, again.known) == (0, 5)
        assert len(journal) == 5
        reasons = [
            orjson.loads(x)["reason"] for x in (tmp_path / "journal/replies.failures.jsonl").read_bytes().splitlines()
        ]
        assert reasons[:3] == ["endpoint_error", "endpoint_error", "overflow"]
    assert [line["custom_id"] for line in export(tmp_path, 10)] == [line["custom_id"] for line in lines[5:]]
    judgements = run(tmp_path / "journal", URL, tasks(10), offline=True)
    assert [j.reason_unscored for j in judgements] == [None] * 5 + [Unscored.NOT_RECORDED] * 5


def test_what_cannot_be_sent_and_what_is_equal_is_left_out(tmp_path: Path) -> None:
    wanted = [*tasks(2), *tasks(2), JudgeTask(long_record(9000))]
    with Journal(tmp_path) as journal:
        small = judge(journal, URL, max_model_len=3500, max_tokens=1200)
        exported = export_batch(small.requests(wanted), journal, tmp_path / "b.jsonl")
    assert exported.requests in {2, 3}
    assert exported.requests + exported.unsendable == 3


def test_a_large_export_is_split_for_batch_apis(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MAX_LINES", 4)
    with Journal(tmp_path / "journal") as journal:
        exported = export_batch(judge(journal, URL).requests(tasks(10)), journal, tmp_path / "b.jsonl")
    assert [path.name for path in exported.paths] == ["b.jsonl", "b-2.jsonl", "b-3.jsonl"]
    assert [path.read_bytes().count(b"\n") for path in exported.paths] == [4, 4, 2]


def test_a_file_of_something_else_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "other.jsonl", [{"id": "a", "reply": "[A1] ..."}])
    with Journal(tmp_path / "journal") as journal:
        with pytest.raises(InputError, match=r"other.jsonl:1: no line is a batch result"):
            import_batch(path, journal)
        with pytest.raises(InputError, match="cannot read"):
            import_batch(tmp_path / "absent.jsonl", journal)


def test_the_requests_themselves_are_no_results(tmp_path: Path) -> None:
    export(tmp_path, 3)
    with Journal(tmp_path / "journal") as journal:
        with pytest.raises(InputError, match=r"batch.jsonl: holds requests, not results"):
            import_batch(tmp_path / "batch.jsonl", journal)
        assert len(journal) == 0
    assert (tmp_path / "journal/replies.failures.jsonl").read_bytes() == b""


def test_a_shorter_export_removes_the_later_parts_of_a_longer_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_MAX_LINES", 4)
    (tmp_path / "b-4.jsonl").write_text('{"mine": 1}\n')
    with Journal(tmp_path / "journal") as journal:
        requests = list(judge(journal, URL).requests(tasks(10)))
        assert not export_batch(requests, journal, tmp_path / "b.jsonl").removed
        again = export_batch(requests[:3], journal, tmp_path / "b.jsonl")
    assert [path.name for path in again.removed] == ["b-2.jsonl", "b-3.jsonl"]
    assert sorted(path.name for path in tmp_path.glob("b*.jsonl")) == ["b-4.jsonl", "b.jsonl"]
