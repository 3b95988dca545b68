import json
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
import pytest

from mira.config.settings import EmbeddingSettings
from mira.embedding import EndpointEmbedder, load_embedder
from mira.errors import JudgeError


class Server(ThreadingHTTPServer):
    """A small /v1 that embeds a text as (its length, its 'a's, 1); `faults` are served first."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.faults: list[tuple[int, bytes]] = []
        self.requests: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        self.models = ["tiny"]
        self.drips = False  # send headers, and then a body that never ends

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def log_message(self, *_: object) -> None: ...

    def reply(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        if status == 429:
            self.send_header("Retry-After", "0")
        self.end_headers()
        self.wfile.write(body)

    def drip(self) -> None:
        self.send_response(200)
        self.end_headers()
        with suppress(OSError):  # until the client hangs up
            while self.server.drips:
                self.wfile.write(b" ")
                time.sleep(0.01)
        self.close_connection = True

    def do_GET(self) -> None:
        self.reply(200, json.dumps({"data": [{"id": m} for m in self.server.models]}).encode())

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.keys.append(self.headers.get("Authorization"))
        if self.server.drips:
            return self.drip()
        if self.server.faults:
            return self.reply(*self.server.faults.pop())
        self.server.requests.append(body)
        data = [{"index": i, "embedding": [len(t), t.count("a"), 1]} for i, t in enumerate(body["input"])]
        self.reply(200, json.dumps({"data": data[::-1]}).encode())


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        yield server
        server.shutdown()


def embedder(server: Server, **settings: Any) -> EndpointEmbedder:
    return EndpointEmbedder(EmbeddingSettings(model=server.url, **settings), backoff_s=0.001)


def test_vectors_come_back_in_order_and_normalised(server: Server) -> None:
    texts = ["a" * i + "b" for i in range(150)]
    rows = embedder(server, windows=1).embed(texts)
    expected = np.array([[i + 1, i, 1] for i in range(150)], dtype=float)
    np.testing.assert_allclose(rows, expected / np.linalg.norm(expected, axis=1, keepdims=True), atol=1e-6)
    assert {r["model"] for r in server.requests} == {"tiny"}
    assert max(len(r["input"]) for r in server.requests) == 64


def test_long_texts_are_sent_as_windows(server: Server) -> None:
    embedder(server, windows=2, window_tokens=8).embed(["x" * 1000])
    assert [len(t) for t in server.requests[-1]["input"]] == [48, 48]


def test_the_key_comes_from_the_environment(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MIRA_TEST_KEY", "secret")
    assert load_embedder(EmbeddingSettings(model=server.url, api_key_env="MIRA_TEST_KEY")).dim == 3
    assert server.keys == ["Bearer secret"]
    monkeypatch.delenv("MIRA_TEST_KEY")
    with pytest.raises(JudgeError, match="MIRA_TEST_KEY, named by api_key_env, is not set"):
        embedder(server, api_key_env="MIRA_TEST_KEY")


def test_passing_faults_are_retried(server: Server) -> None:
    client = embedder(server)
    server.faults = [(503, b"busy"), (429, b"slow"), (200, b"{not json")]
    assert client.embed(["aa"]).shape == (1, 3)
    assert server.faults == []


def test_lasting_faults_are_told(server: Server) -> None:
    client = embedder(server, max_retries=1)
    server.faults = [(503, b"busy")] * 5
    with pytest.raises(JudgeError, match="HTTP 503: busy"):
        client.embed(["a"])
    assert len(server.faults) == 3
    server.faults = [(401, b"bad key")]
    with pytest.raises(JudgeError, match="HTTP 401: bad key"):
        client.embed(["a"])
    server.faults = [(200, b'{"data": []}')]
    with pytest.raises(JudgeError, match="0 vectors for 1 texts"):
        client.embed(["a"])
    server.faults = [(200, b'{"data": [{"index": 0, "embedding": [1, 2]}]}')]
    with pytest.raises(JudgeError, match="3 finite numbers"):
        client.embed(["a"])


def test_several_models_need_a_name(server: Server) -> None:
    server.models = ["one", "two"]
    with pytest.raises(JudgeError, match="endpoint_model"):
        embedder(server)
    assert "two" in embedder(server, endpoint_model="two").identity


def test_nobody_there() -> None:
    settings = EmbeddingSettings(model="http://127.0.0.1:9/v1", endpoint_model="x", max_retries=0)
    with pytest.raises(JudgeError, match="no connection"):
        EndpointEmbedder(settings)


def test_redirects_are_refused_and_keys_blotted(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MIRA_TEST_KEY", "emb-secret-99")
    client = embedder(server, api_key_env="MIRA_TEST_KEY")
    server.faults = [(307, b"")]
    with pytest.raises(JudgeError, match="a redirect"):
        client.embed(["a"])
    server.faults = [(400, b'{"error": {"message": "you sent emb-secret-99"}}')]
    with pytest.raises(JudgeError, match=r"you sent \*\*\*") as caught:
        client.embed(["a"])
    assert "secret" not in str(caught.value)


def test_a_torn_body_is_asked_again(server: Server) -> None:
    client = embedder(server)
    server.faults = [(200, b'{"data": [{"index": 0, "embe'), (200, b'{"data": [{"index": 0}]}'), (200, b"\xff\xfe")]
    assert client.embed(["aa"]).shape == (1, 3)
    assert server.faults == []


def test_a_reply_that_drips_for_ever_ends_with_the_timeout(server: Server) -> None:
    """The timeout is of the whole reply: a byte every now and then does not extend it."""
    server.drips = True
    with pytest.raises(JudgeError, match=r"/v1/embeddings: no reply within 0\.2 s"):
        embedder(server, endpoint_model="tiny", timeout_s=0.2, max_retries=1)
    assert len(server.keys) == 2, "asked, and asked again once"
    server.drips = False
    assert embedder(server).embed(["aa"]).shape == (1, 3)


def test_a_key_in_the_url_is_refused(server: Server) -> None:
    with pytest.raises(JudgeError, match="carries") as caught:
        EndpointEmbedder(EmbeddingSettings(model="http://user:hunter2@127.0.0.1:9/v1", endpoint_model="x"))
    assert "hunter2" not in str(caught.value)
