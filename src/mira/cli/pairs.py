"""What `mira evaluate --pairs` prints."""

from collections.abc import Iterator

from rich.console import Console

from mira.cli.fitted import print_fitted, wide_console
from mira.evaluation.pairs.results import PairsPlan, PairsResult, ScorerPairs, Tally
from mira.progress import printable

__all__ = ["print_pairs"]


def print_pairs(result: PairsResult | PairsPlan, console: Console | None = None) -> None:
    """Print how each scorer orders the pairs, and the verdict on each; or what asking would cost."""
    console = console or wide_console()
    if isinstance(result, PairsPlan):
        _print_plan(result, console)
        return
    for title, parts in (("kind", "kinds"), ("source", "sources")):
        names = list(dict.fromkeys(name for found in result.scorers.values() for name in getattr(found, parts)))
        rows = [(scorer, *_cells(found, getattr(found, parts), names)) for scorer, found in result.scorers.items()]
        if names and (title == "source" or len(names) > 1):
            print_fitted(
                console,
                f"Share of pairs in which the better record is higher, by {title}",
                ("scorer", "all", *names),
                rows,
            )
    for line in _lines(result):
        console.print(printable(line), soft_wrap=True, markup=False, highlight=False)


def _cells(found: ScorerPairs, parts: dict[str, Tally], names: list[str]) -> Iterator[str]:
    for tally in (found.all, *(parts.get(name, Tally()) for name in names)):
        yield (
            "-" if tally.share is None else f"{tally.share:.0%} [{tally.low:.0%}, {tally.high:.0%}] of {tally.compared}"
        )


def _lines(result: PairsResult) -> Iterator[str]:
    counted = [f"{result.lines:,} lines", f"{result.pairs:,} pairs", *_reasons(result.rejected)]
    yield f"{result.file}: {', '.join(counted)}"
    for name, found in result.scorers.items():
        yield f"{name}: {found.verdict}"
        if found.all.ties:
            yield f"  {found.all.ties:,} pairs have equal values; each counts as half"
        if found.all.unscored:
            yield f"  not compared: {', '.join(_reasons(found.all.unscored))}"
    for gate, kinds in result.gates.items():
        for kind, caught in kinds.items():
            if caught.worse is not None and caught.better is not None:
                yield (
                    f"gate {gate}, {kind}: drops {caught.worse:.0%} of the worse and {caught.better:.0%} of the better "
                    f"records of {caught.pairs} pairs"
                )
    yield from result.findings


def _reasons(counts: dict[str, int]) -> list[str]:
    return [f"{n:,} {why.replace('_', ' ')}" for why, n in counts.items()]


def _print_plan(plan: PairsPlan, console: Console) -> None:
    cost = "" if not plan.calls else "; no price is set" if plan.cost is None else f"; about {plan.cost:,.2f}"
    told = (
        f"{plan.pairs:,} pairs: {plan.calls:,} requests to send, {plan.answered:,} answered in the journal; "
        f"{plan.tokens_in:,} prompt tokens, about {plan.tokens_out:,} reply tokens{cost}. Nothing was sent."
    )
    console.print(told, soft_wrap=True, markup=False, highlight=False)
