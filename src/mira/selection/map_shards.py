"""Map a function over shards, in threads or processes depending on the work. Small shards share their writes."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from mira.config.settings import ScoreSettings
from mira.engine import LocalEngine, load_engine
from mira.engine.groups import GROUP, Grouped

__all__ = ["map_shards"]

_SMALL = 200_000  # records; below it, starting processes costs more than it saves
_MANY = 1000  # items; above it, opening files keeps the interpreter busier than the columns, and threads do not help
_GROUP_ROWS = 4096  # about so many rows are worth a group

Item = TypeVar("Item")
Result = TypeVar("Result")


def map_shards(
    settings: ScoreSettings, function: Callable[[Item], Result], items: Sequence[Item], *, rows: int = 0
) -> Iterator[Result]:
    """Run a function over items and yield its results.

    Work on columns releases the interpreter lock, so threads suffice on one machine. Work on the text of many records
    is worth the start of processes.

    Args:
        settings: Engine and number of workers.
        function: The function; picklable.
        items: Its arguments, one per call; picklable.
        rows: Records whose text is read; 0 if only columns are read.
    """
    engine = load_engine(settings.engine, settings.workers)
    if rows > _SMALL or len(items) > _MANY or not isinstance(engine, LocalEngine):
        size = max(min(_GROUP_ROWS * len(items) // max(rows, 1), GROUP, len(items) // (8 * _workers(engine))), 1)
        groups = [items[at : at + size] for at in range(0, len(items), size)]
        for done in engine.map(Grouped(function), groups):
            yield from done
        return
    size = max(min(GROUP, len(items) // (4 * engine.workers)), 1)
    groups = [items[at : at + size] for at in range(0, len(items), size)]
    with ThreadPoolExecutor(engine.workers) as pool:
        for done in pool.map(Grouped(function), groups):
            yield from done


def _workers(engine: object) -> int:
    return max(int(getattr(engine, "workers", 1)), 1)
