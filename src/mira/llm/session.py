"""Requests under way: an event loop in a thread of its own, from which answers come back once they are on disk."""

import asyncio
import contextlib
import queue
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from mira.errors import RunError
from mira.llm.answer import Answer, Failed
from mira.llm.gc_tuning import collect_garbage_often, collect_garbage_rarely
from mira.llm.journal.journal import FRAME_RECORDS, Entry, Journal
from mira.llm.request import Request
from mira.llm.responses.reply import Reply
from mira.llm.sender import Sender, Withdrawn
from mira.llm.transport import Transport

__all__ = ["Session"]

_COMMIT_S = 0.2


class Session:
    """Sends requests and gives back their answers, replies journalled.

    Args:
        sender: Makes what sends them; called in the event loop.
        transport: Started before the first request and stopped after the last.
        journal: Where replies are written before they are given back.
        drain_s: Seconds to wait for what is in flight when the work is stopped.
    """

    def __init__(self, sender: Callable[[], Sender], transport: Transport, journal: Journal, drain_s: float) -> None:
        self._make_sender, self._transport, self._journal, self._drain_s = sender, transport, journal, drain_s
        self._answers: queue.SimpleQueue[list[Answer] | BaseException | None] = queue.SimpleQueue()
        self._ready = threading.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._pending: list[Answer] = []
        self._error: BaseException | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._committing: asyncio.Task[None] | None = None
        self._thread = threading.Thread(target=self._run, name="mira-judging", daemon=True)
        self._thread.start()
        self._ready.wait()

    def submit(self, requests: list[Request]) -> None:
        """Start requests; thread-safe."""
        with contextlib.suppress(RuntimeError):  # the loop has ended: `answers` says why
            self._loop.call_soon_threadsafe(self._accept, requests)

    def answers(self, *, block: bool) -> list[Answer]:
        """Return answers that are ready; with `block`, wait until there are some.

        Raises:
            MiraError: The endpoint cannot be used, a spending limit was reached, or the journal cannot be written.
                All answers from before have been returned.
        """
        try:
            got = self._answers.get(block)
        except queue.Empty:
            return []
        if isinstance(got, BaseException):
            self._answers.put(got)
            raise got
        return got or []

    def stop(self) -> None:
        """Send nothing more, wait for what is in flight, write it down, and end the thread."""
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._finish, None)
        while self._thread.is_alive():  # in short steps, so that a second Ctrl-C is heard
            self._thread.join(0.1)

    # Everything below runs in the loop's thread.

    def _run(self) -> None:
        collect_garbage_rarely()
        try:
            with asyncio.Runner(loop_factory=_loop_factory()) as runner:
                self._loop = runner.get_loop()
                runner.run(self._main())
        except BaseException as error:
            self._answers.put(error)
        finally:
            collect_garbage_often()
            self._ready.set()

    async def _main(self) -> None:
        self._over = asyncio.Event()
        self._sender = self._make_sender()
        await self._transport.start()
        with ThreadPoolExecutor(1, "mira-journal") as self._writer:
            self._ready.set()
            await self._over.wait()
            await self._drain()
        await self._transport.stop()
        self._answers.put(self._error)

    def _accept(self, requests: list[Request]) -> None:
        if self._sender.closing:
            return
        for request in requests:
            task = self._loop.create_task(self._handle(request))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _handle(self, request: Request) -> None:
        try:
            answer = await self._sender.answer(request)
        except Withdrawn:
            return
        except Exception as error:
            self._finish(error)
            return
        self._pending.append(answer)
        if len(self._pending) >= FRAME_RECORDS:
            self._commit_now()
        elif self._timer is None:
            self._timer = self._loop.call_later(_COMMIT_S, self._commit_now)

    def _finish(self, error: BaseException | None) -> None:
        self._error = self._error or error
        self._sender.closing = True
        self._over.set()

    async def _drain(self) -> None:
        for task in self._tasks - self._sender.flying:
            task.cancel()
        if self._sender.flying:
            await asyncio.wait(self._sender.flying, timeout=self._drain_s)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._committing is not None:
            await self._committing
        await self._commit()

    # Group commit: one write and one fsync for all answers of 200 ms, or for 256.

    def _commit_now(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._committing is None:
            self._committing = self._loop.create_task(self._commit())
            self._committing.add_done_callback(self._committed)

    def _committed(self, task: asyncio.Task[None]) -> None:
        self._committing = None
        if len(self._pending) >= FRAME_RECORDS:
            self._commit_now()
        elif self._pending and self._timer is None:
            self._timer = self._loop.call_later(_COMMIT_S, self._commit_now)

    async def _commit(self) -> None:
        answers, self._pending = self._pending, []
        if not answers:
            return
        try:
            await self._loop.run_in_executor(self._writer, self._write, answers)
        except Exception as error:
            self._finish(error)
            return
        self._answers.put(answers)
        if self._journal.full:
            self._finish(
                RunError(
                    f"{self._journal.folder}: the disk is full; all replies that were paid for are in the journal",
                    "Make room on the disk, then run the same command again: it goes on where it stopped.",
                )
            )

    def _write(self, answers: list[Answer]) -> None:
        self._journal.append(
            [Entry(a.request.key, a.request.tag, a.result) for a in answers if a.fresh and isinstance(a.result, Reply)]
        )
        failed = [a.result.line(a.request.key, a.request.tag) for a in answers if isinstance(a.result, Failed)]
        if failed:
            self._journal.fail(failed)


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop]:
    try:
        import uvloop  # noqa: PLC0415
    except ImportError:
        return asyncio.new_event_loop
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory
