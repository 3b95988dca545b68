"""Quality of held-out labelled records, by the model that has not seen their labels."""

from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from mira.config.settings import SelectSettings
from mira.foreign.sidecars import with_foreign
from mira.run_folder.paths import RunFolder
from mira.selection.score_sidecars import CASCADE
from mira.selection.yardstick.yardsticks import Yardstick, load_yardsticks

__all__ = ["held_out_quality"]


def held_out_quality(
    settings: SelectSettings, run: RunFolder, group_of: Mapping[str, str]
) -> dict[tuple[str, str], float]:
    """Return the quality of held-out labelled records by the model that was fitted on the training split alone.

    An encoder student may be fitted on all labels in the end, so that its scores of labelled records are not evidence.
    Where the cascade decides, what it judged again counts as it was judged.

    Args:
        settings: How sources are compared and slots are averaged.
        run: The run folder.
        group_of: Source -> group; students without held-out predictions are passed over.

    Returns:
        (source, id) -> quality, of the records that have one.
    """
    yardsticks = load_yardsticks(settings, run)
    quality: dict[tuple[str, str], float] = {}
    for group in sorted(set(group_of.values())):
        path = run.student(group) / "held_out.parquet"
        if not path.is_file():
            continue
        table = pq.read_table(path)
        for source in (s for s, name in group_of.items() if name == group):
            own, yardstick = table.filter(pc.equal(table["source"], source)), yardsticks.get(source, Yardstick())
            if not yardstick.slots or not own.num_rows:
                continue
            decides = [own, _judged_again(run, source, own["id"])] if settings.scores == CASCADE else [own]
            for rows in (with_foreign(run, source, part, yardstick.slots) for part in decides):
                columns = [rows[slot].to_numpy(zero_copy_only=False) for slot in yardstick.slots]
                values = yardstick.quality(columns, settings)[0]
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
