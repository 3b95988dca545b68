"""The selection method `column`: records rank by a score that another program gave them."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from mira.config.scores import ForeignSettings
from mira.corpus import Shard
from mira.corpus.index_reader import Block
from mira.errors import ConfigError
from mira.foreign.sidecars import NO_SUCH_SOURCE, foreign_path, read_foreign
from mira.run_folder.content import state_of
from mira.run_folder.files import hash_json
from mira.run_folder.paths import RunFolder
from mira.selection.methods.method import BaseMethod, Method
from mira.selection.values import Ranked, SelectionInputs

__all__ = ["METHOD", "Column", "column_name", "of_score"]


def column_name(score: str) -> str:
    """Return what `values/`, provenance and `compare` call the method of one score."""
    return f"column.{score}"


@dataclass(frozen=True)
class Column(BaseMethod):
    """Ranks records by a foreign score; by its negative if lower is better.

    Attributes:
        score: The score's name.
        settings: Its direction and sources.
    """

    score: str
    settings: ForeignSettings

    @property
    def name(self) -> str:  # type: ignore[override]
        """Name of its folder in `values/`."""
        return column_name(self.score)

    def identity(self, run: RunFolder, shard: Shard) -> str:
        """The sidecar, and which way is better."""
        better, covered = self.settings.better, self.settings.covers(shard.source)
        return hash_json([better, covered, state_of(foreign_path(run, self.score, shard)) if covered else []])

    def rank(self, run: RunFolder, shard: Shard, blocks: Iterator[Block]) -> Iterator[Ranked]:
        """Value every record by its score. Records without one are not ranked, with the reason why it is missing.

        Raises:
            RunError: The score is not joined with this shard, or with other records.
        """
        if not self.settings.covers(shard.source):
            for block in blocks:
                yield Ranked(np.full(len(block), np.nan), pa.repeat(NO_SUCH_SOURCE, len(block)))
            return
        sign = -1.0 if self.settings.better == "lower" else 1.0
        for batch in read_foreign(run, self.score, shard, blocks):
            values = batch["value"].to_numpy(zero_copy_only=False)
            yield Ranked(sign * values, batch["reason"].cast(pa.string()) if batch["value"].null_count else None)


def of_score(score: str) -> Method:
    """Return the method that ranks by one score, whatever `select.column` says."""
    return Method(name=column_name(score), load=lambda inputs: _column(score, inputs), needs=lambda _select: ("join",))


def _column(score: str, inputs: SelectionInputs) -> Column:
    if score not in inputs.scores:
        raise ConfigError(
            f"there is no score '{score}'",
            f"Name one of {', '.join(inputs.scores)}." if inputs.scores else "Add it to `scores`.",
        )
    return Column(score, inputs.scores[score])


METHOD = Method(
    name="column",
    load=lambda inputs: _column(inputs.select.column.score, inputs),
    needs=lambda _select: ("join",),
)
