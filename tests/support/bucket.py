"""An S3 server over real HTTP (package moto[server]), and a proxy before it that fails in the ways that clouds do."""

import asyncio
import os
import socket
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any
from urllib.request import Request, urlopen

import aiohttp
import pytest
from aiohttp import web
from yarl import URL

KEY_ID, SECRET = "who-writes-here", "hush-nobody-may-read-this"
REGION = "us-east-1"
_HOP = {"connection", "transfer-encoding", "keep-alive", "content-length", "content-encoding"}


def credentials(port: int, **more: str) -> dict[str, str]:
    """Return the environment variables of a client."""
    known = {"ENDPOINT_URL": f"http://127.0.0.1:{port}", "ACCESS_KEY_ID": KEY_ID, "SECRET_ACCESS_KEY": SECRET}
    known |= {"DEFAULT_REGION": REGION, "EC2_METADATA_DISABLED": "true"}
    return {f"AWS_{name}": value for name, value in (known | more).items()}


def environment(port: int, **more: str) -> dict[str, str]:
    """Return this process's environment with a client's variables, and no others of the cloud."""
    return {k: v for k, v in os.environ.items() if not k.startswith("AWS_")} | credentials(port, **more)


@contextmanager
def client_of(port: int, **more: str) -> Iterator[Any]:
    """Give an S3 file system for a server; this process has its credentials meanwhile."""
    s3fs = pytest.importorskip("s3fs")
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("AWS_")]:
            patch.delenv(name)
        for name, value in credentials(port, **more).items():
            patch.setenv(name, value)
        s3fs.S3FileSystem.clear_instance_cache()
        yield s3fs.S3FileSystem(use_listings_cache=False)
    s3fs.S3FileSystem.clear_instance_cache()


@contextmanager
def s3_server() -> Iterator[int]:
    """Give the port of an S3 server without buckets, behind a proxy that lets one conditional put win."""
    server = pytest.importorskip("moto.server").ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    _, port = server.get_host_and_port()
    urlopen(Request(f"http://127.0.0.1:{port}/moto-api/reset", method="POST")).close()
    try:
        with FaultProxy(int(port)) as proxy:
            yield proxy.port
    finally:
        server.stop()


@dataclass(frozen=True)
class Fault:
    """What happens to a request.

    Attributes:
        status: Of the answer; 0: the server's own.
        code: S3's name of the error.
        says: Its message.
        delay: Seconds before the request is passed on.
        drop: Close the connection instead of an answer.
        passed: Pass the request on first, also where it then fails.
    """

    status: int = 0
    code: str = ""
    says: str = "No."
    delay: float = 0.0
    drop: bool = False
    passed: bool = False


SLOW_DOWN = Fault(503, "SlowDown", "Please reduce your request rate.")

Rule = Callable[[web.Request], Fault | None]


class FaultProxy:
    """Passes requests on to a server on this machine, with faults; use as a context manager.

    Conditional puts go one after another, as S3 has it: moto looks whether an object is there, and then puts it.

    Args:
        target: The server's port.
        rule: Says what happens to a request; may be exchanged.

    Attributes:
        port: Where it listens.
        said: Faults by S3's name (or "drop", "delay") -> how often.
        asked: HTTP methods -> how often.
        ignored: Headers in small letters that do not reach the server.
    """

    def __init__(self, target: int, rule: Rule = lambda _: None) -> None:
        self.target, self.rule = target, rule
        self.ignored: set[str] = set()
        self.said: Counter[str] = Counter()
        self.asked: Counter[str] = Counter()
        self.port = 0
        self._puts = asyncio.Lock()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def __enter__(self) -> "FaultProxy":
        self._thread.start()
        self._call(self._start())
        return self

    def __exit__(self, *error: object) -> None:
        self._call(self._stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _call(self, coroutine: Any) -> None:
        asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(20)

    async def _start(self) -> None:
        self._client = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0), auto_decompress=False, timeout=aiohttp.ClientTimeout(300)
        )
        app = web.Application(client_max_size=1 << 30)
        app.router.add_route("*", "/{name:.*}", self._answer)
        self._runner = web.AppRunner(app, shutdown_timeout=0, access_log=None)
        await self._runner.setup()
        listening = socket.create_server(("127.0.0.1", self.port))
        self.port = listening.getsockname()[1]
        await web.SockSite(self._runner, listening).start()

    async def _stop(self) -> None:
        await self._client.close()
        await self._runner.cleanup()
        await asyncio.sleep(0.05)

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        self.asked[request.method] += 1
        fault = self.rule(request) or Fault()
        if fault.delay:
            self.said["delay"] += 1
            await asyncio.sleep(fault.delay)
        answer = None
        if fault.passed or not (fault.status or fault.drop):
            async with self._puts if "If-None-Match" in request.headers else nullcontext():
                answer = await self._pass_on(request, body)
        if fault.drop:
            self.said["drop"] += 1
            assert request.transport is not None
            request.transport.abort()
            return web.Response()
        if fault.status:
            self.said[fault.code] += 1
            text = f"<Error><Code>{fault.code}</Code><Message>{fault.says}</Message></Error>"
            no_body = request.method == "HEAD"
            return web.Response(status=fault.status, text="" if no_body else text, content_type="application/xml")
        assert answer is not None
        return answer

    async def _pass_on(self, request: web.Request, body: bytes) -> web.Response:
        headers = {k: v for k, v in request.headers.items() if k.lower() not in _HOP | {"expect"} | self.ignored}
        if encoding := request.headers.get("Content-Encoding"):
            headers["Content-Encoding"] = encoding  # "aws-chunked"
        url = f"http://127.0.0.1:{self.target}{request.raw_path}"
        async with self._client.request(
            request.method, URL(url, encoded=True), headers=headers, data=body, allow_redirects=False
        ) as answer:
            content = await answer.read()
            passed = {k: v for k, v in answer.headers.items() if k.lower() not in _HOP}
            if request.method == "HEAD" and "Content-Length" in answer.headers:
                passed["Content-Length"] = answer.headers["Content-Length"]
            return web.Response(status=answer.status, body=content, headers=passed)
