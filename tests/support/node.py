"""A node of a cluster that shares nothing with this machine but the URL of a run."""

import multiprocessing
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import fsspec
from fsspec.implementations.local import LocalFileSystem

from mira.run_folder.working_copy import Recorded, apply_changes


class Shared(LocalFileSystem):  # type: ignore[misc]
    """A folder of this machine as a bucket that several processes reach: shared://tmp/x is /tmp/x."""

    protocol = ("shared",)

    def __init__(self, **options: Any) -> None:
        super().__init__(**options, auto_mkdir=True)

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return "/" + path.removeprefix("shared://").strip("/")


fsspec.register_implementation("shared", Shared, clobber=True)


def _settle(cache: str) -> None:
    os.environ["MIRA_CACHE"] = cache


class Node:
    """An engine of one process with a cache of its own, from which everything is gone before each map."""

    def __init__(self, cache: str) -> None:
        self.cache = cache
        context = multiprocessing.get_context("spawn")
        self.pool = ProcessPoolExecutor(1, mp_context=context, initializer=_settle, initargs=(cache,))
        self.workers = 1
        self.calls: list[str] = []

    def map(self, function: Callable[[Any], Any], items: Sequence[Any]) -> Iterator[Any]:
        """Yield results, and take note of what was put at the URL."""
        shutil.rmtree(self.cache, ignore_errors=True)
        inner = getattr(function, "function", function)
        self.calls.append(getattr(inner, "__name__", type(inner).__name__))
        for result, changes in self.pool.map(Recorded(function), items):
            apply_changes(changes)
            yield result
