"""`mira review --report`: what people's judgements say of the current selection, written to review.json."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any, TypeGuard

import numpy as np

from mira.config.settings import Config, ReviewSettings
from mira.errors import RunError
from mira.progress import Log
from mira.reviewing.agreement import Pair, alpha, alpha_of_pairs, kappa, rho
from mira.reviewing.estimates import Judged, share
from mira.reviewing.journal import KEEP, SKIP, HumanJudgement, Judgements, read_all
from mira.reviewing.results import (
    AgreementRow,
    BudgetFigures,
    Estimate,
    ReviewerCounts,
    ReviewResult,
    SelectionFigures,
)
from mira.reviewing.sample import Card, Sample, load_sample
from mira.reviewing.selected import Chosen, budget_shares, chosen, quality_at, student_scores, teacher_labels
from mira.rubric.judgement import Recommendation
from mira.rubric.rubric import Rubric
from mira.run_folder.files import read_json
from mira.run_folder.paths import RunFolder
from mira.run_folder.results import write_result

__all__ = ["measure"]

_VERDICTS, _SCORES = 3, 11  # levels: drop, downsample, keep; 0 to 10
_KEEP = float(_VERDICTS - 1)
_OF_TEACHER = {Recommendation.KEEP: _KEEP, Recommendation.DOWNSAMPLE: 1.0, Recommendation.DROP: 0.0}
_FEWEST_KEPT = 10  # judged records that a budget must keep before its precision is believed

Key = tuple[str, str]


@dataclass(frozen=True, slots=True)
class _Said:
    """The verdicts and scores that count: of a card, by reviewer."""

    number: int
    card: Card
    chosen: Chosen
    by: Mapping[str, HumanJudgement]

    @property
    def keep(self) -> float:
        """Share of the reviewers who would keep it."""
        return float(np.mean([one.verdict == KEEP for one in self.by.values()]))


def measure(config: Config, run: RunFolder, log: Log) -> ReviewResult:
    """Set people's judgements beside the selection, the teacher and the student; write `review.json` if there are any.

    Args:
        config: The settings: `review`, and `select.scores`.
        run: A run folder with a finished selection.
        log: Where progress goes.

    Raises:
        RunError: Nothing is selected yet, or there is no sample.
    """
    if not run.thresholds.is_file():
        raise RunError(f"{run.thresholds}: nothing is selected yet", "Run: mira run CONFIG")
    sample = load_sample(run)
    if sample is None:
        raise RunError(f"{run.human}: there is no sample to review yet", "Draw it: mira review CONFIG")
    judgements = read_all(run)
    thresholds = read_json(run.thresholds)
    with log.task("review: figures", total=3) as task:
        now = chosen(run, sample.cards)
        said = _said(sample, judgements, now)
        task.advance()
        agreement = _agreement(config, run, said)
        task.advance()
        interval = config.review.interval
        sources = sorted({one.card.source for one in said})
        result = ReviewResult(
            method=thresholds["method"],
            scope=thresholds["scope"],
            budget_tokens=thresholds["budget_tokens"],
            sampled=len(sample.cards),
            judged=len(said),
            shared=sum(len(one.by) > 1 for one in said),
            reviewers={name: _counts(judgements.latest(name), sample) for name in judgements.history},
            agreement=agreement,
            all=_figures(said, interval) if said else None,
            sources={name: _figures([one for one in said if one.card.source == name], interval) for name in sources},
            budget=_budget(config.review, run, said, thresholds) if said else None,
            notes=tuple(_notes(sample, judgements, now, said, thresholds)),
        )
        task.advance()
    if judgements.history:
        write_result(run.review, result)
    return result


def _said(sample: Sample, judgements: Judgements, now: Mapping[Key, Chosen]) -> list[_Said]:
    latest = {name: judgements.latest(name) for name in judgements.history}
    found = []
    for number, card in enumerate(sample.cards):
        by = {name: own[card.key] for name, own in latest.items() if card.key in own and own[card.key].verdict != SKIP}
        if by and card.key in now:
            found.append(_Said(number, card, now[card.key], by))
    return found


def _counts(latest: Mapping[Key, HumanJudgement], sample: Sample) -> ReviewerCounts:
    own = [latest[card.key] for card in sample.cards if card.key in latest]
    return ReviewerCounts(
        keep=sum(one.verdict == KEEP for one in own),
        drop=sum(one.verdict not in (KEEP, SKIP) for one in own),
        skipped=sum(one.verdict == SKIP for one in own),
        with_slots=sum(bool(one.scores) for one in own),
    )


def _figures(said: Sequence[_Said], confidence: float) -> SelectionFigures:
    judged = _judged(said)
    keep = np.array([one.keep for one in said])
    kept = np.array([one.chosen.kept for one in said], np.float64)
    tokens = np.array([one.chosen.n_tokens for one in said], np.float64)
    every = np.ones(len(said))

    def of(part: Any, whole: Any) -> Estimate:
        found = share(judged, part, whole, confidence)
        n = int(np.count_nonzero(whole))
        return Estimate(*found, n) if found else Estimate(n=n)

    return SelectionFigures(
        judged=len(said),
        kept=int(kept.sum()),
        precision=of(kept * keep, kept),
        recall=of(kept * keep, keep),
        base_rate=of(keep, every),
        precision_tokens=of(tokens * kept * keep, tokens * kept),
        recall_tokens=of(tokens * kept * keep, tokens * keep),
    )


def _judged(said: Sequence[_Said]) -> Judged:
    cards = [one.card for one in said]
    return Judged.of([c.stratum for c in cards], [c.stratum_records for c in cards], [c.inclusion for c in cards])


def _budget(
    settings: ReviewSettings, run: RunFolder, said: Sequence[_Said], thresholds: Mapping[str, Any]
) -> BudgetFigures:
    """Find the largest budget at which the lower end of the precision's interval is not below what is wanted."""
    shares = budget_shares(run, [one.card.key for one in said])
    if isinstance(shares, str):
        return BudgetFigures(settings.precision, reason=shares)
    judged, keep = _judged(said), np.array([one.keep for one in said])
    at = np.array([shares.get(one.card.key, np.inf) for one in said])
    best = BudgetFigures(
        settings.precision, reason="at no budget is the lower end of the interval that high; more judgements narrow it"
    )
    for budget in sorted(set(at[np.isfinite(at)].tolist())):
        kept = (at <= budget).astype(np.float64)
        if (n := int(kept.sum())) < _FEWEST_KEPT:
            continue
        found = share(judged, kept * keep, kept, settings.interval)
        if found and found[1] >= settings.precision:
            tokens = int(budget * thresholds["tokens_in"])
            best = BudgetFigures(settings.precision, budget, tokens, Estimate(*found, n), judged=n)
    if best.share is None:
        return best
    return BudgetFigures(best.wanted, best.share, best.tokens, best.precision, quality_at(run, best.share), best.judged)


def _agreement(config: Config, run: RunFolder, said: Sequence[_Said]) -> tuple[AgreementRow, ...]:
    interval = config.review.interval
    keys = [one.card.key for one in said]
    teacher, student = teacher_labels(run, keys), student_scores(config.select, run, keys)
    names = sorted({name for one in said for name in one.by})
    rows = [_between(said, a, b, interval) for a, b in itertools.combinations(names, 2)]
    if len(names) > 2:
        rows.append(_among(said, interval))
    rows += [_with_teacher(said, teacher, interval), _with_student(said, interval)]
    for group in sorted({one.card.group for one in said if one.card.group}):
        own = [one for one in said if one.card.group == group and any(j.scores for j in one.by.values())]
        if own and run.rubric(group).is_file():
            rubric = Rubric.load(run.rubric(group), group)
            for anchor in rubric.anchors:
                rows += _slot(own, group, anchor.slot, anchor.name, teacher, student, interval)
    return tuple(row for row in rows if row.kappa.n or row.rho.n)


def _verdict(judgement: HumanJudgement) -> float:
    return _KEEP if judgement.verdict == KEEP else 0.0


def _between(said: Sequence[_Said], a: str, b: str, confidence: float) -> AgreementRow:
    pairs = [
        Pair(one.card.source, one.number, _verdict(one.by[a]), _verdict(one.by[b]))
        for one in said
        if a in one.by and b in one.by
    ]
    return _row(f"{a} and {b}", pairs, _VERDICTS, confidence)


def _among(said: Sequence[_Said], confidence: float) -> AgreementRow:
    pairs = [
        Pair(one.card.source, one.number, _verdict(a), _verdict(b))
        for one in said
        for a, b in itertools.combinations(one.by.values(), 2)
    ]
    ratings = [[_verdict(judgement) for judgement in one.by.values()] for one in said]
    return AgreementRow(
        "all reviewers",
        kappa=kappa(pairs, _VERDICTS, confidence, symmetric=True),
        alpha=alpha(ratings, _VERDICTS, confidence),
        rho=rho(pairs, confidence),
    )


def _with_teacher(said: Sequence[_Said], labels: Mapping[Key, Mapping[str, Any]], confidence: float) -> AgreementRow:
    verdicts, overall = [], []
    for one in said:
        label = labels.get(one.card.key, {})
        for judgement in one.by.values():
            if label.get("recommendation") in _OF_TEACHER:
                second = _OF_TEACHER[Recommendation(label["recommendation"])]
                verdicts.append(Pair(one.card.source, one.number, _verdict(judgement), second))
            if _is_number(label.get("overall")):
                overall.append(Pair(one.card.source, one.number, _verdict(judgement), label["overall"]))
    return _row("reviewers and teacher", verdicts, _VERDICTS, confidence, ranked=overall)


def _with_student(said: Sequence[_Said], confidence: float) -> AgreementRow:
    verdicts, quality = [], []
    for one in said:
        for judgement in one.by.values():
            first = _verdict(judgement)
            verdicts.append(Pair(one.card.source, one.number, first, _KEEP if one.chosen.kept else 0.0))
            if one.chosen.quality is not None:
                quality.append(Pair(one.card.source, one.number, first, one.chosen.quality))
    return _row("reviewers and selection", verdicts, _VERDICTS, confidence, ranked=quality)


def _slot(
    said: Sequence[_Said],
    group: str,
    slot: str,
    name: str,
    teacher: Mapping[Key, Mapping[str, Any]],
    student: Mapping[Key, Mapping[str, Any]],
    confidence: float,
) -> list[AgreementRow]:
    """Compare the scores of one slot: reviewers with each other, with the teacher, and with the student."""
    scored = [(one, [j.scores[slot] for j in one.by.values() if slot in j.scores]) for one in said]
    among = [Pair(one.card.source, one.number, a, b) for one, own in scored for a, b in itertools.combinations(own, 2)]
    rows = [
        AgreementRow(
            "reviewers", slot, group, name,
            kappa(among, _SCORES, confidence, power=2, symmetric=True),
            alpha([own for _, own in scored], _SCORES, confidence),
            rho(among, confidence),
        )
    ]  # fmt: skip
    for judges, scores in (("reviewers and teacher", teacher), ("reviewers and student", student)):
        pairs = [
            Pair(one.card.source, one.number, first, second)
            for one, own in scored
            if _is_number(second := scores.get(one.card.key, {}).get(slot))
            for first in own
        ]
        rows.append(_row(judges, pairs, _SCORES, confidence, what=slot, group=group, name=name))
    return rows


def _row(
    judges: str,
    pairs: Sequence[Pair],
    levels: int,
    confidence: float,
    *,
    ranked: Sequence[Pair] | None = None,
    what: str = "verdict",
    group: str = "",
    name: str = "",
) -> AgreementRow:
    return AgreementRow(
        judges, what, group, name,
        kappa(pairs, levels, confidence, power=1 if what == "verdict" else 2),
        alpha_of_pairs(pairs, levels, confidence),
        rho(pairs if ranked is None else ranked, confidence),
    )  # fmt: skip


def _is_number(value: Any) -> TypeGuard[float]:
    return isinstance(value, int | float) and isfinite(value)


def _notes(
    sample: Sample,
    judgements: Judgements,
    now: Mapping[Key, Chosen],
    said: Sequence[_Said],
    thresholds: Mapping[str, Any],
) -> list[str]:
    notes = []
    if judgements.damaged:
        lines = ", ".join(judgements.damaged[:3])
        notes.append(f"{len(judgements.damaged):,} lines of judgements cannot be read and do not count: {lines}")
    inside = {card.key for card in sample.cards}
    outside = {key for name in judgements.history for key in judgements.latest(name) if key not in inside}
    if outside:
        notes.append(f"judgements of {len(outside):,} records that are not in the sample do not count")
    if gone := sum(card.key not in now for card in sample.cards):
        notes.append(f"{gone:,} records of the sample are not in the selection any longer, and do not count")
    population = {name: [s["records_in"], s["tokens_in"]] for name, s in sorted(thresholds["sources"].items())}
    if population != sample.about.get("population"):
        notes.append(
            "the sample was drawn from other records than are selected from now: shares are of the earlier ones"
        )
    if said and len(said) < len(sample.cards):
        notes.append(f"{len(said):,} of {len(sample.cards):,} records are judged; the rest would narrow the intervals")
    return notes
