"""The results of `mira compare` and `mira evaluate`: the content of compare.json and evaluation.json."""

from dataclasses import dataclass, field
from typing import Annotated, Any

from pydantic import BeforeValidator, SerializerFunctionWrapHandler, WrapSerializer

from mira.evaluation.agreement_figures import Agreement, AgreementFigures, GatesResult
from mira.evaluation.verdicts.verdict import Verdict
from mira.html import block, paragraph, table

__all__ = [
    "Agreement",
    "AgreementFigures",
    "CheckFigures",
    "ComparisonResult",
    "Estimate",
    "EvaluationResult",
    "FieldCheck",
    "KeptTokens",
    "KindFigures",
    "MethodResult",
    "PlantedFigures",
    "PlantedResult",
    "SourceCheck",
    "SourceTokens",
    "StudentResult",
    "VariantFigures",
    "VariantsResult",
]


_GUESSING, _SEEN = 0.5, 0.75


def _too_few(low: float | None, high: float | None) -> bool:
    return low is not None and high is not None and low <= _GUESSING and high >= _SEEN


@dataclass(frozen=True, slots=True)
class KeptTokens:
    """Tokens of one source that a method keeps, and their share of all that it keeps."""

    tokens_kept: int
    share: float


@dataclass(frozen=True, slots=True)
class SourceTokens:
    """Tokens of one source."""

    tokens_in: int


@dataclass(frozen=True, slots=True, kw_only=True)
class MethodResult:
    """One method of a comparison.

    Attributes:
        tokens_kept: Tokens that it keeps.
        records_kept: Records that it keeps.
        mean_tokens: Tokens per kept record; None if it keeps none.
        sources: Source -> the tokens that it keeps.
        unscored: Records without a value.
        length_rho: Spearman's rho of value and tokens, over a sample chosen by hash.
        duplicate_tokens: Share of the kept tokens in records whose text, white space aside, another kept record has;
            the first such record does not count.
        agreement: With the teacher's held-out labels; None without labels.
    """

    tokens_kept: int
    records_kept: int
    mean_tokens: float | None = None
    sources: dict[str, KeptTokens]
    unscored: int = 0
    length_rho: float | None = None
    duplicate_tokens: float | None = None
    agreement: Agreement | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparisonResult:
    """Methods side by side, under one budget.

    Attributes:
        budget_tokens: The budget of all methods.
        tokens_in: Tokens of all sources.
        scope: The scope of all methods.
        sources: Source -> its tokens.
        methods: Method -> its figures.
        jaccard: "a|b" -> tokens that both methods keep over tokens that either keeps; None if neither keeps any.
    """

    budget_tokens: int
    tokens_in: int = 0
    scope: str
    sources: dict[str, SourceTokens]
    methods: dict[str, MethodResult]
    jaccard: dict[str, float | None]

    def _repr_html_(self) -> str:
        """Return methods side by side, for notebooks."""
        agreed = {n: m.agreement.all if m.agreement else AgreementFigures() for n, m in self.methods.items()}
        figures = [
            (name, m.records_kept, _percent(agreed[name].precision), _percent(agreed[name].dropworthy), m.length_rho)
            for name, m in self.methods.items()
        ]
        shares = [
            (source, *(_percent(m.sources[source].tokens_kept / max(of.tokens_in, 1)) for m in self.methods.values()))
            for source, of in self.sources.items()
        ]
        return block(
            paragraph(f"Methods under {self.budget_tokens:,} tokens, scope {self.scope}", strong=True),
            table(("method", "records", "teacher keeps", "teacher drops", "length rho"), figures),
            paragraph("Share of each source's tokens that is kept"),
            table(("source", *self.methods), shares),
        )


@dataclass(frozen=True, slots=True)
class PlantedFigures:
    """Figures of one scorer on one fault; None where there is nothing to count.

    Pairs of one original are not independent. So only where every original has one pair are intervals Wilson's; where
    faults are pooled they are percentile intervals of a bootstrap by original. A share of 0 or 1 leaves nothing to
    resample: it has Wilson's interval, with each original counted once.

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
    pairs: int = 0
    compared: int = 0
    unscored: int = 0
    accuracy: float | None = None
    accuracy_low: float | None = None
    accuracy_high: float | None = None
    recall: float | None = None
    recall_low: float | None = None
    recall_high: float | None = None
    originals_dropped: float | None = None

    @property
    def too_few(self) -> bool:
        """Whether the pairs are too few to tell: the accuracy's interval holds both 50%, as guessing has, and 75%.

        Such pairs fit a scorer that sees nothing as well as one that sees half of the faults and guesses the others.
        The rule is ours.
        """
        return _too_few(self.accuracy_low, self.accuracy_high)


@dataclass(frozen=True, slots=True)
class PlantedResult:
    """Planted faults.

    Attributes:
        records: Records that were spoiled.
        methods: Scorer -> its figures, one entry per fault, then one for all. "mira" stands for the students.
        sources: Source -> the students' figures over all faults.
        findings: What the figures come to, in words.
        skipped: Fault -> why records cannot have it -> records; counted for faults that look like good text.
    """

    records: int = 0
    methods: dict[str, list[PlantedFigures]] = field(default_factory=dict)
    sources: dict[str, PlantedFigures] = field(default_factory=dict)
    findings: list[str] = field(default_factory=list)
    skipped: dict[str, dict[str, int]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class KindFigures:
    """Records with one value of the field, and the AUC of clean records against them."""

    spoiled: int
    auc: float | None


@dataclass(frozen=True, slots=True)
class CheckFigures:
    """Clean records against spoiled ones, by one score: their numbers, the AUC with its interval, and each kind."""

    clean: int
    spoiled: int
    auc: float | None
    low: float | None
    high: float | None
    kinds: dict[str, KindFigures]

    @property
    def too_few(self) -> bool:
        """Whether the records are too few to tell; the rule is that of `PlantedFigures.too_few`, for the AUC."""
        return _too_few(self.low, self.high)


@dataclass(frozen=True, slots=True)
class SourceCheck:
    """One source: by the student's quality, by the student's overall, and by the teacher's overall."""

    student: CheckFigures
    overall: CheckFigures | None = field(default=None, kw_only=True)
    teacher: CheckFigures


@dataclass(frozen=True, slots=True)
class FieldCheck:
    """Scores against `evaluate.check_field`: the field, and the sources that have both clean and spoiled records."""

    field: str
    sources: dict[str, SourceCheck]


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure with its interval; None where undefined."""

    value: float | None = None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True)
class StudentResult:
    """A group's student, or a naive one; see `StudentFigures` in reliability/students."""

    rho: Estimate = Estimate()
    gain: Estimate = Estimate()
    of_ceiling: Estimate = Estimate()
    cells: int = 0
    trusted: int = 0
    chosen: int = 0


@dataclass(frozen=True, slots=True)
class VariantFigures:
    """A way of ranking beside the teacher's verdicts (drop, downsample, keep).

    Attributes:
        within: Spearman's rho of value and verdict within sources; undefined where there is no one ranking.
        across: The same over all sources that share a threshold.
        precision: Share of the kept tokens that the teacher would keep, if each pool keeps the best labelled records up
            to its share of the tokens, and a source's labels stand for all of its tokens.
        within_gain: `within` less that of the method's way (own masks, length left in), on the same resamples.
        across_gain: The same of `across`.
        precision_gain: The same of `precision`.
    """

    within: Estimate = Estimate()
    across: Estimate = Estimate()
    precision: Estimate = Estimate()
    within_gain: Estimate = Estimate()
    across_gain: Estimate = Estimate()
    precision_gain: Estimate = Estimate()


@dataclass(frozen=True, slots=True)
class VariantsResult:
    """Ways of ranking side by side, on labels that the student has not seen.

    Attributes:
        records: Labelled records.
        compare_by: `select.compare_by` -> its figures.
        length: `select.length.control` -> its figures, by the yardstick of the settings.
    """

    records: int
    compare_by: dict[str, VariantFigures] = field(default_factory=dict)
    length: dict[str, VariantFigures] = field(default_factory=dict)


def _or_empty(value: FieldCheck | None, write: SerializerFunctionWrapHandler) -> Any:
    return {} if value is None else write(value)


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationResult:
    """What the current selection is worth.

    Attributes:
        method: Selection method.
        scope: Where records competed.
        kept_by_held_out_model: False if what was kept rests on scores of a student that may have seen the labels.
        agreement: With the teacher's held-out labels.
        planted: Planted faults.
        subtle: Planted faults that look like good text.
        verdicts: Group -> what the figures come to; "all" stands for all groups.
        gates: What gates beside quality bring and cost; None without gates.
        check: Scores against `evaluate.check_field`; None, and {} in the file, if the field is not set.
        students: Group -> its student, as "student", and the baselines. Empty without labels or predictions.
        variants: Other yardsticks and length controls; None if there are no labels or predictions, or the method is
            not mira.
    """

    method: str = ""
    scope: str = ""
    kept_by_held_out_model: bool = True
    agreement: Agreement
    planted: PlantedResult = PlantedResult()
    subtle: PlantedResult = PlantedResult()
    verdicts: dict[str, Verdict] = field(default_factory=dict)
    check: Annotated[FieldCheck | None, BeforeValidator(lambda v: v or None), WrapSerializer(_or_empty)] = None
    students: dict[str, dict[str, StudentResult]] = field(default_factory=dict)
    variants: VariantsResult | None = None
    gates: GatesResult | None = None

    def _repr_html_(self) -> str:
        """Return agreement, planted faults and findings, for notebooks."""
        held = self.agreement.all
        agreed = (
            f"The teacher would keep {held.precision:.0%} of the {held.kept:,} held-out records kept, "
            f"and {held.base_rate:.0%} of all {held.n:,}."
            if held.precision is not None and held.base_rate is not None
            else "No held-out record was kept."
        )
        rows = [
            (
                figures.fault.replace("_", " "),
                figures.compared,
                _percent(figures.accuracy),
                f"[{_percent(figures.accuracy_low)}, {_percent(figures.accuracy_high)}]",
                "too few pairs to tell" if figures.too_few else "",
            )
            for figures in self.planted.methods.get("mira", ())
        ]
        return block(
            paragraph(f"Selection by {self.method}, scope {self.scope}", strong=True),
            paragraph(agreed),
            table(("planted fault", "pairs", "original higher", "interval", ""), rows) if rows else "",
            *map(paragraph, [*self.planted.findings, *self.subtle.findings]),
            *(paragraph(f"Verdict on {group}: {found.text}") for group, found in self.verdicts.items()),
        )


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{value:.0%}"
