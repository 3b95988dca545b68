"""What the endpoints that judge a corpus say of records that are not in it, such as spoiled copies.

Requests, journals, limits and cost guard are those of the corpus: what was asked once is not asked again. Nothing is
written beside the journal.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mira.arrays import Floats
from mira.config.settings import Config
from mira.corpus.record import Record
from mira.errors import ConfigError
from mira.llm.failures import UNANSWERED, check_failures
from mira.llm.progress import watch
from mira.progress import Log
from mira.run_folder.paths import RunFolder
from mira.selection.methods.dataman_endpoint import open_dataman
from mira.selection.methods.ppl_endpoint import open_ppl
from mira.selection.methods.rating import Rater

__all__ = ["dataman_overall", "served_bits"]


def dataman_overall(config: Config, run: RunFolder, log: Log, records: Sequence[Record]) -> Floats:
    """Return the overall scores, 1 to 5, of the model at `select.dataman.endpoint`; NaN where its reply has none.

    Raises:
        ConfigError: There is no endpoint, or the corpus has its scores from elsewhere.
        JudgeError: The endpoint cannot be used, gave no reply to more records than `teacher.failure_budget` allows, or
            a limit of cost or requests was reached.
    """
    if config.select.dataman.endpoint is None or config.select.dataman.scores:
        raise ConfigError(
            "records outside the corpus need the model that judged the corpus",
            "Serve it, add it as select.dataman.endpoint, and leave out select.dataman.scores.",
        )
    with open_dataman(config, run, log) as rater:
        rows = _ask(config, log, rater, records)
    return np.array([row.get("overall", np.nan) for row in rows], dtype=np.float64)


def served_bits(config: Config, run: RunFolder, log: Log, records: Sequence[Record]) -> Floats:
    """Return bits per byte under the model at `select.ppl.endpoint`; NaN where it measures none.

    Raises:
        ConfigError: There is no endpoint.
        JudgeError: As `dataman_overall`.
    """
    with open_ppl(config, run, log) as rater:
        rows = _ask(config, log, rater, records)
    return np.array([row.get("bits_per_byte", np.nan) for row in rows], dtype=np.float64)


def _ask(config: Config, log: Log, rater: Rater, records: Sequence[Record]) -> list[Mapping[str, Any]]:
    """Ask about every record and return what was read, in their order."""
    requests = [rater.request(record) for record in records]
    place = {(asked.source, asked.tag): at for at, asked in enumerate(requests)}
    rows: list[Mapping[str, Any]] = [{}] * len(records)
    unanswered: defaultdict[str, Counter[str]] = defaultdict(Counter)
    with watch(rater.caller.stats, log, "records outside the corpus", len(records)) as task:
        for answer in rater.caller.complete(requests):
            row = rater.read(answer)
            rows[place[answer.asked.source, answer.asked.tag]] = row
            if row.get("reason_unscored") in UNANSWERED:
                unanswered[answer.asked.source][row["reason_unscored"]] += 1
            task.advance()
    check_failures(unanswered, len(records), config.teacher.failure_budget, log)
    return rows
