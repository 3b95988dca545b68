"""DataMan: the overall score of its rubric (Peng et al. 2025, arXiv 2502.19363), filled in proportion per domain.

The paper keeps the records of the best overall score and fills the budget in proportion per source and domain. Here a
record ranks by its overall score, ties (there are many) by hash, below `min_overall` not at all; with `by_domain` each
pool's budget is split over its domains in proportion to their tokens, so scope `source` is the paper's fill. Going on
to lower scores where the best do not fill the budget is ours.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mira.arrays import Floats
from mira.config.settings import DataManSettings
from mira.corpus import Shard
from mira.corpus.index_reader import Block
from mira.corpus.record import Record
from mira.corpus.sidecar import Sidecar
from mira.errors import ConfigError
from mira.run_folder.content import state_of
from mira.run_folder.files import hash_json
from mira.run_folder.paths import RunFolder
from mira.selection.methods.dataman_endpoint import open_dataman
from mira.selection.methods.method import BaseMethod
from mira.selection.methods.rating import rate_records
from mira.selection.values import Ranked, SelectionInputs

__all__ = ["DataMan", "dataman_scores"]

_MADE_BY = "mira select --set select.method=dataman` with a `select.dataman.endpoint` or `select.dataman.scores"


@dataclass(frozen=True)
class DataMan(BaseMethod):
    """Ranks records by DataMan's overall score, 1 to 5.

    Attributes:
        settings: Where the scores are, and how they are read.
    """

    settings: DataManSettings
    name = "dataman"

    def identity(self, run: RunFolder, shard: Shard) -> str:
        """The sidecar and how it is read."""
        settings = self.settings
        return hash_json([settings.min_overall, settings.by_domain, state_of(dataman_scores(settings, run, shard))])

    def rank(self, run: RunFolder, shard: Shard, blocks: Iterator[Block]) -> Iterator[Ranked]:
        """Value every record by its overall score.

        Records without one have the sidecar's reason, or "no_overall"; those below the least score "below_min_overall".

        Raises:
            RunError: The sidecar is missing, or does not hold exactly the shard's valid records.
        """
        settings = self.settings
        columns = ["overall", "domain_tag", "reason_unscored"]
        sidecar = Sidecar(dataman_scores(settings, run, shard), run, shard, columns, _MADE_BY)
        for block in blocks:
            batch = sidecar.take(block)
            overall = batch["overall"].to_numpy(zero_copy_only=False).astype(np.float64)
            why = pc.if_else(
                batch["overall"].is_valid(), "below_min_overall", pc.coalesce(batch["reason_unscored"], "no_overall")
            )
            lacking = ~(overall >= settings.min_overall)
            reasons = pc.if_else(pa.array(lacking), why, None) if lacking.any() else None
            domains = pc.fill_null(batch["domain_tag"], "Other") if settings.by_domain else None
            yield Ranked(np.where(lacking, np.nan, overall), reasons, domains)
        sidecar.finish()

    def value_records(self, inputs: SelectionInputs, records: Sequence[Record], ids: Sequence[str]) -> Floats:
        """Value records by the overall scores, 1 to 5, of the model at `select.dataman.endpoint`; NaN if it gives none.

        Raises:
            ConfigError: There is no endpoint, or the corpus has its scores from elsewhere.
            JudgeError: The endpoint cannot be used, gave no reply to more records than `teacher.failure_budget` allows,
                or a limit of cost or requests was reached.
        """
        if self.settings.endpoint is None or self.settings.scores:
            raise ConfigError(
                "records outside the corpus need the model that judged the corpus",
                "Serve it, add it as select.dataman.endpoint, and leave out select.dataman.scores.",
            )
        with open_dataman(inputs) as rater:
            rows = rate_records(rater, records, inputs.teacher.failure_budget, inputs.log)
        return np.array([row.get("overall", np.nan) for row in rows], dtype=np.float64)


def dataman_scores(settings: DataManSettings, run: RunFolder, shard: Shard) -> Path:
    """Return where a shard's DataMan scores are."""
    folder = Path(settings.scores).expanduser() if settings.scores else run.path / "dataman"
    return folder / shard.source / f"{shard.name}.parquet"
