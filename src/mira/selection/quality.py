"""Quality: the trimmed mean of a record's scores over its source's unmasked slots.

The trimmed mean is the paper's; the share trimmed, the least number of scored slots and what happens to a source whose
every slot is masked are our choices (`select` in mira.yaml).
"""

from collections.abc import Mapping, Sequence
from functools import cache

import numpy as np
import numpy.typing as npt
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mira.arrays import Floats
from mira.errors import RunError
from mira.run_folder.paths import RunFolder

__all__ = ["Mask", "Scores", "load_mask", "trim_count", "trimmed_mean"]

Mask = Mapping[str, tuple[str, ...]]
"""Source -> its unmasked slots, in slot order, then the foreign scores that are slots; () where all are masked."""

Scores = npt.NDArray[np.float32]


def load_mask(run: RunFolder) -> dict[str, tuple[str, ...]]:
    """Read which slots of each source are trusted.

    Args:
        run: A run folder with `reliability.parquet` (columns source, slot, masked), and with `foreign_slots.parquet`
            (the same columns) if foreign scores are slots.

    Returns:
        Source -> unmasked slots in slot order (A1, A2, ... A10), then foreign scores by name; an empty tuple where
        every slot is masked.

    Raises:
        RunError: The reliability table is missing.
    """
    if not run.reliability.is_file():
        raise RunError(f"{run.reliability} is not there yet", "Run `mira reliability` first.")
    table = pq.read_table(run.reliability, columns=["source", "slot", "masked"])
    mask: dict[str, tuple[str, ...]] = dict.fromkeys(pc.unique(table["source"]).to_pylist(), ())
    cells = [(c["source"], c["slot"]) for c in table.to_pylist() if not c["masked"]]
    for source, slot in sorted(cells, key=lambda cell: (cell[0], int(cell[1].removeprefix("A")))):
        mask[source] += (slot,)
    if run.foreign_slots.is_file():
        rows = pq.read_table(run.foreign_slots, columns=["source", "slot", "masked"]).to_pylist()
        for source, slot in sorted((row["source"], row["slot"]) for row in rows if not row["masked"]):
            mask[source] = (*mask.get(source, ()), slot)
    return mask


def trim_count(trim: float, n: int) -> int:
    """Return how many of `n` scores go at each end: floor(trim * n), safe from rounding (0.29 * 100 is 29)."""
    return int(trim * n + 1e-9)


def trimmed_mean(columns: Sequence[Scores], trim: float, min_slots: int) -> tuple[Floats, npt.NDArray[np.uint8]]:
    """Average each record's scores without the lowest and the highest.

    Scores are summed in ascending order in float64, so the result depends neither on slot order nor on how records are
    batched.

    Args:
        columns: One float32 array per slot, records in the same order; NaN or infinite is not scored.
        trim: Share of a record's n scored slots cut at each end, in [0, 0.5): floor(trim * n) slots.
        min_slots: Scored slots a record needs, at least 1. If there are fewer slots than that, all of them.

    Returns:
        Quality (NaN if too few slots are scored) and the number of scored slots, per record.
    """
    stack = [np.array(column, dtype=np.float32) for column in columns]
    scored = np.zeros(len(stack[0]), np.uint8)
    for column in stack:
        finite = np.isfinite(column)
        scored += finite
        column[~finite] = np.inf
    for low, high in _network(len(stack)):
        smaller = np.minimum(stack[low], stack[high])
        np.maximum(stack[low], stack[high], out=stack[high])
        stack[low] = smaller
    quality = np.full(len(scored), np.nan)
    for n in np.unique(scored):
        if n >= max(1, min(min_slots, len(stack))):
            rows = np.flatnonzero(scored == n) if n < len(stack) or scored.min() < n else slice(None)
            cut = trim_count(trim, int(n))
            total = np.zeros(len(scored))[rows]
            for column in stack[cut : n - cut]:
                total += column[rows]
            quality[rows] = total / (int(n) - 2 * cut)
    return quality, scored


@cache
def _network(n: int) -> tuple[tuple[int, int], ...]:
    """Return the comparators of Batcher's odd-even merge sort of n inputs.

    Sorting whole columns this way is an order of magnitude faster than sorting each record's short row.
    """
    pairs = []
    p = 1
    while p < n:
        k = p
        while k >= 1:
            for j in range(k % p, n - k, 2 * k):
                same = (i for i in range(min(k, n - j - k)) if (i + j) // (2 * p) == (i + j + k) // (2 * p))
                pairs += [(i + j, i + j + k) for i in same]
            k //= 2
        p *= 2
    return tuple(pairs)
