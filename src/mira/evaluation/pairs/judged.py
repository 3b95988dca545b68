"""Values of pairs: by the students, by the teacher, by other methods; and what asking a judge would cost."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

import numpy as np

from mira.arrays import Floats
from mira.config.settings import EndpointSettings, EvaluateSettings, SelectSettings
from mira.corpus.record import Record
from mira.errors import MiraError
from mira.evaluation.pairs.pairs_file import RecordPair
from mira.evaluation.pairs.results import PairsPlan
from mira.evaluation.planted import by_length, judge_scorer
from mira.evaluation.planted_methods import load_scorer
from mira.grouping.groups import Group
from mira.judging.judge import Judge, JudgeTask
from mira.llm.journal.reader import JournalReader
from mira.progress import Log
from mira.rubric.judgement import Judgement
from mira.selection.values import MASKED, SelectionInputs
from mira.selection.yardstick.yardsticks import Yardstick
from mira.stage import REPLY_TOKENS

__all__ = ["Valued", "by_judge", "by_methods", "planned", "records_of"]

_NO_STUDENT = "source_not_in_run"
_NO_VALUE = "no_value"


@dataclass(slots=True)
class Valued:
    """Values of the records of pairs: (source, id) -> value, and why others have none."""

    values: dict[tuple[str, str], float] = field(default_factory=dict)
    why: dict[tuple[str, str], str] = field(default_factory=dict)

    def of(self, pairs: Sequence[RecordPair]) -> tuple[Floats, Floats, list[str]]:
        """Return the values of the better and of the worse records, and why pairs cannot be compared."""
        keys = [((p.better.source, p.better.id), (p.worse.source, p.worse.id)) for p in pairs]
        better, worse = (np.array([self.values.get(key[side], np.nan) for key in keys]) for side in (0, 1))
        return better, worse, [self.why.get(a) or self.why.get(b) or _NO_VALUE for a, b in keys]


class _Noting(Judge):
    """A judge whose overall scores, and reasons for scores that are missing, are noted on the way."""

    def __init__(self, judge: Judge) -> None:
        self._judge = judge
        self.identity, self.n_slots = judge.identity, judge.n_slots
        self.overall = Valued()

    def judge(self, tasks: Iterable[JudgeTask]) -> Iterator[Judgement]:
        for judgement in self._judge.judge(tasks):
            key = judgement.source, judgement.id
            if judgement.overall is not None:
                self.overall.values[key] = judgement.overall
            if judgement.reason_unscored is not None:
                self.overall.why[key] = str(judgement.reason_unscored)
            yield judgement


def records_of(pairs: Iterable[RecordPair], sources: Iterable[str]) -> list[Record]:
    """Return the records of pairs of some sources."""
    wanted = set(sources)
    return [record for p in pairs if p.better.source in wanted for record in (p.better, p.worse)]


def by_judge(
    pairs: Sequence[RecordPair],
    groups: Sequence[Group],
    opened: Callable[[Group], AbstractContextManager[Judge]],
    yardsticks: Mapping[str, Yardstick],
    select: SelectSettings,
    failure_budget: float,
    log: Log,
) -> tuple[Valued, Valued]:
    """Return quality by each group's judge, and its overall scores.

    Args:
        pairs: The pairs.
        groups: The groups; pairs of other sources have no value.
        opened: Group -> its judge, opened.
        yardsticks: Source -> its yardstick. Records of a wholly masked source have no quality.
        select: How slots are averaged.
        failure_budget: Share of the records that may stay without a reply.
        log: Where progress goes.
    """
    quality, overall = Valued(), Valued()
    for group in groups:
        records = records_of(pairs, group.sources)
        if not records:
            continue
        with opened(group) as judge:
            noting = _Noting(judge)
            values = judge_scorer(noting, yardsticks, select, failure_budget, log)(records)
        keys = [(record.source, record.id) for record in records]
        quality.values |= {k: float(v) for k, v in zip(keys, values, strict=True) if np.isfinite(v)}
        masked = {k: MASKED for k in keys if not yardsticks.get(k[0], Yardstick()).slots}
        quality.why |= {**masked, **noting.overall.why}
        overall.values |= noting.overall.values
        overall.why |= noting.overall.why
    known = {source for group in groups for source in group.sources}
    lost = {(r.source, r.id): _NO_STUDENT for p in pairs for r in (p.better, p.worse) if r.source not in known}
    quality.why |= lost
    overall.why |= lost
    return quality, overall


def by_methods(inputs: SelectionInputs, settings: EvaluateSettings, pairs: Sequence[RecordPair]) -> dict[str, Valued]:
    """Return the values by length, and by the methods of `evaluate.methods`; methods that cannot run are reported.

    Both records of a pair are valued under the pair's id, which decides the model that ppl measures them by, and the
    noise of dsir. Only random order gives each a place of its own.
    """
    records = [record for p in pairs for record in (p.better, p.worse)]
    ids = [p.id for p in pairs for _ in range(2)]
    keys = [(record.source, record.id) for record in records]
    found = {"length": Valued(dict(zip(keys, by_length(records).tolist(), strict=True)))}
    for name in dict.fromkeys(settings.methods):
        try:
            values = load_scorer(name, inputs).value_records(inputs, records, ids)
        except MiraError as error:
            inputs.log.note(f"pairs, {name}: left out: {error}")
            continue
        found[name] = Valued({k: float(v) for k, v in zip(keys, values, strict=True) if np.isfinite(v)})
    return found


def planned(
    records: Sequence[Record], judges: Sequence[tuple[Judge, EndpointSettings, Sequence[str]]], known: JournalReader
) -> PairsPlan:
    """Count what judges would be asked about the records.

    Args:
        records: The records.
        judges: Judges, each with its endpoint and the sources of its group.
        known: The run's journal.

    Returns:
        The plan, without the number of pairs.
    """
    calls = answered = tokens_in = tokens_out = 0
    cost, priced = 0.0, True
    for judge, endpoint, sources in judges:
        own = [JudgeTask(record) for record in records if record.source in sources]
        asked = {r.key: r.tokens for r in judge.requests(own) if not r.unsendable}
        left = {key: tokens for key, tokens in asked.items() if not known.count([key])}
        calls += len(left)
        answered += len(asked) - len(left)
        tokens_in += sum(left.values())
        tokens_out += len(left) * REPLY_TOKENS
        cost += (sum(left.values()) * endpoint.price_in + len(left) * REPLY_TOKENS * endpoint.price_out) / 1e6
        priced &= not left or bool(endpoint.price_in or endpoint.price_out)
    return PairsPlan(
        pairs=0, calls=calls, answered=answered, tokens_in=tokens_in, tokens_out=tokens_out,
        cost=cost if priced else None,
    )  # fmt: skip
