"""The findings of an audit in words. The limits are ours."""

from collections.abc import Iterator

from mira.evaluation.audit.results import Agreed, ScorerAudit

__all__ = ["verdicts"]

BY_SOURCE = 0.8
"""AUC of the source alone from which a scorer sorts by source."""
AS_JUDGE = 0.05
"""Difference of that AUC up to which a scorer sorts by source no more than the judge does."""
BY_LENGTH = 0.6
"""Rank correlation with length, within sources, from which a scorer ranks by length."""
COARSE = 0.1
"""Share of records at the median score from which thresholds tie too many records."""
GOOD, WEAK = 0.5, 0.3
"""Rank correlations within sources from which agreement is good, and below which it is weak."""
UNEQUAL = 0.1
"""Shift in percentiles from which a stratum is judged differently."""
DRIFT, MOVED = 0.9, 0.1
"""Rank correlation below which two sets of scores differ, and shift in percentiles from which a source moved."""


def verdicts(audit: ScorerAudit) -> list[str]:
    """Return what the figures say, gravest first."""
    if not audit.scored:
        return ["no record has a score"]
    return [
        *_coverage(audit), *_by_source(audit), *_agreement(audit.teacher), *_agreement(audit.humans), *_length(audit),
        *_ties(audit), *_strata(audit), *_planted(audit), *_drift(audit),
    ] or ["nothing stands out"]  # fmt: skip


def _coverage(audit: ScorerAudit) -> Iterator[str]:
    if audit.scored < audit.records:
        why = ", ".join(f"{n:,} {reason}" for reason, n in audit.missing.items())
        yield f"{audit.records - audit.scored:,} of {audit.records:,} records have no score ({why})"


def _by_source(audit: ScorerAudit) -> Iterator[str]:
    found = audit.source_auc
    if found is None or found < BY_SOURCE:
        return
    judge = audit.teacher
    if judge and judge.source_auc is not None and found - judge.source_auc <= AS_JUDGE:
        yield (
            f"sorts by source as {judge.judge} does: the source alone predicts the upper half of both, with an AUC of "
            f"{found:.2f} and {judge.source_auc:.2f}. Only agreement within sources says something of it"
        )
        return
    than = f" ({judge.source_auc:.2f} for {judge.judge})" if judge and judge.source_auc is not None else ""
    yield (
        f"sorts by source, not by quality: the source alone predicts its upper half with an AUC of {found:.2f}{than}. "
        "Compare its scores within sources only"
    )


def _agreement(found: Agreed | None) -> Iterator[str]:
    if found is None or found.within.value is None:
        return
    low, high = found.within.low or 0.0, found.within.high or 0.0
    rho = f"rho {found.within.value:.2f} [{low:.2f}, {high:.2f}] within sources over {found.records:,} records"
    if low <= 0 <= high:
        yield f"no sign that it agrees with {found.judge}: {rho}"
    elif high <= 0:
        yield f"ranks against {found.judge}: {rho}. Check which way is better"
    elif found.within.value < WEAK:
        yield f"agrees weakly with {found.judge}: {rho}"
    elif found.within.value < GOOD:
        yield f"agrees moderately with {found.judge}: {rho}"
    else:
        yield f"agrees with {found.judge}: {rho}"
    across = found.across.value
    if across is not None and across - found.within.value > 0.15:
        yield (
            f"across sources it seems to agree better with {found.judge} (rho {across:.2f}): the source explains a "
            "part of that"
        )
    poor = [name for name, own in found.sources.items() if own.high is not None and own.high < WEAK]
    if poor:
        yield f"should not be believed on {', '.join(poor)}: rho with {found.judge} is below {WEAK} there"


def _length(audit: ScorerAudit) -> Iterator[str]:
    rho = audit.length_rho
    if rho is not None and abs(rho) >= BY_LENGTH:
        yield f"ranks by length: rho {rho:.2f} with tokens within sources"
    far = [
        f"{name} ({found.length_rho:.2f})"
        for name, found in audit.sources.items()
        if found.length_rho is not None and abs(found.length_rho) >= BY_LENGTH
    ]
    if far and (rho is None or abs(rho) < BY_LENGTH):
        yield f"ranks by length in {', '.join(far)}"


def _ties(audit: ScorerAudit) -> Iterator[str]:
    tied = audit.at_median
    if tied is not None and tied >= COARSE:
        yield (
            f"is coarse: {audit.distinct:,} distinct scores, and {tied:.0%} of the records have the median one, so "
            "that a threshold there is decided by chance"
        )


def _strata(audit: ScorerAudit) -> Iterator[str]:
    equal = f"others of equal quality (by {audit.equal_by})" if audit.equal_by else "others of their source"
    for field, found in audit.strata.items():
        for value, stratum in found.items():
            shift = stratum.shift
            if shift.value is None or shift.low is None or shift.high is None:
                continue
            if abs(shift.value) >= UNEQUAL and not shift.low <= 0 <= shift.high:
                way = "higher" if shift.value > 0 else "lower"
                by = f"by {abs(100 * shift.value):.0f} percentile points"
                interval = f"[{100 * shift.low:+.0f}, {100 * shift.high:+.0f}]"
                yield (
                    f"ranks records with {field} {value} {way} than {equal}: {by} {interval} "
                    f"({stratum.records:,} records)"
                )


def _planted(audit: ScorerAudit) -> Iterator[str]:
    found = audit.planted
    if found and found.accuracy is not None and found.accuracy_low is not None and found.accuracy_high is not None:
        yield (
            f"{'does not see' if found.accuracy_low <= 0.5 else 'sees'} planted faults: the original scores higher in "
            f"{found.accuracy:.0%} [{found.accuracy_low:.0%}, {found.accuracy_high:.0%}] of {found.compared:,} pairs"
        )


def _drift(audit: ScorerAudit) -> Iterator[str]:
    found = audit.drift
    if found is None:
        return
    if not found.both:
        yield f"has no record in common with {found.other}"
        return
    if found.rho is not None and found.rho < DRIFT:
        same = f", {found.same_half:.0%} of records in the same half" if found.same_half is not None else ""
        yield f"differs from {found.other}: rho {found.rho:.2f}{same}"
    elif found.rho is not None:
        yield f"ranks as {found.other} does: rho {found.rho:.2f}"
    if found.shift is not None and abs(found.shift) >= 0.25:
        yield f"its scores have moved by {found.shift:+.2f} standard deviations against {found.other}"
    moved = [f"{name} ({100 * by:+.0f})" for name, by in found.moved.items() if abs(by) >= MOVED]
    if moved:
        yield f"sources have moved against {found.other}, in percentile points: {', '.join(moved)}"
    if found.only_this or found.only_other:
        yield (f"{found.only_this:,} records have only this score, {found.only_other:,} only that of {found.other}")
