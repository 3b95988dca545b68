"""Running a function over shards, by what the work is."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from mira.config.settings import Config
from mira.engine import LocalEngine, load_engine

__all__ = ["each"]

_SMALL = 200_000  # records; below it, starting processes costs more than it saves

Item = TypeVar("Item")
Result = TypeVar("Result")


def each(
    config: Config, function: Callable[[Item], Result], items: Sequence[Item], *, rows: int = 0
) -> Iterator[Result]:
    """Run a function over items and yield its results.

    Work on columns leaves the interpreter alone, so on one machine threads do; work on many records' text is worth
    the start of processes.

    Args:
        config: The settings; `score` has engine and number of workers.
        function: What to run; picklable.
        items: What to run it on; picklable.
        rows: Records whose text is read; 0 where only columns are.
    """
    engine = load_engine(config.score.engine, config.score.workers)
    if rows > _SMALL or not isinstance(engine, LocalEngine):
        yield from engine.map(function, items)
        return
    with ThreadPoolExecutor(engine.workers) as pool:
        yield from pool.map(function, items)
