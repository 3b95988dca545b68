"""What people's judgements say of a selection: the content of review.json."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from mira.html import block, paragraph, table

__all__ = [
    "AgreementRow",
    "BudgetFigures",
    "Estimate",
    "ReviewResult",
    "ReviewerCounts",
    "SelectionFigures",
]


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure and the ends of its interval, None if undefined, and the number of records behind it."""

    value: float | None = None
    low: float | None = None
    high: float | None = None
    n: int = 0

    def __str__(self) -> str:
        if self.value is None or self.low is None or self.high is None:
            return "-"
        return f"{self.value:.2f} [{self.low:.2f}, {self.high:.2f}]"


@dataclass(frozen=True, slots=True)
class ReviewerCounts:
    """What one reviewer has done: records by verdict, and how many of them have slot scores."""

    keep: int = 0
    drop: int = 0
    skipped: int = 0
    with_slots: int = 0


@dataclass(frozen=True, slots=True)
class AgreementRow:
    """How far two judges agree.

    Attributes:
        judges: "ann and bob", "reviewers", "reviewers and teacher", "reviewers and student".
        what: "verdict", or a slot: "A3".
        group: The group whose slot it is; "" for verdicts.
        name: The slot's name; "" for verdicts.
        kappa: Weighted kappa: linear weights for verdicts, quadratic ones for scores.
        alpha: Krippendorff's alpha, interval metric.
        rho: Spearman's rho within sources.
    """

    judges: str
    what: str = "verdict"
    group: str = ""
    name: str = ""
    kappa: Estimate = Estimate()
    alpha: Estimate = Estimate()
    rho: Estimate = Estimate()


@dataclass(frozen=True, slots=True)
class SelectionFigures:
    """The selection of a source, or of all, in the eyes of the reviewers; weighted back to the corpus.

    Attributes:
        judged: Records with a verdict.
        kept: How many of them the selection keeps.
        precision: Share of the kept records that reviewers would keep.
        recall: Share of the records that reviewers would keep which the selection keeps.
        base_rate: Share of all records that reviewers would keep.
        precision_tokens: Share of the kept tokens that are in records that reviewers would keep.
        recall_tokens: Share of the tokens in such records which the selection keeps.
    """

    judged: int
    kept: int
    precision: Estimate
    recall: Estimate
    base_rate: Estimate
    precision_tokens: Estimate
    recall_tokens: Estimate


@dataclass(frozen=True, slots=True)
class BudgetFigures:
    """The largest budget at which reviewers would keep enough of what is kept.

    Attributes:
        wanted: The share that was asked for (`review.precision`).
        share: The budget as a share of the corpus's tokens; None if no budget reaches it.
        tokens: The budget in tokens.
        precision: Precision there.
        thresholds: Scope -> the quality at its threshold there.
        judged: Judged records that it keeps.
        reason: Why there is no such budget; "" if there is one.
    """

    wanted: float
    share: float | None = None
    tokens: int | None = None
    precision: Estimate = Estimate()
    thresholds: Mapping[str, float] = field(default_factory=dict)
    judged: int = 0
    reason: str = ""


@dataclass(frozen=True, slots=True)
class ReviewResult:
    """What people's judgements say of the current selection.

    Attributes:
        method: What the selection ranks by.
        scope: Its scope.
        budget_tokens: Its budget.
        sampled: Records of the sample.
        judged: Those with a verdict by anyone.
        shared: Those with a verdict by more than one reviewer.
        reviewers: Reviewer -> what they have done.
        agreement: How far reviewers, teacher and student agree on the sample.
        all: The selection as a whole; None without a verdict.
        sources: The same by source.
        budget: The budget for the wanted precision; None without a verdict.
        notes: What a reader must know: judgements that do not count, a sample of another selection.
    """

    method: str
    scope: str
    budget_tokens: int
    sampled: int
    judged: int = 0
    shared: int = 0
    reviewers: Mapping[str, ReviewerCounts] = field(default_factory=dict)
    agreement: tuple[AgreementRow, ...] = ()
    all: SelectionFigures | None = None
    sources: Mapping[str, SelectionFigures] = field(default_factory=dict)
    budget: BudgetFigures | None = None
    notes: tuple[str, ...] = ()

    def _repr_html_(self) -> str:
        """Return the figures as tables, for notebooks."""
        parts = [paragraph(f"{self.judged:,} of {self.sampled:,} records judged", strong=True)]
        named = [("all", self.all)] if self.all else []
        rows = [
            (name, f.judged, str(f.precision), str(f.recall), str(f.base_rate))
            for name, f in (*self.sources.items(), *named)
        ]
        parts.append(table(("source", "judged", "precision", "recall", "reviewers would keep"), rows))
        verdicts = [row for row in self.agreement if row.what == "verdict"]
        agreed = [(row.judges, row.kappa.n, str(row.kappa), str(row.alpha), str(row.rho)) for row in verdicts]
        parts.append(table(("judges", "records", "kappa", "alpha", "rho"), agreed))
        return block(*parts, *map(paragraph, self.notes))
