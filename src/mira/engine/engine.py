"""Engines: map a pure function over shards."""

import logging
import multiprocessing
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from typing import Any, Protocol, TypeVar

from mira import plugins
from mira.errors import MiraError, install_hint
from mira.run_folder.working_copy import Change, Recorded, apply_changes

__all__ = ["Engine", "LocalEngine", "RayEngine", "load_engine"]

Item = TypeVar("Item")
Result = TypeVar("Result")


class Engine(Protocol):
    """Runs one function over many items, in any order."""

    def map(self, function: Callable[[Item], Result], items: Sequence[Item]) -> Iterator[Result]:
        """Yield `function(item)` of every item as it finishes.

        `function` and the items must be picklable; what `function` writes must not depend on order or worker.
        """
        ...


def load_engine(name: str, workers: int) -> Engine:
    """Return an engine by name, with so many worker processes; 0 means one per core."""
    engine: Engine = plugins.load(plugins.ENGINES, name)(workers)
    return engine


class LocalEngine:
    """Processes on this machine. One worker, or one item, runs in this process."""

    def __init__(self, workers: int = 0) -> None:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
        self.workers = workers or cores or 1

    def map(self, function: Callable[[Item], Result], items: Sequence[Item]) -> Iterator[Result]:
        """Yield results as they finish.

        Raises:
            MiraError: A worker died (out of memory, killed).
        """
        workers = min(self.workers, len(items))
        if workers <= 1:
            yield from map(function, items)
            return
        others = set(multiprocessing.active_children())
        context = multiprocessing.get_context("spawn")
        pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_start_worker)
        try:
            for result, changes in _results(pool, Recorded(function), items, workers):
                apply_changes(changes)
                yield result
        except BrokenProcessPool:
            raise MiraError(
                "a worker process died",
                "Most often memory ran out: use fewer workers (score.workers) or smaller shards (shard_bytes), and run "
                "again. Finished shards are kept.",
            ) from None
        except BaseException:
            for process in set(multiprocessing.active_children()) - others:
                process.terminate()  # what a shard writes is put in place whole or not at all
            raise
        finally:
            pool.shutdown(cancel_futures=True)


def _results(
    pool: ProcessPoolExecutor, function: Callable[[Item], Result], items: Sequence[Item], workers: int
) -> Iterator[Result]:
    queue = iter(items)
    running = {pool.submit(function, item) for _, item in zip(range(2 * workers), queue, strict=False)}
    while running:
        done, running = wait(running, return_when=FIRST_COMPLETED)
        running |= {pool.submit(function, item) for _, item in zip(done, queue, strict=False)}
        for future in done:
            yield future.result()


def _start_worker() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # die at Ctrl-C without a traceback
    threading.Thread(target=_die_with_parent, daemon=True).start()


def _die_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


class RayEngine:
    """Ray tasks, on the cluster that RAY_ADDRESS names or on this machine. Nodes share nothing but the run's URL.

    Args:
        workers: On this machine, Ray's CPUs (0: all of them). On a cluster, tasks in flight (0: twice its CPUs).
    """

    def __init__(self, workers: int = 0) -> None:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # send no usage statistics
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # Ray's coming default; else it warns
        try:
            import ray  # noqa: PLC0415
        except ImportError:
            raise MiraError("Ray is not installed", f"Install it with: {install_hint('ray')}") from None
        self._ray: Any = ray
        self.workers = workers

    def map(self, function: Callable[[Item], Result], items: Sequence[Item]) -> Iterator[Result]:
        """Yield results as they finish.

        Raises:
            MiraError: There is no cluster at RAY_ADDRESS, its nodes do not have mira, or a worker died.
        """
        if not items:
            return
        ray = self._ray
        address = os.environ.get("RAY_ADDRESS") or "local"
        self._start(address)
        cpus = int(ray.cluster_resources().get("CPU", 1))
        limit = (self.workers if address != "local" else 0) or 2 * max(cpus, 1)

        recorded = Recorded(function)

        @ray.remote  # type: ignore[untyped-decorator]
        def task(item: Item) -> tuple[Result, list[Change]]:
            return recorded(item)  # which may be any callable; Ray itself takes functions only

        queue, running = iter(items), list[Any]()
        try:
            running += [task.remote(item) for _, item in zip(range(limit), queue, strict=False)]
            while running:
                done, running = ray.wait(running)
                running += [task.remote(item) for _, item in zip(done, queue, strict=False)]
                for reference in done:
                    result, changes = ray.get(reference)
                    apply_changes(changes)
                    yield result
        except ray.exceptions.RayTaskError as error:
            raise _unpacked(error) from None
        except ray.exceptions.RayError as error:
            raise MiraError(
                f"a Ray worker died: {str(error).strip().partition(chr(10))[0]}",
                "Most often memory ran out: use fewer workers (score.workers) or smaller shards (shard_bytes), and run "
                "again. Finished shards are kept.",
            ) from None
        finally:
            for reference in running:
                ray.cancel(reference, force=True)  # what a shard writes is put in place whole or not at all

    def _start(self, address: str) -> None:
        if self._ray.is_initialized():
            return
        here = {"num_cpus": self.workers or None, "include_dashboard": False} if address == "local" else {}
        try:
            _reach(address)
            self._ray.init(address, log_to_driver=False, logging_level=logging.ERROR, **here)
        except (OSError, ValueError, RuntimeError) as error:
            raise MiraError(
                f"Ray does not start at {address}: {str(error).strip().partition(chr(10))[0]}",
                "Check RAY_ADDRESS, and set RAY_AUTH_MODE=token where the cluster wants a token. Without RAY_ADDRESS, "
                "Ray runs on this machine; with score.engine: local, it is not used.",
            ) from None


def _reach(address: str) -> None:
    """Raise OSError where nothing listens at "HOST:PORT": Ray itself would end the whole process."""
    host, _, port = address.rpartition("://")[2].rpartition(":")
    if host and port.isdigit():
        socket.create_connection((host, int(port)), timeout=10).close()


def _unpacked(error: Any) -> Exception:
    """Return what a task raised on purpose, without Ray's wrapping; the rest keeps its traceback from the worker."""
    cause: Exception = error.cause
    if isinstance(cause, RuntimeError) and "failed to import" in str(cause):
        last = str(cause).strip().rpartition(chr(10))[2]
        return MiraError(
            f"a Ray worker cannot load mira: {last}", "Install the same mira on every node of the cluster."
        )
    return cause if isinstance(cause, MiraError | OSError) else error
