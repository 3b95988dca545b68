"""The peer of `judging.py`: datatrove's InferenceRunner at an endpoint that is running already.

Needs `datatrove aiofiles aiosqlite httpx xxhash`; its extra `inference` would bring vLLM and torch.
"""

import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import aiofiles  # noqa: F401  # datatrove imports these four when it needs them, too late to leave it out
import aiosqlite  # noqa: F401
import httpx  # noqa: F401
import xxhash  # noqa: F401
from datatrove.data import Document
from datatrove.pipeline.inference.run_inference import InferenceConfig, InferenceRunner
from datatrove.pipeline.writers import JsonlWriter
from loguru import logger

from mira.judging.judge import JudgeTask

logger.disable("datatrove")


def inferred(
    url: str, concurrency: int, seconds: float, tasks: Iterator[JudgeTask], messages: list[Any],
    cpu: Callable[[], float], *, checkpoints: bool,
) -> tuple[float, float]:  # fmt: skip
    """Return (records per second, CPU seconds per 1,000 records), from the first reply until all is written.

    Records are handed out for `seconds`. The requests in flight at the first reply are not counted. With checkpoints
    comes datatrove's request cache, whose backlog after the last reply is in the measured time.
    """
    started: list[tuple[float, float]] = []
    done = 0

    def documents() -> Iterator[Document]:
        deadline = time.perf_counter() + seconds
        for task in tasks:
            if time.perf_counter() > deadline:
                return
            yield Document(text=task.record.text, id=task.record.id)

    async def rollout(document: Document, generate: Any) -> str:
        nonlocal done
        reply = await generate({"messages": messages})
        done += 1
        if not started:
            started.append((time.perf_counter(), cpu()))
        return str(reply.text)

    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:
        runner = InferenceRunner(
            rollout,
            InferenceConfig(
                "endpoint", "fake", endpoint_url=url.removesuffix("/v1"), max_concurrent_generations=concurrency
            ),
            JsonlWriter(f"{folder}/out", "${rank}_${chunk_index}.jsonl", compression=None),
            checkpoints_local_dir=f"{folder}/checkpoints" if checkpoints else None,
        )
        runner.run(documents())
        (begin, spent), end = started[0], time.perf_counter()
        spent = cpu() - spent
        written = sum(path.read_bytes().count(b"\n") for path in Path(folder, "out").iterdir())
    if written != done:
        raise SystemExit(f"datatrove: {done} replies, but {written} records are written")
    counted = done - concurrency
    return counted / (end - begin), spent / counted * 1000
