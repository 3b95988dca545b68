"""What the endpoints that judge a corpus say of records that are not in it, such as spoiled copies.

Requests, journals, limits and cost guard are those of the corpus: what was asked once is not asked again. Nothing is
written beside the journal.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from mira.config import Config
from mira.corpus.record import Record
from mira.errors import ConfigError
from mira.files import hash_json
from mira.judging._answer import Answer
from mira.judging._wire import Request
from mira.judging.caller import Caller
from mira.judging.cost import current_spending
from mira.judging.failures import UNANSWERED, check_failures
from mira.judging.journal import Journal
from mira.judging.panel import watch
from mira.judging.prompt_logprobs import likelihood_form
from mira.progress import Log
from mira.run import RunFolder
from mira.selection import dataman_endpoint, ppl_endpoint
from mira.selection.keys import Floats

__all__ = ["dataman_overall", "served_bits"]


def dataman_overall(config: Config, run: RunFolder, log: Log, records: Sequence[Record]) -> Floats:
    """Return the overall scores, 1 to 5, of the model at `select.dataman.endpoint`; NaN where its reply has none.

    Raises:
        ConfigError: There is no endpoint, or the corpus has its scores from elsewhere.
        JudgeError: The endpoint cannot be used, gave no reply to more records than `teacher.failure_budget` allows, or
            a limit of cost or requests was reached.
    """
    settings = config.select.dataman.endpoint
    if settings is None or config.select.dataman.scores:
        raise ConfigError(
            "records outside the corpus need the model that judged the corpus",
            "Serve it, add it as select.dataman.endpoint, and leave out select.dataman.scores.",
        )
    with Journal(run.journal, "dataman") as journal:
        caller = Caller(
            settings, journal, hash_json(["dataman", dataman_endpoint._READING]),
            spending=current_spending(config.teacher), offline=config.teacher.offline, log=log,
        )  # fmt: skip
        asked = dataman_endpoint._Asked(settings, caller)
        rows = _ask(config, log, caller, asked.request, dataman_endpoint._read, records)
    return np.array([row.get("overall", np.nan) for row in rows], dtype=np.float64)


def served_bits(config: Config, run: RunFolder, log: Log, records: Sequence[Record]) -> Floats:
    """Return bits per byte under the model at `select.ppl.endpoint`; NaN where it measures none.

    Raises:
        ConfigError: There is no endpoint.
        JudgeError: As `dataman_overall`.
    """
    settings = config.select.ppl.endpoint
    if settings is None:
        raise ConfigError("select.ppl.endpoint: there is none", "Add base_url and model of a served causal LM.")
    with Journal(run.journal, "ppl") as journal:
        caller = Caller(
            settings, journal, hash_json(["ppl", ppl_endpoint._READING]), spending=current_spending(config.teacher),
            offline=config.teacher.offline, log=log, form=likelihood_form(settings.form),
        )  # fmt: skip
        asked = ppl_endpoint._Asked(settings, caller)
        rows = _ask(config, log, caller, asked.request, ppl_endpoint._read, records)
    return np.array([row.get("bits_per_byte", np.nan) for row in rows], dtype=np.float64)


def _ask(
    config: Config,
    log: Log,
    caller: Caller,
    request: Callable[[Record], Request],
    read: Callable[[Answer], Mapping[str, Any]],
    records: Sequence[Record],
) -> list[Mapping[str, Any]]:
    """Ask about every record and return what was read, in their order."""
    requests = [request(record) for record in records]
    place = {(asked.source, asked.tag): at for at, asked in enumerate(requests)}
    rows: list[Mapping[str, Any]] = [{}] * len(records)
    unanswered: defaultdict[str, Counter[str]] = defaultdict(Counter)
    with watch(caller.stats, log, "records outside the corpus", len(records)) as task:
        for answer in caller.complete(requests):
            row = read(answer)
            rows[place[answer.asked.source, answer.asked.tag]] = row
            if row.get("reason_unscored") in UNANSWERED:
                unanswered[answer.asked.source][row["reason_unscored"]] += 1
            task.advance()
    check_failures(unanswered, len(records), config.teacher.failure_budget, log)
    return rows
