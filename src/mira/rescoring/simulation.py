"""Simulate a cascade on labelled records, to see what it would change before anything is spent."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

__all__ = ["Point", "simulate"]

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Point:
    """What the cascade gives at one share of calls.

    Attributes:
        share: Records that the expensive student judges, as a share.
        calls: Their number.
        saved: Calls less than for all records.
        same: Share of the tokens of both selections that the cascade's selection has in common with the one that the
            expensive student alone would make (Jaccard).
        low: Lower bound of its 90% interval over records (bootstrap).
        high: Upper bound.
        same_random: The same with as many records picked at random instead of near the threshold.
    """

    share: float
    calls: int
    saved: int
    same: float
    low: float
    high: float
    same_random: float


def simulate(
    truth: Floats, guess: Floats, n_tokens: npt.NDArray[np.int64], scope: Sequence[str], *, budget: float,
    shares: Sequence[float], errors: Floats | None = None, repeats: int = 200, seed: int = 0,
) -> list[Point]:  # fmt: skip
    """Play the cascade on labelled records, with the labels as the expensive student.

    That student is then as good as the teacher: an upper bound for a real one.

    Args:
        truth: Quality by the labels.
        guess: Quality by the cheap student, from folds that did not train on the record.
        n_tokens: Tokens of each record.
        scope: The pool in which each record competes for the budget.
        budget: Share of each pool's tokens that is kept, in (0, 1].
        shares: Shares of records that the expensive student judges, in [0, 1].
        errors: The cheap student's error at each record; all alike by default.
        repeats: Resamples of the interval, and random picks.
        seed: Seed of both.

    Returns:
        One point a share. Records without quality are left out.
    """
    known = np.isfinite(truth) & np.isfinite(guess)
    pools = np.unique(np.array(scope)[known], return_inverse=True)[1]
    data = _Played(truth[known], guess[known], n_tokens[known], pools, np.ones(known.sum()))
    if errors is not None:
        data = replace(data, errors=errors[known])
    random = np.random.default_rng(seed)
    n = len(data.truth)
    resamples = [random.integers(0, n, n) for _ in range(repeats)]
    points = []
    for share in shares:
        calls = round(share * n)
        same = data.same(data.nearest(budget, calls), budget)
        spread = [d.same(d.nearest(budget, calls), budget) for d in map(data.take, resamples)]
        picks = [data.same(random.permutation(n) < calls, budget) for _ in range(min(repeats, 50))]
        low, high = np.quantile(spread, [0.05, 0.95]) if spread else (same, same)
        chance = float(np.mean(picks)) if picks else same
        points.append(Point(share, calls, n - calls, same, float(low), float(high), chance))
    return points


@dataclass(frozen=True, slots=True)
class _Played:
    truth: Floats
    guess: Floats
    n_tokens: npt.NDArray[np.int64]
    pool: npt.NDArray[np.intp]
    errors: Floats

    def take(self, rows: npt.NDArray[np.int64]) -> "_Played":
        return _Played(self.truth[rows], self.guess[rows], self.n_tokens[rows], self.pool[rows], self.errors[rows])

    def nearest(self, budget: float, calls: int) -> Bools:
        """Return a mask of the records nearest to their pool's threshold, in errors."""
        kept = self.kept(self.guess, budget)
        distance = np.full(len(kept), np.inf)
        for pool in np.unique(self.pool):
            rows = self.pool == pool
            inside, outside = self.guess[rows & kept], self.guess[rows & ~kept]
            sides = [inside.min()] if len(inside) else []
            sides += [outside.max()] if len(outside) else []
            distance[rows] = np.abs(self.guess[rows] - np.mean(sides)) / np.maximum(self.errors[rows], 1e-9)
        order = np.argsort(distance, kind="stable")
        chosen = np.zeros(len(kept), bool)
        chosen[order[:calls]] = True
        return chosen

    def kept(self, quality: Floats, budget: float) -> Bools:
        """Keep each pool's best until its budget is spent."""
        kept = np.zeros(len(quality), bool)
        for pool in np.unique(self.pool):
            rows = np.flatnonzero(self.pool == pool)
            order = rows[np.argsort(-quality[rows], kind="stable")]
            total = np.cumsum(self.n_tokens[order])
            kept[order[total <= budget * total[-1]]] = True
        return kept

    def same(self, judged: Bools, budget: float) -> float:
        """Return the overlap, by tokens, of the cascade's selection with the expensive student's own."""
        ideal = self.kept(self.truth, budget)
        got = self.kept(np.where(judged, self.truth, self.guess), budget)
        either = int(self.n_tokens[ideal | got].sum())
        return float(self.n_tokens[ideal & got].sum() / either) if either else 1.0
