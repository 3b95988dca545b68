"""The selection method `mira`: the trimmed mean over a source's unmasked slots."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mira.config.settings import Config
from mira.corpus import Shard
from mira.corpus.index_reader import Block
from mira.corpus.sidecar import Sidecar
from mira.errors import RunError
from mira.run_folder.files import hash_file, hash_json
from mira.run_folder.paths import RunFolder
from mira.selection.methods.method import BaseMethod, Method
from mira.selection.methods.simple import random_values
from mira.selection.quality import load_mask, trimmed_mean
from mira.selection.score_sidecars import CASCADE, check_merged, made_by, scores_path
from mira.selection.values import MASKED, Ranked, file_state

__all__ = ["METHOD", "Mira"]


@dataclass(frozen=True)
class Mira(BaseMethod):
    """Quality: the trimmed mean over the source's unmasked slots.

    Attributes:
        mask: Source -> unmasked slots.
    """

    mask: Mapping[str, tuple[str, ...]]
    name = "mira"

    def identity(self, config: Config, run: RunFolder, shard: Shard) -> str:
        """Scores, unmasked slots, and how they are averaged."""
        select = config.select
        scores = run.scores(shard.source) / f"{shard.name}.parquet"
        return hash_json(
            [
                self._slots(shard.source), select.trim, select.min_slots, select.masked_source, file_state(scores),
                *([CASCADE, file_state(scores_path(config, run, shard))] if select.scores == CASCADE else []),
            ]
        )  # fmt: skip

    def rank(self, config: Config, run: RunFolder, shard: Shard, blocks: Iterator[Block]) -> Iterator[Ranked]:
        """Value every record by its quality.

        A fully masked source's records get a random order of their own (`masked_source: random`) or no value
        (`drop`), with the reason "masked_source".

        Raises:
            RunError: The score sidecar is missing, or does not hold exactly the shard's valid records; or the
                cascade's was made of other scores.
        """
        slots = self._slots(shard.source)
        if config.select.scores == CASCADE:
            check_merged(run, shard)
        path = scores_path(config, run, shard)
        sidecar = Sidecar(path, run, shard, [*slots, "reason_unscored"], made_by(config))
        for block in blocks:
            batch = sidecar.take(block)
            yield _quality(config, batch, slots) if slots else _masked(config, shard, block)
        sidecar.finish()

    def _slots(self, source: str) -> tuple[str, ...]:
        if source not in self.mask:
            raise RunError(f"the reliability table knows nothing of source '{source}'", "Run `mira reliability` again.")
        return self.mask[source]


def _masked(config: Config, shard: Shard, block: Block) -> Ranked:
    values = np.full(len(block), np.nan)
    if config.select.masked_source == "random":
        values = random_values(config, shard.source, block.ids)
    return Ranked(values, pa.repeat(MASKED, len(block)))


def _quality(config: Config, batch: pa.RecordBatch, slots: tuple[str, ...]) -> Ranked:
    columns = [batch[slot].to_numpy(zero_copy_only=False) for slot in slots]
    quality, scored = trimmed_mean(columns, config.select.trim, config.select.min_slots)
    lacking = np.isnan(quality)
    if not lacking.any():
        return Ranked(quality)
    given = np.sum([batch[slot].is_valid().to_numpy(zero_copy_only=False) for slot in slots], axis=0)
    why = np.where(given > scored, "not_finite", "too_few_slots")
    reasons = pc.if_else(pa.array(lacking), pc.coalesce(batch["reason_unscored"], pa.array(why)), None)
    return Ranked(quality, reasons)


def _cascade_files(config: Config, run: RunFolder) -> dict[str, str]:
    if config.select.scores != CASCADE:
        return {}
    paths = sorted((run.path / "cascade").glob("*/*.parquet"))
    return {"cascade": hash_json([[str(p.relative_to(run.path)), hash_file(p)] for p in paths])}


METHOD = Method(
    name="mira",
    load=lambda _config, run, _log: Mira(load_mask(run)),
    needs=lambda _config: ("group", "score", "reliability"),
    files=_cascade_files,
)
