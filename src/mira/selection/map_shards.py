"""Map a function over shards, in threads or processes depending on the work. Small shards share their writes."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from mira.config.settings import ScoreSettings
from mira.engine import Engine, LocalEngine, load_engine
from mira.engine.groups import GROUP, Grouped

__all__ = ["engine_for", "group_size", "map_shards"]

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
    engine = engine_for(settings, len(items), rows)
    size = group_size(engine, len(items), rows)
    groups = [items[at : at + size] for at in range(0, len(items), size)]
    for done in engine.map(Grouped(function), groups):
        yield from done


def engine_for(settings: ScoreSettings, n_items: int, rows: int = 0) -> Engine:
    """Return what runs a function over so many items: threads where they suffice, or else the engine of the settings.

    Args:
        settings: Engine and number of workers.
        n_items: How many items there are.
        rows: Records whose text is read; 0 if only columns are read.
    """
    engine = load_engine(settings.engine, settings.workers)
    if rows > _SMALL or n_items > _MANY or not isinstance(engine, LocalEngine):
        return engine
    return _Threads(engine.workers)


class _Threads:
    """Threads of this process."""

    def __init__(self, workers: int) -> None:
        self.workers = workers

    def map(self, function: Callable[[Item], Result], items: Sequence[Item]) -> Iterator[Result]:
        """Yield results in the order of the items."""
        with ThreadPoolExecutor(self.workers) as pool:
            yield from pool.map(function, items)


def group_size(engine: Engine, n_items: int, rows: int) -> int:
    """Return how many items are worth a group: what they write is put in place together."""
    workers = max(int(getattr(engine, "workers", 1)), 1)
    if isinstance(engine, _Threads):
        size = n_items // (4 * workers)
    else:
        size = min(_GROUP_ROWS * n_items // max(rows, 1), n_items // (8 * workers))
    return max(min(size, GROUP), 1)
