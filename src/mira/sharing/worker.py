"""Which worker this process is, where several of them do the shards of a run."""

import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

__all__ = ["Worker", "as_worker", "this_worker"]


@dataclass(frozen=True, slots=True)
class Worker:
    """A worker.

    Attributes:
        index: Its number, from 0.
        of: How many there are. They share the limits of endpoints and of what may be spent.
    """

    index: int = 0
    of: int = 1

    def share(self, total: int) -> int:
        """Return this worker's share of a number; the shares of all workers add up to it."""
        return total // self.of + (self.index % self.of < total % self.of)

    @property
    def label(self) -> str:
        """What its own files are called by: number and machine; "" for the only one."""
        return f"-{self.index}-{re.sub(r'[^A-Za-z0-9-]', '_', socket.gethostname())[:60]}" if self.of > 1 else ""


_CURRENT: ContextVar[Worker] = ContextVar("worker", default=Worker())  # noqa: B039 - it never changes


def this_worker() -> Worker:
    """Return which worker this process is."""
    return _CURRENT.get()


@contextmanager
def as_worker(index: int, of: int) -> Iterator[Worker]:
    """Be a worker in what is done inside."""
    worker = Worker(index, of)
    token = _CURRENT.set(worker)
    try:
        yield worker
    finally:
        _CURRENT.reset(token)
