"""Stage 4: quality, retention under a token budget, and the baselines."""

from mira.selection.aggregate import load_mask, trimmed_mean
from mira.selection.stage import select
from mira.selection.values import Ranked, SelectionMethod

__all__ = ["Ranked", "SelectionMethod", "load_mask", "select", "trimmed_mean"]
