"""Stage 4: quality, retention under a token budget, and the baselines."""

from mira.selection.aggregate import load_mask, trimmed_mean
from mira.selection.compare import compare
from mira.selection.explain import explain
from mira.selection.stage import select
from mira.selection.values import Ranked, SelectionMethod

__all__ = ["Ranked", "SelectionMethod", "compare", "explain", "load_mask", "select", "trimmed_mean"]
