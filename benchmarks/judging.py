"""The cost of the journal, and of all of mira on top of the HTTP library.

One run with one fake server in its own process (50 ms latency, 700-byte replies, 8 KB prompts). At each concurrency:

- raw: a bare client loop of the same HTTP library (aiohttp, orjson, uvloop) that sends ready bytes and drops replies;
- plain: the endpoint judge without a journal: prompts rendered, requests hashed, replies parsed to judgements;
- journalled: the same, with every reply on disk before it counts;
- N workers: N such processes at once, which share the concurrency (with --workers N);
- datatrove, without and with its checkpoints: its InferenceRunner against the same server, if installed (see
  `_datatrove.py`).

Usage: python benchmarks/judging.py [--seconds 5] [--concurrency 64 256 1024] [--rounds 1] [--workers 2]
"""

import argparse
import asyncio
import multiprocessing
import random
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import count
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import uvloop

from mira.config.settings import EndpointSettings
from mira.corpus.record import Part, Record
from mira.family import FamilyName
from mira.judging.endpoint import EndpointJudge
from mira.judging.judge import JudgeTask
from mira.judging.prompt import build_prompt
from mira.llm.journal.journal import Entry, Journal
from mira.rubric.rubric import Anchor, Reference, Rubric
from mira.sharing.worker import as_worker

LATENCY_S = 0.05
REPLY_BYTES = 700
PROMPT_BYTES = 8000
NAMES = [f"Dimension {i}" for i in range(1, 16)]


def reply() -> str:
    """Return a reply of 15 slots and 700 bytes."""
    lines = [f"[A{i}] {name}: {i % 10}.5/10 — " for i, name in enumerate(NAMES, 1)]
    closing = "\noverall: 71\ntraining_recommendation: keep\ndomain_tag: test\nbrief: A record."
    room = (REPLY_BYTES - len("\n".join(lines).encode()) - len(closing)) // len(lines)
    return "\n".join(line + "r" * room for line in lines) + closing


def body() -> bytes:
    """Return a whole response body."""
    message = {"role": "assistant", "content": reply()}
    usage = {"prompt_tokens": 2000, "completion_tokens": 200}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    return orjson.dumps({"object": "chat.completion", "model": "fake", "choices": [choice], "usage": usage})


class Server(asyncio.Protocol):
    """The least that is an HTTP server: its CPU is not what is measured."""

    data = body()
    response = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (len(data), data)

    def __init__(self) -> None:
        self.received = bytearray()
        self.wanted = 0
        self.last = False

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.received += data
        if not self.wanted:
            end = self.received.find(b"\r\n\r\n")
            if end < 0:
                return
            head = bytes(self.received[:end]).lower()
            _, _, length = head.partition(b"content-length:")  # a GET has none
            self.wanted = end + 4 + int(length.split(b"\r\n", 1)[0] or 0)
            self.last = b"connection: close" in head
        if len(self.received) >= self.wanted:
            del self.received[: self.wanted]
            self.wanted = 0
            asyncio.get_running_loop().call_later(LATENCY_S, self.answer)

    def answer(self) -> None:
        if not self.transport.is_closing():
            self.transport.write(self.response)
            if self.last:
                self.transport.close()


def serve(pipe: Connection) -> None:
    async def run() -> None:
        server = await asyncio.get_running_loop().create_server(Server, "127.0.0.1", 0, backlog=4096)
        pipe.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run())


def tasks() -> Iterator[JudgeTask]:
    words = "the quick brown fox jumps over a lazy dog and opens an issue about it " * 80
    rng = random.Random(1)
    for i in count():
        start = rng.randrange(500)
        text = f"{i} {words[start : start + PROMPT_BYTES // 2]}"
        yield JudgeTask(Record(f"{i}", "bench", FamilyName.TEXT, (Part("", text),)))


class NoJournal(Journal):
    """Remembers nothing and writes nothing."""

    def append(self, entries: Sequence[Entry]) -> None:
        pass

    def find(self, keys: Any) -> dict[bytes, Any]:
        return {}


def rubric() -> Rubric:
    reason = "a calibration reference of the usual length that says why the score is what it is"
    return Rubric.build(
        "text_group_B", [Anchor(f"A{i}", n, 9, Reference("r", 5, reason)) for i, n in enumerate(NAMES, 1)]
    )


def messages() -> list[dict[str, str]]:
    prompt = build_prompt(rubric())
    user = prompt.user(next(tasks()).record).text
    return [{"role": "system", "content": prompt.system}, {"role": "user", "content": user}]


def judged(
    url: str, concurrency: int, seconds: float, kind: type[Journal], ready: Callable[[], Any] = lambda: None
) -> tuple[float, float]:
    settings = EndpointSettings(base_url=url, model="fake", max_concurrency=concurrency)
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder, kind(Path(folder)) as journal:
        judge = EndpointJudge(settings, rubric(), build_prompt(rubric()), journal)
        stream = judge.judge(tasks())
        warm = time.perf_counter() + 1.5
        for judgement in stream:
            assert judgement.reason_unscored is None
            if time.perf_counter() > warm:
                break
        ready()
        result = measured(lambda: next(stream), seconds)
        stream.close()
    return result


def worker(index: int, of: int, url: str, concurrency: int, seconds: float, ready: Barrier, pipe: Connection) -> None:
    with as_worker(index, of):
        pipe.send(judged(url, concurrency, seconds, Journal, ready.wait))


def shared(url: str, concurrency: int, seconds: float, of: int) -> tuple[float, float]:
    """Return (records per second, CPU seconds per 1,000 records) of so many workers together."""
    context = multiprocessing.get_context("spawn")
    ready, pipes = context.Barrier(of), []
    for index in range(of):
        ours, theirs = multiprocessing.Pipe()
        given = (index, of, url, concurrency, seconds, ready, theirs)
        context.Process(target=worker, args=given, daemon=True).start()
        pipes.append(ours)
    found = [pipe.recv() for pipe in pipes]
    rate = sum(rate for rate, _ in found)
    return rate, sum(rate * cpu for rate, cpu in found) / rate


def measured(step: Callable[[], Any], seconds: float) -> tuple[float, float]:
    """Return (records per second, CPU seconds per 1,000 records) of repeated steps."""
    done, start, cpu = 0, time.perf_counter(), _cpu()
    while time.perf_counter() - start < seconds:
        step()
        done += 1
    return done / (time.perf_counter() - start), (_cpu() - cpu) / done * 1000


def _cpu() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def raw(url: str, concurrency: int, seconds: float) -> tuple[float, float]:
    request = orjson.dumps({"model": "fake", "messages": messages()})

    async def run() -> tuple[float, float]:
        answered, deadline = 0, time.perf_counter() + 1.5 + seconds

        async def worker(session: aiohttp.ClientSession) -> None:
            nonlocal answered
            while time.perf_counter() < deadline:
                async with session.post(f"{url}/chat/completions", data=request) as response:
                    assert orjson.loads(await response.read())["choices"]
                answered += 1

        connector = aiohttp.TCPConnector(limit=concurrency)
        async with aiohttp.ClientSession(connector=connector, headers={"Content-Type": "application/json"}) as session:
            workers = [asyncio.create_task(worker(session)) for _ in range(concurrency)]
            await asyncio.sleep(1.5)
            before, start, cpu = answered, time.perf_counter(), _cpu()
            await asyncio.sleep(seconds - 0.1)
            done, elapsed, spent = answered - before, time.perf_counter() - start, _cpu() - cpu
            await asyncio.gather(*workers)
        return done / elapsed, spent / done * 1000

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(run())


Contender = Callable[[int], tuple[float, float]]


def peers(url: str, seconds: float) -> dict[str, Contender]:
    try:
        from _datatrove import inferred  # noqa: PLC0415
    except ImportError as error:
        print(f"datatrove's InferenceRunner is left out: {error}")
        return {}
    return {
        name: lambda c, on=on: inferred(url, c, seconds, tasks(), messages(), _cpu, checkpoints=on)
        for name, on in (("datatrove", False), ("+ checkpoints", True))
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--workers", type=int, nargs="*", default=[])
    parser.add_argument("--concurrency", type=int, nargs="+", default=[64, 256, 1024])
    arguments = parser.parse_args()
    ours, theirs = multiprocessing.Pipe()
    server = multiprocessing.get_context("spawn").Process(target=serve, args=(theirs,), daemon=True)
    server.start()
    url = f"http://127.0.0.1:{ours.recv()}/v1"
    contenders: dict[str, Contender] = {
        "raw": lambda c: raw(url, c, arguments.seconds),
        "plain": lambda c: judged(url, c, arguments.seconds, NoJournal),
        "journalled": lambda c: judged(url, c, arguments.seconds, Journal),
        **{f"{n} workers": lambda c, n=n: shared(url, c, arguments.seconds, n) for n in arguments.workers},
        **peers(url, arguments.seconds),
    }
    print(f"{'concurrency':>11} {'':<13} {'records/s':>10} {'of raw':>7} {'of plain':>8} {'CPU s/1,000':>12}")
    for concurrency in arguments.concurrency:
        rows: dict[str, list[tuple[float, float]]] = {name: [] for name in contenders}
        for _ in range(arguments.rounds):
            for name, contender in contenders.items():
                rows[name].append(contender(concurrency))
        rate = {name: statistics.median(r for r, _ in measured) for name, measured in rows.items()}
        for name, measured in rows.items():
            cpu = statistics.median(c for _, c in measured)
            print(
                f"{concurrency:>11} {name:<13} {rate[name]:>10,.0f} {rate[name] / rate['raw']:>7.0%} "
                f"{rate[name] / rate['plain']:>8.0%} {cpu:>12.3f}",
                flush=True,
            )
    server.kill()
    sys.stdout.flush()


if __name__ == "__main__":
    main()
