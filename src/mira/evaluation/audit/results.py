"""What an audit finds: the content of audit.json."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from mira.evaluation.results import Estimate, PlantedFigures

__all__ = ["Agreed", "AuditResult", "Drift", "ScorerAudit", "SourceAudit", "Stratum"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreed:
    """How a scorer agrees with a judge: Spearman's rho.

    Attributes:
        judge: Whom it is compared with.
        records: Records that both scored.
        within: Rho of ranks within each source, sources pooled.
        across: Rho over the records of all sources together.
        sources: Source -> rho within it.
        source_auc: How well the source alone predicts the judge's upper half, as an AUC.
    """

    judge: str
    records: int = 0
    within: Estimate = field(default_factory=Estimate)
    across: Estimate = field(default_factory=Estimate)
    sources: Mapping[str, Estimate] = field(default_factory=dict)
    source_auc: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Stratum:
    """Records that share a value of a field.

    Attributes:
        records: Sampled records with the value and a score.
        shift: Mean of their percentile less that of records of the same source and equal quality, in [-1, 1].
    """

    records: int
    shift: Estimate


@dataclass(frozen=True, slots=True, kw_only=True)
class Drift:
    """One set of scores against another. only_this + both and only_other + both are all records with either score.

    Attributes:
        other: The other set.
        both: Records that have both scores.
        only_this: Records that have only the audited score.
        only_other: Records that have only the other score.
        rho: Spearman's rho of both, over the sample.
        same_half: Share of sampled records that are in the same half of both sets.
        shift: Mean of this set less the mean of the other, in standard deviations of the other; over the sample.
        spread: Standard deviation of this set over that of the other.
        moved: Source -> shift of the mean percentile of its records, in [-1, 1].
    """

    other: str
    both: int = 0
    only_this: int = 0
    only_other: int = 0
    rho: float | None = None
    same_half: float | None = None
    shift: float | None = None
    spread: float | None = None
    moved: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceAudit:
    """One source's scores: counts over all records, figures over the sample."""

    records: int = 0
    scored: int = 0
    mean: float | None = None
    spread: float | None = None
    length_rho: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ScorerAudit:
    """What was found of one scorer. Counts are over all records, other figures over the sample.

    Attributes:
        better: "higher" or "lower". Figures are of scores turned so that higher is better.
        records: Valid records. records = scored + all missing.
        scored: Those with a score.
        missing: Reason -> records without one.
        distinct: Distinct scores.
        commonest: Share of the scored records that have the most frequent score.
        at_median: Share of the scored records that have the median score: a threshold there ties them.
        lowest: The lowest score.
        highest: The highest.
        mean: Mean score.
        spread: Standard deviation.
        source_auc: How well the source alone predicts that a record is in the upper half, as an AUC; 0.5 is chance.
        source_share: Share of the variance of ranks that lies between sources.
        length_rho: Spearman's rho with tokens within each source, sources pooled.
        sources: Source -> its figures.
        teacher: Agreement with the teacher's overall score on labelled records, or with the reference.
        humans: Agreement with human judgements.
        equal_by: What equal quality is measured by in `strata`; "" if by nothing.
        strata: Field -> value -> its records.
        planted: Planted faults, all together, as `mira evaluate` measured them.
        drift: Against another set of scores.
        verdicts: The findings in words.
    """

    better: str = "higher"
    records: int = 0
    scored: int = 0
    missing: Mapping[str, int] = field(default_factory=dict)
    distinct: int = 0
    commonest: float | None = None
    at_median: float | None = None
    lowest: float | None = None
    highest: float | None = None
    mean: float | None = None
    spread: float | None = None
    source_auc: float | None = None
    source_share: float | None = None
    length_rho: float | None = None
    sources: Mapping[str, SourceAudit] = field(default_factory=dict)
    teacher: Agreed | None = None
    humans: Agreed | None = None
    equal_by: str = ""
    strata: Mapping[str, Mapping[str, Stratum]] = field(default_factory=dict)
    planted: PlantedFigures | None = None
    drift: Drift | None = None
    verdicts: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditResult:
    """The content of audit.json.

    Attributes:
        records: Valid records.
        rejected: Lines that are not valid records.
        sampled: Records that rank figures are taken over, at most 50,000 per source, chosen by a hash of their ids.
        scorers: Name -> what was found.
        notes: What could not be measured, and why.
    """

    records: int = 0
    rejected: int = 0
    sampled: int = 0
    scorers: Mapping[str, ScorerAudit] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
