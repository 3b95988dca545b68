"""Failures inside HTTP 200: sent again, paid for, and never kept as answers, whatever way they come in."""

from collections import Counter
from pathlib import Path
from typing import Any

import orjson
import pytest
from aiohttp import web

from judging.test_endpoint import judge, run, tasks
from mira.errors import JudgeError
from mira.llm.cost import Spending
from mira.llm.journal.batch_files import export_batch, import_batch, outstanding
from mira.llm.journal.journal import Entry, Journal
from mira.llm.journal.reader import JournalReader
from mira.llm.responses.reply import Reply
from mira.tokens import tokenizer
from mira.unscored import Unscored
from support.fault_server import FaultServer, completion, number, reply_text

FAILED: dict[str, dict[str, Any]] = {
    "error": {"finish_reason": "error"},
    "abort": {"finish_reason": "abort"},
    "network_error": {"finish_reason": "network_error"},
    "insufficient_system_resource": {"finish_reason": "insufficient_system_resource"},
    "an error object": {"finish_reason": "stop", "error": {"code": 502, "message": "upstream died"}},
}


def failed(request: dict[str, Any], fields: dict[str, Any]) -> dict[str, Any]:
    """Return a whole reply whose choice says that the generation failed."""
    body = completion(reply_text(number(request)))
    body["choices"][0] |= fields
    return body


@pytest.mark.parametrize("kind", FAILED)
def test_a_failed_generation_is_sent_again_and_paid_for(kind: str, tmp_path: Path) -> None:
    tries: Counter[str] = Counter()

    def fail_once(request: dict[str, Any], _: web.Request) -> dict[str, Any] | None:
        tries[number(request)] += 1
        return failed(request, FAILED[kind]) if tries[number(request)] == 1 else None

    spending = Spending(max_cost=100.0)
    with FaultServer(handler=fail_once) as server:
        judgements = run(tmp_path, server.url, tasks(5), spending=spending, price_in=3.0, price_out=10.0)
    assert all(j.reason_unscored is None for j in judgements)
    assert set(tries.values()) == {2}
    assert spending.cost == pytest.approx(10 * (1000 * 3.0 + 200 * 10.0) / 1e6)
    with Journal(tmp_path) as journal:
        assert len(journal) == 5


@pytest.mark.parametrize("kind", FAILED)
def test_a_batch_import_keeps_no_failed_generation(kind: str, tmp_path: Path) -> None:
    with Journal(tmp_path / "journal") as journal:
        client = judge(journal, "http://127.0.0.1:9/v1")
        exported = export_batch(client.requests(tasks(4)), journal, tmp_path / "b.jsonl")
        lines = [orjson.loads(line) for line in (tmp_path / "b.jsonl").read_bytes().splitlines()]
        bodies = [failed(line["body"], FAILED[kind]) for line in lines[:3]] + [completion(reply_text("x"))]
        results = [
            orjson.dumps({"custom_id": line["custom_id"], "response": {"status_code": 200, "body": body}})
            for line, body in zip(lines, bodies, strict=True)
        ]
        (tmp_path / "out.jsonl").write_bytes(b"\n".join(results))
        imported = import_batch(tmp_path / "out.jsonl", journal)
        assert (imported.replies, imported.failures, imported.unreadable) == (1, 3, 0)
        assert (len(journal), outstanding(exported.keys, journal)) == (1, 3)


def test_an_old_journals_failed_generations_count_as_missing(tmp_path: Path) -> None:
    keys = [bytes([i]) * 16 for i in range(4)]
    finishes = ["stop", "error", "abort", "length"]
    entries = [Entry(k, "s/x", Reply("text", f)) for k, f in zip(keys, finishes, strict=True)]
    with Journal(tmp_path) as journal:
        journal.append(entries)
        assert set(journal.find(keys)) == {keys[0], keys[3]}
        assert journal.count(keys) == 2
        assert outstanding(b"".join(keys), journal) == 2
        reader = JournalReader(tmp_path)  # while another process writes
        assert (reader.count(keys), set(reader.find(keys))) == (2, {keys[0], keys[3]})
        journal.append([Entry(keys[1], "s/x", Reply("text", "stop"))])
        assert journal.count(keys) == 3
    assert JournalReader(tmp_path).count(keys) == 3
    assert JournalReader(tmp_path / "nothing").count(keys) == 0


def test_an_old_journals_failed_generation_is_asked_again(tmp_path: Path) -> None:
    with FaultServer() as server:
        with Journal(tmp_path) as journal:
            (request,) = judge(journal, server.url).requests(tasks(1))
            journal.append([Entry(request.key, "s/x", Reply(reply_text("other"), "error"))])
        (judgement,) = run(tmp_path, server.url, tasks(1))
        assert sum(server.asked.values()) == 1
        assert judgement.reason_unscored is None


def test_a_generation_that_always_fails_is_unscored(tmp_path: Path) -> None:
    def handler(request: dict[str, Any], _: web.Request) -> dict[str, Any] | None:
        return failed(request, FAILED["error"]) if "000000" in number(request) else None

    with FaultServer(handler=handler) as server:
        judgements = run(tmp_path, server.url, tasks(30), max_retries=2)
    assert [j.reason_unscored for j in judgements] == [Unscored.ENDPOINT_ERROR] + [None] * 29


def test_max_cost_counts_replies_without_usage_by_the_tokenizer(tmp_path: Path) -> None:
    def handler(request: dict[str, Any], _: web.Request) -> dict[str, Any]:
        body = completion(reply_text(number(request)))
        del body["usage"]
        return body

    spending = Spending(max_cost=100.0)
    with FaultServer(handler=handler) as server, Journal(tmp_path) as journal:
        client = judge(journal, server.url, spending=spending, price_in=0.0, price_out=1.0, tokenizer="cl100k_base")
        list(client.judge(tasks(1)))
    about = number({"messages": [{"content": tasks(1)[0].record.parts[0].text}]})
    (tokens,) = tokenizer("cl100k_base").count([reply_text(about)])
    assert spending.cost == pytest.approx(tokens / 1e6)


def test_an_endpoint_that_sends_only_huge_responses_is_named(tmp_path: Path) -> None:
    page = b"x" * (65 << 20)
    answer = web.Response
    with (
        FaultServer(handler=lambda *_: answer(body=page)) as server,
        pytest.raises(JudgeError, match="more than 64 MB"),
    ):
        run(tmp_path, server.url, tasks(8), max_concurrency=2)
