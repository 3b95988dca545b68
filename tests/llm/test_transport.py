"""The HTTP seam and its fake; what responses mean."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from judging.test_endpoint import judge, tasks
from mira.llm.journal.journal import Journal
from mira.llm.responses.reply import Reply
from mira.llm.responses.response import Busy, Rejected, Retryable, Unusable, verdict
from mira.llm.transport import FakeTransport, HttpTransport, Lost, Response, TimedOut, completion
from mira.unscored import Unscored
from support.fault_server import FaultServer, number, reply_text


def test_faults_are_injected_without_patching(tmp_path: Path) -> None:
    tries = 0

    def handler(url: str, request: dict[str, Any]) -> Response | Exception:
        nonlocal tries
        tries += 1
        if tries in {1, 4}:
            return Lost("reset")
        if tries == 2:
            return TimedOut("late")
        return completion(reply_text(number(request)))

    fake = FakeTransport(handler)
    with Journal(tmp_path) as journal:
        judgements = list(judge(journal, "http://nowhere/v1", transport=fake).judge(tasks(5)))
    assert not any(j.reason_unscored for j in judgements)
    assert len(fake.sent) == 8
    assert {url for url, _ in fake.sent} == {"http://nowhere/v1/chat/completions"}


def test_a_fake_may_take_its_time() -> None:
    async def slow(url: str, request: dict[str, Any]) -> Response:
        await asyncio.sleep(5)
        return completion("x")

    with pytest.raises(TimedOut, match=r"within 0.05 s"):
        asyncio.run(FakeTransport(slow).post("http://x", b"{}", 0.05))


def test_the_real_transport_tells_faults_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLM_TEST_KEY", "sk-hidden-1234")

    async def go(url: str) -> None:
        transport = HttpTransport("LLM_TEST_KEY", base_urls=[url])
        assert "hidden" not in repr(transport)
        await transport.start()
        try:
            assert (await transport.get(f"{url}/models", 5)).status == 200
            assert (await transport.get(f"{url}/absent", 5)).status == 404
            with pytest.raises(TimedOut):
                await transport.post(f"{url}/chat/completions", b'{"messages":[{"content":"<<a>>"}]}', 0.05)
            with pytest.raises(Lost) as caught:
                await transport.post("http://127.0.0.1:9/v1", b"{}", 5)
            assert "hidden" not in repr(caught.value) + repr(caught.value.__dict__)
            assert caught.value.__cause__ is None
        finally:
            await transport.stop()

    with FaultServer(latency=1) as server:
        asyncio.run(go(server.url))


@pytest.mark.parametrize(
    ("status", "text", "reason"),
    [
        (400, '{"error":{"message":"This model\'s maximum context length is 4096 tokens."}}', "overflow"),
        (400, '{"error":{"code":400,"type":"exceed_context_size_error","n_ctx":4096}}', "overflow"),
        (400, '{"message":"The decoder prompt is longer than the maximum model length of 4096."}', "overflow"),
        (413, '{"error":"prompt is too long"}', "overflow"),
        (500, '{"error":{"message":"the request exceeds the available context size. try increasing it"}}', "overflow"),
        (400, '{"error":{"code":"content_filter","message":"policy"}}', "refused"),
        (403, '{"error":{"message":"your input was flagged by moderation"}}', "refused"),
        (400, '{"error":{"message":"unknown field foo"}}', "endpoint_error"),
        (422, '{"detail":[{"msg":"field required"}]}', "endpoint_error"),
    ],
)  # fmt: skip
def test_refusals_of_one_request(status: int, text: str, reason: str) -> None:
    said = verdict(Response(status, text.encode()))
    assert isinstance(said, Rejected)
    assert said.reason == Unscored(reason)
    if "4096" in text:
        assert said.context == 4096


def test_what_waits_what_is_tried_again_and_what_ends_it() -> None:
    assert verdict(Response(429, b"", {"retry-after": "3"})) == Busy(3.0)
    assert isinstance(verdict(Response(429, b'{"error":{"code":"insufficient_quota"}}')), Unusable)
    for status in (401, 402, 403, 404):
        assert isinstance(verdict(Response(status, b"no")), Unusable)
    for status in (408, 500, 502, 503, 504, 529):
        assert isinstance(verdict(Response(status, b"later")), Retryable)
    for body in (b"", b"{", b"[]", b'{"choices":[]}', b'{"error":{"message":"x"}}', b"null"):
        assert isinstance(verdict(Response(200, body)), Retryable), body


def test_replies_of_many_servers_are_read() -> None:
    said = verdict(completion("hello", finish="length", reasoning_content="hm"))
    assert isinstance(said, Reply)
    assert (said.text, said.truncated, said.reasoning, said.tokens_in) == ("hello", True, "hm", 100)
    parts = verdict(completion("", content=[{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]))
    assert isinstance(parts, Reply)
    assert parts.text == "ab"
    half = verdict(Response(200, b'{"choices":[{"message":{"content":null}}]}'))
    assert isinstance(half, Reply)
    assert (half.text, half.finish, half.tokens_out) == ("", "", 0)


def test_log_probabilities_are_kept_where_digits_are() -> None:
    def token(text: str, *others: str) -> dict[str, Any]:
        top = [{"token": t, "logprob": -1.0} for t in (text, *others)]
        return {"token": text, "logprob": -0.5, "top_logprobs": top}

    content = [token("hello", "hi"), token(": ", "; "), token("7", "8"), token("/", "."), token("ten", "x"), token("x")]
    body = {"choices": [{"message": {"content": "hello: 7/tenx"}, "logprobs": {"content": content}}]}
    reply = Reply.from_completion(body)
    assert "".join(t.text for t in reply.tokens) == "hello: 7/tenx"
    assert [len(t.top) for t in reply.tokens] == [0, 0, 2, 2, 2, 0]
