"""The selection method `mira`: the trimmed mean over the slots of a source's yardstick."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mira.config.settings import CorpusSettings, SelectSettings
from mira.corpus import Shard
from mira.corpus.index_reader import Block
from mira.corpus.sidecar import Sidecar
from mira.errors import RunError
from mira.foreign.sidecars import MADE_BY, foreign_path, foreign_slots
from mira.run_folder.content import state_of
from mira.run_folder.files import hash_file, hash_json
from mira.run_folder.paths import RunFolder
from mira.selection.methods.method import BaseMethod, Method
from mira.selection.methods.simple import random_values
from mira.selection.score_sidecars import CASCADE, check_merged, made_by, scores_path
from mira.selection.values import MASKED, Ranked
from mira.selection.yardstick.yardsticks import Yardstick, load_yardsticks

__all__ = ["METHOD", "Mira"]


@dataclass(frozen=True)
class Mira(BaseMethod):
    """Quality: the trimmed mean of scores by the source's yardstick.

    Attributes:
        yardsticks: Source -> its yardstick.
        select: Which scores decide, and how they are averaged.
        seed: Of the random order of masked sources.
        name: Name of its folder in `values/`.
    """

    yardsticks: Mapping[str, Yardstick]
    select: SelectSettings
    seed: int
    name: str = "mira"

    def identity(self, run: RunFolder, shard: Shard) -> str:
        """Scores, the yardstick, and how slots are averaged."""
        select, yardstick = self.select, self._yardstick(shard.source)
        scores = run.scores(shard.source) / f"{shard.name}.parquet"
        foreign = {slot: state_of(foreign_path(run, slot, shard)) for slot in yardstick.foreign}
        return hash_json(
            [
                yardstick.slots, select.trim, select.min_slots, select.masked_source, state_of(scores),
                *([foreign, state_of(run.foreign_slots)] if foreign else []),
                *([CASCADE, state_of(scores_path(select, run, shard))] if select.scores == CASCADE else []),
                *([yardstick.means, yardstick.deviations] if yardstick.means else []),
            ]
        )  # fmt: skip

    def rank(self, run: RunFolder, shard: Shard, blocks: Iterator[Block]) -> Iterator[Ranked]:
        """Value every record by its quality.

        A fully masked source's records get a random order of their own (`masked_source: random`) or no value
        (`drop`), with the reason "masked_source".

        Raises:
            RunError: The score sidecar is missing, or does not hold exactly the shard's valid records; or the
                cascade's was made of other scores.
        """
        yardstick = self._yardstick(shard.source)
        if self.select.scores == CASCADE:
            check_merged(run, shard)
        path = scores_path(self.select, run, shard)
        sidecar = Sidecar(path, run, shard, [*yardstick.of_rubric, "reason_unscored"], made_by(self.select))
        foreign = [_ForeignSlot(run, shard, slot) for slot in yardstick.foreign]
        for block in blocks:
            batch = sidecar.take(block)
            for slot in foreign:
                batch = batch.append_column(slot.name, slot.take(block))
            yield _quality(self.select, batch, yardstick) if yardstick.slots else self._masked(shard, block)
        sidecar.finish()
        for slot in foreign:
            slot.finish()

    def _yardstick(self, source: str) -> Yardstick:
        if source not in self.yardsticks:
            raise RunError(f"the reliability table knows nothing of source '{source}'", "Run `mira reliability` again.")
        return self.yardsticks[source]

    def _masked(self, shard: Shard, block: Block) -> Ranked:
        values = np.full(len(block), np.nan)
        if self.select.masked_source == "random":
            values = random_values(self.seed, shard.source, block.ids)
        return Ranked(values, pa.repeat(MASKED, len(block)))


class _ForeignSlot:
    """A foreign score of one shard, on the scale of slots."""

    def __init__(self, run: RunFolder, shard: Shard, name: str) -> None:
        self.name, self._slot = name, foreign_slots(run)[name]
        self._sidecar = Sidecar(foreign_path(run, name, shard), run, shard, ["value"], MADE_BY)
        self.finish = self._sidecar.finish

    def take(self, block: Block) -> pa.Array:
        """Return the scores of a block, null if missing."""
        values = self._sidecar.take(block)["value"].to_numpy(zero_copy_only=False)
        return pa.array(self._slot.scaled(values), from_pandas=True)


def _quality(select: SelectSettings, batch: pa.RecordBatch, yardstick: Yardstick) -> Ranked:
    columns = [batch[slot].to_numpy(zero_copy_only=False) for slot in yardstick.slots]
    quality, scored = yardstick.quality(columns, select)
    lacking = np.isnan(quality)
    if not lacking.any():
        return Ranked(quality)
    given = np.sum([batch[slot].is_valid().to_numpy(zero_copy_only=False) for slot in yardstick.slots], axis=0)
    why = np.where(given > scored, "not_finite", "too_few_slots")
    reasons = pc.if_else(pa.array(lacking), pc.coalesce(batch["reason_unscored"], pa.array(why)), None)
    return Ranked(quality, reasons)


def _cascade_files(select: SelectSettings, _corpus: CorpusSettings, run: RunFolder) -> dict[str, str]:
    if select.scores != CASCADE:
        return {}
    paths = sorted((run.path / "cascade").glob("*/*.parquet"))
    return {"cascade": hash_json([[str(p.relative_to(run.path)), hash_file(p)] for p in paths])}


METHOD = Method(
    name="mira",
    load=lambda inputs: Mira(
        load_yardsticks(inputs.select, inputs.run, engine=inputs.score), inputs.select, inputs.seed
    ),
    needs=lambda _select: ("group", "score", "reliability"),
    files=_cascade_files,
    alone=lambda select: (
        "select.compare_by: centred takes the level of every slot over all shards"
        if select.compare_by == "centred"
        else ""
    ),
)
