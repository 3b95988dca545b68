"""What `mira review --report` prints."""

from math import floor

from rich.console import Console

from mira.cli.fitted import print_fitted, wide_console
from mira.progress import printable
from mira.reviewing.results import BudgetFigures, Estimate, ReviewResult, SelectionFigures

__all__ = ["print_review"]


def print_review(result: ReviewResult, console: Console | None = None) -> None:
    """Print who has judged, how judges agree, and what the selection is worth in the reviewers' eyes."""
    console = console or wide_console()
    rows = [
        (name, *(f"{n:,}" for n in (counts.keep, counts.drop, counts.skipped, counts.with_slots)))
        for name, counts in result.reviewers.items()
    ]
    title = f"{result.judged:,} of {result.sampled:,} records judged, {result.shared:,} by several reviewers"
    print_fitted(console, title, ("reviewer", "keep", "drop", "skipped", "with slots"), rows)
    if result.agreement:
        print_fitted(
            console,
            "Agreement on the sample",
            ("judges", "on", "records", "kappa", "alpha", "rho in sources"),
            [
                (row.judges, _on(row.group, row.what), f"{row.kappa.n:,}", str(row.kappa), str(row.alpha), str(row.rho))
                for row in result.agreement
            ],
        )
    if result.all:
        print_fitted(
            console,
            f"The selection by {result.method}, scope {result.scope}, weighted back to the corpus",
            ("source", "judged", "kept", "precision", "recall", "would keep of all", "precision in tokens"),
            [(name, *_cells(figures)) for name, figures in result.sources.items()],
            ("all", *_cells(result.all)),
        )
    lines = [*result.notes, *([_budget(result.budget)] if result.budget else [])]
    for line in lines:
        console.print(printable(line), soft_wrap=True, markup=False, highlight=False)


def _on(group: str, what: str) -> str:
    return f"{group} {what}" if group else what


def _cells(figures: SelectionFigures) -> list[str]:
    shares = (figures.precision, figures.recall, figures.base_rate, figures.precision_tokens)
    return [f"{figures.judged:,}", f"{figures.kept:,}", *map(_percent, shares)]


def _percent(share: Estimate) -> str:
    if share.value is None or share.low is None or share.high is None:
        return "-"
    return f"{share.value:.0%} [{share.low:.0%}, {share.high:.0%}]"


def _budget(found: BudgetFigures) -> str:
    if found.share is None or found.tokens is None:
        return f"No budget for a precision of {found.wanted:.0%}: {found.reason}."
    share = f"{floor(1000 * found.share) / 10:.1f}%"
    thresholds = ", ".join(f"{scope} {quality:.2f}" for scope, quality in found.thresholds.items())
    return (
        f"Precision is at least {found.wanted:.0%} up to a budget of {share} ({found.tokens:,} tokens): "
        f"{_percent(found.precision)} of {found.judged:,} judged records. Thresholds: {thresholds}. "
        f"To select so: --set select.budget={share}"
    )
