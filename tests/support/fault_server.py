"""A chat endpoint over real HTTP that fails in every way that real ones do."""

import asyncio
import hashlib
import random
import socket
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import orjson
from aiohttp import web

from mira.corpus.record import Part, Record
from mira.family import FamilyName
from mira.rubric.rubric import Anchor, Reference, Rubric

N_SLOTS = 15
NAMES = [f"Dimension Number {i}" for i in range(1, N_SLOTS + 1)]


def rubric(name: str = "Dimension") -> Rubric:
    anchors = [Anchor(f"A{i}", f"{name} Number {i}", 10, Reference("r", 5, f"why {i}")) for i in range(1, N_SLOTS + 1)]
    return Rubric.build("text_group_T", anchors)


def record(i: int, source: str = "s") -> Record:
    return Record(f"id-{i:06d}", source, FamilyName.TEXT, (Part("", f"<<record {i:06d} of {source}>> some words"),), i)


def number(request: dict[str, Any]) -> str:
    """Return the record that a request is about."""
    text = request["messages"][-1]["content"]
    start = text.index("<<") + 2
    return str(text[start : text.index(">>")])


def scores(about: str) -> list[float]:
    """Return the scores that the server gives for a record."""
    return [byte % 21 / 2 for byte in hashlib.blake2b(about.encode(), digest_size=N_SLOTS).digest()]


def reply_text(about: str, slots: int = N_SLOTS) -> str:
    lines = [
        f"[A{i}] {name}: {score:g}/10 — a reason of a few words"
        for i, (name, score) in enumerate(zip(NAMES, scores(about), strict=True), 1)
    ]
    closing = ["overall: 71", "training_recommendation: keep", "domain_tag: test", "brief: A record."]
    return "\n".join(lines[:slots] + closing)


def completion(text: str, finish: str = "stop") -> dict[str, Any]:
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": finish}
    usage = {"prompt_tokens": 1000, "completion_tokens": 200}
    return {"object": "chat.completion", "model": "fake", "choices": [choice], "usage": usage}


@dataclass(frozen=True)
class Faults:
    """Shares of requests that meet each fault."""

    busy: float = 0
    broken: float = 0
    reset: float = 0
    hang: float = 0
    truncated: float = 0
    missing: float = 0
    overflow: float = 0


Handler = Callable[[dict[str, Any], web.Request], web.Response | dict[str, Any] | None]


class FaultServer:
    """Serves in a thread of its own; use as a context manager.

    Args:
        faults: Shares of requests that fail, at random but seeded; overflow, truncation and missing slots depend on the
            record, as they do in life.
        latency: Seconds before each reply.
        handler: Looks at each request first; what it returns is sent, None goes on.

    Attributes:
        asked: Record -> requests about it that reached the server.
        answered: Record -> replies that were sent.
        said: Fault -> how often.
        most: Most requests at a time.
    """

    def __init__(self, faults: Faults | None = None, latency: float = 0.0, handler: Handler | None = None) -> None:
        self.faults, self.latency, self.handler = faults or Faults(), latency, handler
        self.asked: Counter[str] = Counter()
        self.answered: Counter[str] = Counter()
        self.said: Counter[str] = Counter()
        self.bodies: list[dict[str, Any]] = []
        self.now = self.most = 0
        self.port = 0
        self._random = random.Random(7)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def __enter__(self) -> "FaultServer":
        self._thread.start()
        self._call(self._start())
        return self

    def __exit__(self, *error: object) -> None:
        self.die()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def die(self) -> None:
        """Stop listening and drop all connections, as a killed process does."""
        self._call(self._stop())

    def revive(self) -> None:
        """Listen on the same port again."""
        self._call(self._start())

    def _call(self, coroutine: Any) -> None:
        asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(10)

    async def _start(self) -> None:
        app = web.Application(client_max_size=1 << 26)
        self._add_routes(app)
        self._runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0, access_log=None)
        await self._runner.setup()
        self._listening = socket.create_server(("127.0.0.1", self.port))
        self.port = self._listening.getsockname()[1]
        await web.SockSite(self._runner, self._listening).start()

    def _add_routes(self, app: web.Application) -> None:
        app.router.add_post("/v1/chat/completions", self._answer)
        app.router.add_get("/v1/models", self._models)

    async def _stop(self) -> None:
        # Accept no more, and let what was accepted become connections: asyncio leaks the socket of a connection whose
        # server closes in between.
        self._loop.remove_reader(self._listening)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        self._abort()
        await self._runner.cleanup()
        self._abort()
        await asyncio.sleep(0.05)  # aborted connections close in the loop's next rounds

    def _abort(self) -> None:
        # All of the loop's, for connections that were just accepted are known to nobody else yet.
        for transport in list(self._loop._transports.values()):  # type: ignore[attr-defined]
            transport.abort()

    async def _models(self, _: web.Request) -> web.Response:
        return web.json_response({"object": "list", "data": [{"id": "fake"}]})

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        body = orjson.loads(await request.read())
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            return await self._respond(body, request)
        finally:
            self.now -= 1

    async def _respond(self, body: dict[str, Any], request: web.Request) -> web.StreamResponse:
        if self.handler is not None and (answer := self.handler(body, request)) is not None:
            if self.latency:
                await asyncio.sleep(self.latency)
            return answer if isinstance(answer, web.Response) else _json(answer)
        about = number(body)
        self.asked[about] += 1
        fault = self._chance()
        if fault:
            self.said[fault] += 1
        if fault == "busy":
            return web.Response(status=429, text='{"error":{"message":"slow down"}}', headers={"Retry-After": "0.2"})
        if fault == "broken":
            return web.Response(status=503, text="upstream is gone")
        if fault == "reset":
            assert request.transport is not None
            request.transport.abort()
            return web.Response()
        await asyncio.sleep(3600 if fault == "hang" else self.latency)
        self.answered[about] += 1
        return self._content(about)

    def _content(self, about: str) -> web.Response:
        luck = int.from_bytes(hashlib.blake2b(about.encode(), digest_size=4, key=b"luck").digest()) / 2**32
        f = self.faults
        if luck < f.overflow:
            self.said["overflow"] += 1
            return web.Response(
                status=400, text='{"error":{"message":"This model\'s maximum context length is 100 tokens."}}'
            )
        if luck < f.overflow + f.truncated:
            self.said["truncated"] += 1
            return _json(completion(reply_text(about)[:300], "length"))
        if luck < f.overflow + f.truncated + f.missing:
            self.said["missing"] += 1
            return _json(completion(reply_text(about, 11)))
        return _json(completion(reply_text(about)))

    def _chance(self) -> str:
        draw = self._random.random()
        for fault in ("busy", "broken", "reset", "hang"):
            draw -= getattr(self.faults, fault)
            if draw < 0:
                return fault
        return ""


def _json(value: dict[str, Any]) -> web.Response:
    return web.Response(body=orjson.dumps(value), content_type="application/json")
