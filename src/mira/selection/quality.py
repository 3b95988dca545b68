"""Quality: the trimmed mean of a record's scores over its source's unmasked slots.

The trimmed mean is the paper's; the share trimmed, the least number of scored slots and what happens to a source whose
every slot is masked are our choices (`select` in mira.yaml).
"""

from collections.abc import Mapping, Sequence
from functools import cache

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from mira.arrays import Floats
from mira.config.settings import SelectSettings
from mira.errors import RunError
from mira.run_folder.paths import RunFolder
from mira.selection.score_sidecars import CASCADE

__all__ = ["Mask", "held_out_quality", "load_mask", "trim_count", "trimmed_mean"]

Mask = Mapping[str, tuple[str, ...]]
"""Source -> its unmasked slots, in slot order; () where every slot is masked."""

Scores = npt.NDArray[np.float32]


def load_mask(run: RunFolder) -> dict[str, tuple[str, ...]]:
    """Read which slots of each source are trusted.

    Args:
        run: A run folder with `reliability.parquet` (columns source, slot, masked).

    Returns:
        Source -> unmasked slots in slot order (A1, A2, ... A10); an empty tuple where every slot is masked.

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


def held_out_quality(
    settings: SelectSettings, run: RunFolder, group_of: Mapping[str, str]
) -> dict[tuple[str, str], float]:
    """Return the quality of held-out labelled records by the model that was fitted on the training split alone.

    An encoder student may be fitted on all labels in the end, so that its scores of labelled records are not evidence.
    Where the cascade decides, what it judged again counts as it was judged.

    Args:
        settings: How slots are averaged.
        run: The run folder.
        group_of: Source -> group; students without held-out predictions are passed over.

    Returns:
        (source, id) -> quality, of the records that have one.
    """
    mask = load_mask(run)
    quality: dict[tuple[str, str], float] = {}
    for group in sorted(set(group_of.values())):
        path = run.student(group) / "held_out.parquet"
        if not path.is_file():
            continue
        table = pq.read_table(path)
        for source in (s for s, name in group_of.items() if name == group):
            own, slots = table.filter(pc.equal(table["source"], source)), mask.get(source, ())
            if not slots or not own.num_rows:
                continue
            decides = [own, _judged_again(run, source, own["id"])] if settings.scores == CASCADE else [own]
            for rows in decides:
                columns = [rows[slot].to_numpy(zero_copy_only=False) for slot in slots]
                values = trimmed_mean(columns, settings.trim, settings.min_slots)[0]
                known = zip(rows["id"].to_pylist(), values.tolist(), strict=True)
                quality |= {(source, id_): value for id_, value in known if np.isfinite(value)}
    return quality


def _judged_again(run: RunFolder, source: str, ids: pa.ChunkedArray) -> pa.Table:
    """Return the rows of a source's cascade whose judge is another than that of the scores they were merged into."""
    wanted = ds.field("id").isin(ids.combine_chunks())
    before, after = (
        ds.dataset(sorted(folder.glob("*.parquet"))).to_table(filter=wanted).sort_by("id")
        for folder in (run.scores(source), run.cascade(source))
    )
    return after.filter(pc.not_equal(before["judge"], after["judge"]))


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
