"""Certificates that nobody vouches for and proxies that refuse: the message names the setting, and that helps."""

import asyncio
import shutil
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from mira.llm.transport import HttpTransport, Lost, Response

ASK = """
import asyncio, sys
from mira.llm.transport import HttpTransport
async def ask(url):
    transport = HttpTransport(base_urls=[url])
    await transport.start()
    try:
        return await transport.get(f"{url}/models", 60)
    finally:
        await transport.stop()
print(asyncio.run(ask(sys.argv[1])).body.decode())
"""


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self._send(200, b'{"data": [{"id": "m"}]}')

    def do_CONNECT(self) -> None:
        self._send(403, b"not through here")

    def _send(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None: ...


class Server(ThreadingHTTPServer):
    def handle_error(self, *_: object) -> None:
        """A client that refuses the certificate hangs up: that is what is tested."""


@contextmanager
def _serving(context: ssl.SSLContext | None = None) -> Iterator[int]:
    with Server(("127.0.0.1", 0), Handler) as server:
        if context is not None:
            server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join()


async def _ask(url: str) -> Response:
    transport = HttpTransport(base_urls=[url])
    await transport.start()
    try:
        return await transport.get(f"{url}/models", 60)
    finally:
        await transport.stop()


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A certificate for 127.0.0.1 that is signed by nobody else, and its key beside it."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("no openssl command here")
    path = tmp_path / "own.pem"
    command = [openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-keyout", str(tmp_path / "own.key"), "-out", str(path), "-days", "2", "-subj", "/CN=127.0.0.1"]
    subprocess.run([*command, "-addext", "subjectAltName=IP:127.0.0.1"], check=True, capture_output=True)
    return path


def test_a_certificate_of_nobody_names_the_setting_that_helps(
    certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, certificate.with_suffix(".key"))
    with _serving(context) as port:
        url = f"https://127.0.0.1:{port}/v1"
        with pytest.raises(Lost, match=r"its certificate is not trusted; .* file of its authority in SSL_CERT_FILE"):
            asyncio.run(_ask(url))
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        # in a process of its own: what is trusted is read once
        done = subprocess.run([sys.executable, "-c", ASK, url], capture_output=True, text=True, check=False)
    assert done.stdout == '{"data": [{"id": "m"}]}\n', done.stderr


def _go_through(monkeypatch: pytest.MonkeyPatch, port: int) -> None:
    for name in ("no_proxy", "http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    for name in ("HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{port}")


NAMES = "the proxy in HTTPS_PROXY or HTTP_PROXY; NO_PROXY names hosts to reach without it"


def test_a_proxy_that_refuses_names_its_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    with _serving() as port:
        _go_through(monkeypatch, port)
        with pytest.raises(Lost, match=NAMES):
            asyncio.run(_ask("https://mira.invalid/v1"))


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_proxy_that_is_not_there_names_its_setting(scheme: str, monkeypatch: pytest.MonkeyPatch) -> None:
    _go_through(monkeypatch, 9)
    with pytest.raises(Lost, match=NAMES):
        asyncio.run(_ask(f"{scheme}://mira.invalid/v1"))


def test_no_proxy_is_the_way_round_it(monkeypatch: pytest.MonkeyPatch) -> None:
    with _serving() as port:
        _go_through(monkeypatch, 9)
        monkeypatch.setenv("NO_PROXY", "localhost.localdomain,127.0.0.1")
        assert asyncio.run(_ask_with_proxy(f"http://127.0.0.1:{port}/v1")).status == 200


async def _ask_with_proxy(url: str) -> Response:
    transport = HttpTransport(base_urls=["https://mira.invalid/v1"])  # so that the environment's proxy counts
    await transport.start()
    try:
        return await transport.get(f"{url}/models", 60)
    finally:
        await transport.stop()
