"""Does a scorer see planted faults? Records against their spoiled copies."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mira.corpus.record import Record
from mira.evaluation.faults import Fault, degrade
from mira.judging.judge import Judge, JudgeTask
from mira.reliability.stats import Floats, wilson
from mira.selection.aggregate import Mask, trimmed_mean

__all__ = ["Pair", "PlantedFigures", "Scorer", "by_length", "judge_scorer", "measure_planted", "plant"]

Scorer = Callable[[Sequence[Record]], Floats]
"""Records -> one value each, higher is better; NaN where a record cannot be scored."""


@dataclass(frozen=True, slots=True)
class Pair:
    """A record and its spoiled copy."""

    original: Record
    degraded: Record
    fault: Fault


@dataclass(frozen=True, slots=True)
class PlantedFigures:
    """How one scorer meets one fault. Intervals are Wilson's; None where there is nothing to count.

    Attributes:
        fault: The fault, or "all".
        pairs: Pairs.
        compared: Pairs in which both have a value.
        unscored: Spoiled copies without a value. They count as dropped, and in no comparison of pairs.
        accuracy: Share of the compared pairs in which the original has the higher value; equal values count half.
        accuracy_low: Lower end.
        accuracy_high: Upper end.
        recall: Share of spoiled copies below their source's threshold.
        recall_low: Lower end.
        recall_high: Upper end.
        originals_dropped: The same share of the originals: recall means something only beside it.
    """

    fault: str
    pairs: int
    compared: int
    unscored: int
    accuracy: float | None
    accuracy_low: float | None
    accuracy_high: float | None
    recall: float | None
    recall_low: float | None
    recall_high: float | None
    originals_dropped: float | None


def plant(records: Iterable[Record], faults: Sequence[Fault] = tuple(Fault), seed: int = 0) -> list[Pair]:
    """Return every record with every fault; records too short for a fault are left out of it."""
    pairs = ((record, fault, degrade(record, fault, seed)) for record in records for fault in faults)
    return [Pair(record, copy, fault) for record, fault, copy in pairs if copy is not None]


def judge_scorer(judge: Judge, mask: Mask, trim: float, min_slots: int) -> Scorer:
    """Return quality as selection computes it: any judge's trimmed mean over the unmasked slots of the record's source.

    Args:
        judge: The judge. Its answers may come in any order.
        mask: Source -> unmasked slots; a record of a wholly masked source is not scored.
        trim: Share of slots trimmed at each end.
        min_slots: Scored slots that a record needs.
    """

    def score(records: Sequence[Record]) -> Floats:
        place = {(r.source, r.id): i for i, r in enumerate(records)}
        scores = np.full((len(records), judge.n_slots), np.nan, dtype=np.float32)
        for judgement in judge.judge(JudgeTask(record) for record in records):
            scores[place[judgement.source, judgement.id]] = [np.nan if s is None else s for s in judgement.scores]
        quality = np.full(len(records), np.nan)
        sources = np.array([r.source for r in records], dtype=object)
        for source in dict.fromkeys(sources):
            rows, slots = np.flatnonzero(sources == source), mask.get(source, ())
            if slots:
                columns = [scores[rows, int(slot[1:]) - 1] for slot in slots]
                quality[rows] = trimmed_mean(columns, trim, min_slots)[0]
        return quality

    return score


def by_length(records: Sequence[Record]) -> Floats:
    """Value records by their characters: the scorer that others must not resemble."""
    return np.array([len(record.text) for record in records], dtype=np.float64)


def measure_planted(
    pairs: Sequence[Pair], scorer: Scorer, thresholds: Mapping[str, float] | None = None, confidence: float = 0.95
) -> list[PlantedFigures]:
    """Score originals and copies, and count what the scorer sees: one entry a fault, then one for all.

    Args:
        pairs: Records with their copies.
        scorer: The scorer; each record is scored once, however many copies it has.
        thresholds: Source -> value below which a record is dropped. Pairs of other sources count in no recall.
        confidence: Of the intervals, in (0, 1). Pairs count as independent, although copies share their original.
    """
    records = {(r.source, r.id): r for pair in pairs for r in (pair.original, pair.degraded)}
    value = dict(zip(records, scorer(list(records.values())), strict=True))
    good = np.array([value[p.original.source, p.original.id] for p in pairs])
    bad = np.array([value[p.degraded.source, p.degraded.id] for p in pairs])
    cut = np.array([(thresholds or {}).get(p.original.source, np.nan) for p in pairs])
    fault = np.array([p.fault.value for p in pairs], dtype=object)
    figures = [
        _figures(f, good[fault == f], bad[fault == f], cut[fault == f], confidence) for f in dict.fromkeys(fault)
    ]
    return [*figures, _figures("all", good, bad, cut, confidence)]


def _figures(fault: str, good: Floats, bad: Floats, cut: Floats, confidence: float) -> PlantedFigures:
    both = np.isfinite(good) & np.isfinite(bad)
    wins = (good[both] > bad[both]).sum() + (good[both] == bad[both]).sum() / 2
    accuracy = _share(float(wins), int(both.sum()), confidence)
    has_cut = np.isfinite(cut)
    recall = _share(float((~(bad >= cut))[has_cut].sum()), int(has_cut.sum()), confidence)
    dropped = _share(float((~(good >= cut))[has_cut].sum()), int(has_cut.sum()), confidence)
    unscored = int((~np.isfinite(bad)).sum())
    return PlantedFigures(fault, len(good), int(both.sum()), unscored, *accuracy, *recall, dropped[0])


def _share(count: float, n: int, confidence: float) -> tuple[float | None, float | None, float | None]:
    return (count / n, *wilson(count, n, confidence)) if n else (None, None, None)
