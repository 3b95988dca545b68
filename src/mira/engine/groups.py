"""Groups of small items: what they write is put in place together, so that they wait for the disk at once."""

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from mira.run_folder.files import together

__all__ = ["GROUP", "Grouped", "grouped"]

GROUP = 256
"""Items of a group, at most."""

_SECONDS = 1.0  # after which files are put in place: little is lost when a run is stopped

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Grouped(Generic[Item, Result]):
    """Runs a function over the items of a group; what they write is put in place together, once a second at least."""

    function: Callable[[Item], Result]

    def __call__(self, items: Sequence[Item]) -> list[Result]:
        """Return the results, in order."""
        results: list[Result] = []
        while len(results) < len(items):
            started = time.monotonic()
            with together():
                while len(results) < len(items) and time.monotonic() - started < _SECONDS:
                    results.append(self.function(items[len(results)]))
        return results


def grouped(items: Iterable[Item], size_of: Callable[[Item], int], most: int) -> list[list[Item]]:
    """Group items in order: a group is of `most` in size at most, unless it is of one item."""
    groups: list[list[Item]] = []
    size = 0
    for item in items:
        of_item = size_of(item)
        if not groups or len(groups[-1]) >= GROUP or size + of_item > most:
            groups.append([])
            size = 0
        groups[-1].append(item)
        size += of_item
    return groups
