"""What compare.json says: several methods under one budget, side by side."""

from dataclasses import dataclass

from mira.evaluation.results import AgreementFigures, ComparisonResult
from mira.report.charts import heat_step
from mira.report.evaluation import Range
from mira.run_folder.paths import RunFolder
from mira.run_folder.results import read_result

__all__ = ["Comparison", "MethodRow", "Share", "comparison_view"]


@dataclass(frozen=True, slots=True)
class Share:
    """A share in [0, 1], None where unknown, and its colour step."""

    value: float | None
    step: int | None


@dataclass(frozen=True, slots=True)
class MethodRow:
    """One method.

    Attributes:
        name: The method.
        tokens_kept: Tokens that it keeps.
        records_kept: Records that it keeps.
        mean_tokens: Tokens a kept record.
        unscored: Records without a value.
        length_rho: Spearman of its values and the records' tokens.
        duplicate_tokens: Share of the kept tokens in records whose text another kept record has.
        precision: Share of the kept held-out records that the teacher would keep.
        base_rate: The same share of all held-out records.
        dropworthy: Share of the kept held-out records that the teacher would drop.
        rho: Spearman of quality and the teacher's overall on held-out records.
        ndcg: Gain of the order by quality on held-out records, discounted and normalised; the gain is the teacher's
            overall.
        ndcg_random: The same of a random order.
        sources: The share of each source's own tokens that it keeps, in the order of `Comparison.sources`.
        overlap: Tokens that both keep over tokens that either keeps, in the order of `Comparison.methods`.
    """

    name: str
    tokens_kept: int
    records_kept: int
    mean_tokens: float | None
    unscored: int
    length_rho: float | None
    duplicate_tokens: float | None
    precision: Range
    base_rate: float | None
    dropworthy: float | None
    rho: float | None
    ndcg: float | None
    ndcg_random: float | None
    sources: tuple[Share, ...]
    overlap: tuple[Share, ...]


@dataclass(frozen=True, slots=True)
class Comparison:
    """compare.json.

    Attributes:
        budget_tokens: The budget of all methods.
        scope: The scope of all methods.
        sources: Their names.
        tokens_in: Each source's tokens.
        methods: One row a method.
    """

    budget_tokens: int
    scope: str
    sources: tuple[str, ...]
    tokens_in: tuple[int, ...]
    methods: tuple[MethodRow, ...]

    @property
    def has_agreement(self) -> bool:
        """Whether held-out labels were there to agree with."""
        return any(row.base_rate is not None for row in self.methods)


def comparison_view(run: RunFolder) -> Comparison | None:
    """Read compare.json; None if it is missing."""
    path = run.path / "compare.json"
    if not path.is_file():
        return None
    result = read_result(ComparisonResult, path)
    tokens = {source: entry.tokens_in for source, entry in result.sources.items()}
    return Comparison(
        budget_tokens=result.budget_tokens,
        scope=result.scope,
        sources=tuple(tokens),
        tokens_in=tuple(tokens.values()),
        methods=tuple(_method(name, result) for name in result.methods),
    )


def _method(name: str, result: ComparisonResult) -> MethodRow:
    method, jaccard = result.methods[name], result.jaccard
    agreed = method.agreement.all if method.agreement else AgreementFigures()
    both = [1.0 if o == name else jaccard.get(f"{name}|{o}", jaccard.get(f"{o}|{name}")) for o in result.methods]
    kept = {source: entry.tokens_kept for source, entry in method.sources.items()}
    return MethodRow(
        name=name,
        tokens_kept=method.tokens_kept,
        records_kept=method.records_kept,
        mean_tokens=method.mean_tokens,
        unscored=method.unscored,
        length_rho=method.length_rho,
        duplicate_tokens=method.duplicate_tokens,
        precision=Range(agreed.precision, agreed.precision_low, agreed.precision_high),
        base_rate=agreed.base_rate,
        dropworthy=agreed.dropworthy,
        rho=agreed.rho,
        ndcg=agreed.ndcg,
        ndcg_random=agreed.ndcg_random,
        sources=tuple(
            _share(kept.get(s, 0) / entry.tokens_in if entry.tokens_in else None) for s, entry in result.sources.items()
        ),
        overlap=tuple(_share(share) for share in both),
    )


def _share(value: float | None) -> Share:
    return Share(value, heat_step(value))
