"""Running a function over many shards on this machine's cores."""

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

from mira.errors import RunError

__all__ = ["run_all", "workers"]

Job = TypeVar("Job")

# Below this, starting processes takes longer than the work.
_WORTHWHILE_BYTES = 64 * 2**20


def workers(n_jobs: int, size: int) -> int:
    """Return how many processes are worthwhile for jobs that read `size` bytes altogether; 1 means none."""
    return min(n_jobs, os.cpu_count() or 1) if size >= _WORTHWHILE_BYTES else 1


def run_all(function: Callable[[Job], None], jobs: Sequence[Job], n_workers: int) -> Iterator[None]:
    """Run `function` on every job and yield once for each that is done.

    Args:
        function: A function of a module, without a result.
        jobs: Its arguments.
        n_workers: Processes; 1 runs the jobs here.

    Raises:
        RunError: A worker died.
        Exception: What a job raised first; jobs that have not begun are dropped.
    """
    if n_workers < 2:
        for job in jobs:
            function(job)
            yield
        return
    before = set(multiprocessing.active_children())
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(n_workers, mp_context=context, initializer=_die_on_interrupt)
    try:
        for future in as_completed([pool.submit(function, job) for job in jobs]):
            future.result()
            yield
    except BrokenProcessPool:
        raise RunError(
            "a worker process was killed", "Most often memory ran out: lower shard_bytes or free memory, and run again."
        ) from None
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        for process in set(multiprocessing.active_children()) - before:
            process.terminate()
            process.join()
        raise
    finally:
        pool.shutdown(cancel_futures=True)


def _die_on_interrupt() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)
