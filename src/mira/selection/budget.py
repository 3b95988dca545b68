"""Splitting a token budget over pools, within their floors and caps."""

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

from mira.errors import BudgetError

__all__ = ["Share", "split"]


@dataclass(frozen=True)
class Share:
    """One claimant of a budget.

    Attributes:
        weight: Its share is in proportion to this (its valid tokens).
        least: Tokens it gets at least.
        most: Tokens it gets at most.
    """

    weight: int
    least: int
    most: int


def split(budget: int, shares: Mapping[str, Share], where: str) -> dict[str, int]:
    """Split a budget in proportion to weight, within the bounds of each share.

    Finds the factor f for which sum(clip(f * weight, least, most)) is the budget; tokens left by rounding go to the
    largest remainders. The proportional split is ours.

    Args:
        budget: Tokens.
        shares: Name -> claimant.
        where: Name of the split, for errors.

    Returns:
        Name -> tokens; they add up to the budget.

    Raises:
        BudgetError: No split fits the bounds.
    """
    least, most = sum(s.least for s in shares.values()), sum(s.most for s in shares.values())
    if least > budget:
        raise BudgetError(
            f"{where}: floors add up to {least:,} tokens, the budget is {budget:,}",
            _listed("source_min", {n: s.least for n, s in shares.items() if s.least})
            + " Lower them or raise the budget.",
        )
    if most < budget:
        raise BudgetError(
            f"{where}: caps allow {most:,} tokens, the budget is {budget:,}",
            _listed("source_max", {n: s.most for n, s in shares.items()}) + " Raise them or lower the budget.",
        )
    exact = _proportional(budget, shares)
    parts = {name: int(value) for name, value in exact.items()}
    by_remainder = sorted(exact, key=lambda name: (parts[name] - exact[name], name))
    for name in by_remainder[: budget - sum(parts.values())]:
        parts[name] += 1
    return parts


def _proportional(budget: int, shares: Mapping[str, Share]) -> dict[str, Fraction]:
    """Find the clipped proportional split exactly: between two breakpoints of the factor it is linear."""
    weighted = [s for s in shares.values() if s.weight]
    factors = sorted({Fraction(bound, s.weight) for s in weighted for bound in (s.least, s.most)} | {Fraction(0)})

    def at(factor: Fraction) -> dict[str, Fraction]:
        return {n: _clip(factor * s.weight, s) for n, s in shares.items()}

    low, high = 0, len(factors) - 1
    while low < high:
        middle = (low + high) // 2
        if sum(at(factors[middle]).values()) >= budget:
            high = middle
        else:
            low = middle + 1
    upper = at(factors[low])
    lower = at(factors[low - 1]) if low else upper
    gap = sum((upper[n] - lower[n] for n in shares), Fraction(0))
    part = (budget - sum(lower.values(), Fraction(0))) / gap if gap else Fraction(0)
    return {name: lower[name] + part * (upper[name] - lower[name]) for name in shares}


def _clip(value: Fraction, share: Share) -> Fraction:
    return min(max(value, Fraction(share.least)), Fraction(share.most))


def _listed(setting: str, values: Mapping[str, int]) -> str:
    return f"{setting}: " + ", ".join(f"{name} {tokens:,}" for name, tokens in sorted(values.items())) + "."
