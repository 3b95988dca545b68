"""Does a scorer see planted faults? Records against their spoiled copies."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from mira.arrays import Floats
from mira.config.settings import SelectSettings
from mira.corpus.record import Record
from mira.evaluation.faults import degrade, faults_of
from mira.evaluation.results import PlantedFigures
from mira.evaluation.subtle_faults import NotPlanted, spoil, subtle_faults_of
from mira.judging.judge import Judge, JudgeTask
from mira.llm.failures import UNANSWERED, check_failures
from mira.progress import Log, Quiet
from mira.rubric.slots import slot_index
from mira.selection.yardstick.yardsticks import Yardstick
from mira.stats import generator, percentile_interval, resamples, wilson

__all__ = [
    "Pair",
    "Planted",
    "Scorer",
    "by_length",
    "judge_scorer",
    "measure_planted",
    "plant",
    "plant_subtle",
    "share_of_wins",
]

_RESAMPLES = 1000

Scorer = Callable[[Sequence[Record]], Floats]
"""Records -> one value each, higher is better; NaN where a record cannot be scored."""


@dataclass(frozen=True, slots=True)
class Pair:
    """A record and its spoiled copy."""

    original: Record
    degraded: Record
    fault: str


def plant(records: Iterable[Record], faults: Sequence[str] = (), seed: int = 0) -> list[Pair]:
    """Return every record with every fault; records that cannot have a fault are left out of it.

    Args:
        records: The records. An answer that is swapped in is that of the next record of the same source.
        faults: The faults; by default those of each record's family (`faults_of`).
        seed: See `degrade`.
    """
    records = list(records)
    by_source: dict[str, list[Record]] = defaultdict(list)
    for record in records:
        by_source[record.source].append(record)
    following = {
        (own.source, own.id): other for found in by_source.values() for own, other in pairwise([*found, *found[:1]])
    }
    pairs = (
        (record, fault, degrade(record, fault, seed, following[record.source, record.id]))
        for record in records
        for fault in faults or faults_of(record.family)
    )
    return [Pair(record, copy, fault) for record, fault, copy in pairs if copy is not None]


class Planted(NamedTuple):
    """Records with their copies.

    Attributes:
        pairs: One per record and fault that it can have.
        skipped: Fault -> why records cannot have it -> records. For each fault, pairs and these add up to the records
            of the families that have it.
    """

    pairs: list[Pair]
    skipped: dict[str, dict[str, int]]

    def joined(self, other: "Planted") -> "Planted":
        """Return both together."""
        faults = sorted({*self.skipped, *other.skipped})
        counts = {f: Counter(self.skipped.get(f, {})) + Counter(other.skipped.get(f, {})) for f in faults}
        return Planted([*self.pairs, *other.pairs], {f: dict(sorted(why.items())) for f, why in counts.items()})


def plant_subtle(records: Iterable[Record], seed: int = 0) -> Planted:
    """Return every record with every fault that looks like good text (`subtle_faults.py`).

    Args:
        records: The records. A part that is put in is that of another of them, of the same source.
        seed: See `spoil`.
    """
    by_source: dict[str, list[Record]] = defaultdict(list)
    for record in records:
        by_source[record.source].append(record)
    pairs: list[Pair] = []
    skipped: dict[str, Counter[str]] = defaultdict(Counter)
    for own in by_source.values():
        for at, record in enumerate(own):
            for fault in subtle_faults_of(record.family):
                copy = spoil(record, fault, [*own[at + 1 :], *own[:at]], seed)
                if isinstance(copy, NotPlanted):
                    skipped[fault][str(copy)] += 1
                else:
                    pairs.append(Pair(record, copy, fault))
    return Planted(pairs, {str(fault): dict(sorted(why.items())) for fault, why in sorted(skipped.items())})


def judge_scorer(
    judge: Judge,
    yardsticks: Mapping[str, Yardstick],
    settings: SelectSettings,
    failure_budget: float = 0.0,
    log: Log | None = None,
) -> Scorer:
    """Return quality as selection computes it: any judge's trimmed mean by the yardstick of the record's source.

    Args:
        judge: The judge. Its answers may come in any order.
        yardsticks: Source -> its yardstick; a record of a wholly masked source is not scored.
        settings: How slots are averaged.
        failure_budget: Share of the records to which a served judge may give no reply. Beyond it the scorer raises
            JudgeError: a copy that was not looked at must not count as one that was seen through.
        log: Where missing replies are reported.
    """

    def score(records: Sequence[Record]) -> Floats:
        place = {(r.source, r.id): i for i, r in enumerate(records)}
        scores = np.full((len(records), judge.n_slots), np.nan, dtype=np.float32)
        unanswered: defaultdict[str, Counter[str]] = defaultdict(Counter)
        for judgement in judge.judge(JudgeTask(record) for record in records):
            scores[place[judgement.source, judgement.id]] = [np.nan if s is None else s for s in judgement.scores]
            if judgement.reason_unscored in UNANSWERED:
                unanswered[judgement.source][judgement.reason_unscored] += 1
        check_failures(unanswered, len(records), failure_budget, log or Quiet())
        quality = np.full(len(records), np.nan)
        sources = np.array([r.source for r in records], dtype=object)
        for source in dict.fromkeys(sources):
            rows, yardstick = np.flatnonzero(sources == source), yardsticks.get(source, Yardstick()).by_judge()
            if yardstick.slots:
                columns = [scores[rows, slot_index(slot)] for slot in yardstick.slots]
                quality[rows] = yardstick.quality(columns, settings)[0]
        return quality

    return score


def by_length(records: Sequence[Record]) -> Floats:
    """Value records by their characters: the scorer that others must not resemble."""
    return np.array([len(record.text) for record in records], dtype=np.float64)


def measure_planted(
    pairs: Sequence[Pair],
    scorer: Scorer,
    thresholds: Mapping[str, float] | None = None,
    confidence: float = 0.95,
    seed: int = 0,
) -> list[PlantedFigures]:
    """Score originals and copies, and count what the scorer sees: one entry a fault, then one for all.

    Args:
        pairs: Records with their copies.
        scorer: The scorer; each record is scored once, however many copies it has.
        thresholds: Source -> value below which a record is dropped. Pairs of other sources count in no recall.
        confidence: Of the intervals, in (0, 1).
        seed: Of the bootstrap.
    """
    records = {(r.source, r.id): r for pair in pairs for r in (pair.original, pair.degraded)}
    value = dict(zip(records, scorer(list(records.values())), strict=True))
    originals = {(p.original.source, p.original.id): i for i, p in enumerate(pairs)}
    values = _Values(
        good=np.array([value[p.original.source, p.original.id] for p in pairs]),
        bad=np.array([value[p.degraded.source, p.degraded.id] for p in pairs]),
        cut=np.array([(thresholds or {}).get(p.original.source, np.nan) for p in pairs]),
        original=np.array([originals[p.original.source, p.original.id] for p in pairs], dtype=np.int64),
    )
    fault = np.array([str(p.fault) for p in pairs], dtype=object)
    figures = [_figures(f, values.at(fault == f), confidence, seed) for f in dict.fromkeys(fault)]
    return [*figures, _figures("all", values, confidence, seed)]


class _Values(NamedTuple):
    """Values of pairs, the threshold of each, and which original each is of."""

    good: Floats
    bad: Floats
    cut: Floats
    original: npt.NDArray[np.int64]

    def at(self, rows: npt.NDArray[np.bool_]) -> "_Values":
        return _Values(self.good[rows], self.bad[rows], self.cut[rows], self.original[rows])


def _figures(fault: str, values: _Values, confidence: float, seed: int) -> PlantedFigures:
    good, bad, cut, original = values
    both, has_cut = np.isfinite(good) & np.isfinite(bad), np.isfinite(cut)
    wins = (good > bad) + (good == bad) / 2
    caught, lost = ~(bad >= cut)[has_cut], ~(good >= cut)[has_cut]
    return PlantedFigures(
        fault, len(good), int(both.sum()), int((~np.isfinite(bad)).sum()),
        *share_of_wins(wins[both], original[both], confidence, seed),
        *share_of_wins(caught.astype(np.float64), original[has_cut], confidence, seed),
        float(lost.mean()) if len(lost) else None,
    )  # fmt: skip


def share_of_wins(
    wins: Floats, original: npt.NDArray[np.int64], confidence: float, seed: int
) -> tuple[float | None, float | None, float | None]:
    """Return the mean of wins (0, 1/2 or 1) and its interval, as `PlantedFigures` says; None without any.

    Args:
        wins: One entry per pair.
        original: Number of the original that each pair is of.
        confidence: Of the interval, in (0, 1).
        seed: Of the bootstrap, where originals have several pairs.
    """
    if not len(wins):
        return (None, None, None)
    of_pair = np.unique(original, return_inverse=True)[1]
    pairs, won = np.bincount(of_pair).astype(np.float64), np.bincount(of_pair, wins)
    share = float(wins.mean())
    if len(pairs) == len(wins) or share in (0.0, 1.0):
        return (share, *wilson(share * len(pairs), len(pairs), confidence))
    blocks = resamples(len(pairs), _RESAMPLES, generator(seed, "planted"))
    drawn = np.concatenate([(won @ block) / (pairs @ block) for block in blocks])
    return (share, *percentile_interval(drawn, confidence))
