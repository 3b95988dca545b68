"""The threshold of a source, on the scale of quality, as `thresholds.json` has it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mira.arrays import Floats
from mira.selection.planning import threshold_of
from mira.selection.retention import SourceRule
from mira.selection.units import MOST_TOKENS
from mira.selection.yardstick.length import NO_FIT, LengthFit

__all__ = ["Cut", "cut_of", "cuts_of"]


@dataclass(frozen=True)
class Cut:
    """Thresholds of a source's records.

    Attributes:
        parts: Of records of `shortest` to `longest` tokens: (shortest, longest, threshold). A threshold of None is not
            known: its records are all kept, or none.
        fit: What length predicts, which counts for nothing.
    """

    parts: tuple[tuple[int, int, float | None], ...]
    fit: LengthFit = NO_FIT

    def margin(self, quality: Floats, tokens: npt.NDArray[np.integer]) -> Floats:
        """Return how far records are above their threshold; NaN if it or their quality is not known."""
        threshold = np.full(len(quality), np.nan)
        for shortest, longest, value in self.parts:
            if value is not None:
                threshold[(tokens >= shortest) & (tokens <= longest)] = value
        return np.asarray(self.fit.rest(quality, tokens) - threshold, dtype=np.float64)

    def keeps(self, quality: float | None, tokens: int, otherwise: bool) -> bool:
        """Tell whether a record of this quality is kept.

        Args:
            quality: None is never kept where there is a threshold.
            tokens: The record's tokens.
            otherwise: The answer where no threshold is known.
        """
        value = np.array([-np.inf if quality is None else quality])
        margin = float(self.margin(value, np.array([tokens]))[0])
        return otherwise if np.isnan(margin) else margin >= 0


def cut_of(rules: Sequence[SourceRule]) -> Cut | None:
    """Return the thresholds that a source's rules stand for; None if its strata are not of lengths."""
    if not rules or any(rule.unit.stratum for rule in rules):
        return None
    parts = tuple((rule.unit.shortest, rule.unit.longest, threshold_of(rule.cutoff)) for rule in rules)
    return Cut(parts, rules[0].ranking.fit)


def cuts_of(thresholds: Mapping[str, Any]) -> dict[str, Cut]:
    """Return source -> its thresholds, from the content of `thresholds.json`.

    Sources without one on the scale of quality are left out: those of another method than mira, or of a selection with
    noise.
    """
    if thresholds.get("method", "mira") != "mira" or thresholds.get("temperature"):
        return {}
    found = {source: _cut(entry) for source, entry in thresholds["sources"].items()}
    return {source: cut for source, cut in found.items() if any(value is not None for _, _, value in cut.parts)}


def _cut(entry: Mapping[str, Any]) -> Cut:
    length = entry.get("length", {})
    if "strata" in length:
        return Cut(tuple((part["shortest"], part["longest"], part["threshold"]) for part in length["strata"]))
    return Cut(((0, MOST_TOKENS, entry.get("threshold")),), LengthFit(**length) if length else NO_FIT)
