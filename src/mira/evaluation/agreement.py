"""Does a selection agree with the teacher, on held-out records?"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mira.arrays import Floats
from mira.evaluation.results import Agreement, AgreementFigures
from mira.rubric.judgement import Recommendation
from mira.stats import spearman, wilson

__all__ = ["Held", "agreement"]


class Held(NamedTuple):
    """One held-out record: what selection did with it, and what the teacher says of it."""

    source: str
    kept: bool
    quality: float | None
    overall: float | None
    recommendation: str | None


def agreement(records: Sequence[Held], confidence: float = 0.95) -> Agreement:
    """Set what was kept beside the teacher's verdicts and overall scores.

    Args:
        records: Held-out records of all sources.
        confidence: Of Wilson's intervals, in (0, 1).
    """
    by_source = {s: [r for r in records if r.source == s] for s in dict.fromkeys(r.source for r in records)}
    return Agreement(
        _figures(records, confidence), {source: _figures(own, confidence) for source, own in by_source.items()}
    )


def _figures(records: Sequence[Held], confidence: float) -> AgreementFigures:
    judged = [r for r in records if r.recommendation is not None]
    kept = np.array([r.kept for r in judged], dtype=np.bool_)
    keep = np.array([r.recommendation == Recommendation.KEEP for r in judged], dtype=np.bool_)
    drop = np.array([r.recommendation == Recommendation.DROP for r in judged], dtype=np.bool_)
    low, high = wilson(float(keep[kept].sum()), int(kept.sum()), confidence)
    return AgreementFigures(
        n=len(judged),
        kept=int(kept.sum()),
        precision=_share(keep[kept]),
        precision_low=low,
        precision_high=high,
        base_rate=_share(keep),
        recall=_share(kept[keep]),
        dropworthy=_share(drop[kept]),
        dropworthy_base_rate=_share(drop),
        **_ranking(records),
    )


def _share(flags: NDArray[np.bool_]) -> float | None:
    return float(flags.mean()) if len(flags) else None


def _ranking(records: Sequence[Held]) -> dict[str, float | None]:
    scored = [r for r in records if r.overall is not None]
    gains = np.array([r.overall for r in scored], dtype=np.float64)
    quality = np.array([np.nan if r.quality is None else r.quality for r in scored], dtype=np.float64)
    if len(scored) < 2 or not np.isfinite(quality).any() or not gains.any():
        return {"ndcg": None, "ndcg_random": None, "rho": None}
    rho = spearman(quality, gains)
    return {
        "ndcg": _ndcg(gains, np.where(np.isfinite(quality), quality, np.nanmin(quality) - 1)),
        "ndcg_random": _ndcg(gains, np.zeros_like(gains)),
        "rho": rho if np.isfinite(rho) else None,
    }


def _ndcg(gains: Floats, values: Floats) -> float:
    from sklearn.metrics import ndcg_score  # noqa: PLC0415 - slow to import

    return float(ndcg_score(gains[None, :], values[None, :]))
