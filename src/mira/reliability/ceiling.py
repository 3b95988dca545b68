"""How well any student could agree with a teacher that does not fully agree with itself."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mira.arrays import Floats
from mira.reliability.cells import n_resamples
from mira.reliability.evidence import GroupEvidence, SourceEvidence
from mira.stats import generator, rank_moments, resamples, spearman

__all__ = ["Ceilings", "ceilings"]

_BLOCK = 1 << 19
"""Elements of one block of resamples."""


@dataclass(frozen=True, slots=True)
class Ceilings:
    """The teacher's ceiling of every cell; rows are sources, columns slots.

    Attributes:
        rho: Highest Spearman rho that a student can be expected to reach (s, k), in [0, 1]; NaN where unknown.
        pairs: Doubly judged records behind each figure (s, k).
        pooled: Whether the figure comes from the group's pairs (s, k).
        samples: Bootstrap samples of `rho` (s, k, resamples), 0 where a resample leaves nothing to reach.
    """

    rho: Floats
    pairs: NDArray[np.int64]
    pooled: NDArray[np.bool_]
    samples: Floats


def ceilings(evidence: GroupEvidence, min_pairs: int, *, bootstrap: int = 0, seed: int = 0) -> Ceilings:
    """Return sqrt(r) of every cell, with r the teacher's test-retest reliability.

    Spearman's attenuation formula (1904) says that the observed correlation of two measurements is the true one times
    sqrt(r_xx * r_yy). A student repeats itself (r_xx = 1), so against one judgement of a teacher of reliability r
    even a perfect student reaches sqrt(r): reliability .4, .6, .8 caps rho at .63, .77, .89. The formula is exact for
    Pearson's correlation; for ranks it is the usual approximation. r is the Spearman correlation of two independent
    judgements of the same record; an r below 0 counts as 0.

    A source with fewer than `min_pairs` doubly judged records takes the group's: all pairs of the group, each source
    centred on the mean of its labels, so that differences between sources do not pass for reliability.

    Args:
        evidence: The group.
        min_pairs: Pairs that a source's own figure needs; the group's figure needs at least 3.
        bootstrap: Resamples. They draw the same records as those of `measure_group` at the same seed: a record that is
            drawn twice brings its pair twice, so that figures of both can be set against each other.
        seed: Seed of the resamples.
    """
    shape = (len(evidence.sources), len(evidence.names))
    rho, pairs, pooled = np.full(shape, np.nan), np.zeros(shape, dtype=np.int64), np.zeros(shape, dtype=np.bool_)
    together = np.concatenate([_centred(s) for s in evidence.sources]) if evidence.sources else np.zeros((0, 2, 0))
    for j in range(shape[1]):
        group_rho, group_pairs = _reliability(together[:, :, j])
        for i, source in enumerate(evidence.sources):
            own_rho, own_pairs = _reliability(source.retests[:, :, j])
            pooled[i, j] = own_pairs < min_pairs
            pairs[i, j] = group_pairs if pooled[i, j] else own_pairs
            if pairs[i, j] >= 3:
                rho[i, j] = np.sqrt(np.maximum(group_rho if pooled[i, j] else own_rho, 0.0))
    return Ceilings(rho, pairs, pooled, _samples(evidence, together, pooled & (pairs >= 3), rho, bootstrap, seed))


def _samples(
    evidence: GroupEvidence, together: Floats, pooled: NDArray[np.bool_], rho: Floats, bootstrap: int, seed: int
) -> Floats:
    """Return bootstrap samples of the ceilings; `pooled` cells take those of all pairs of the group."""
    count = n_resamples(max((len(s.ids) for s in evidence.sources), default=0), bootstrap) if bootstrap else 0
    found = np.zeros((*rho.shape, count))
    drawn = [_drawn(s, count, generator(seed, evidence.group, s.source)) for s in evidence.sources]
    everything = np.concatenate(drawn) if drawn else np.zeros((0, count), np.uint8)
    for j in range(rho.shape[1]):
        group = _reached(together[:, :, j], everything) if pooled[:, j].any() else np.zeros(count)
        for i, source in enumerate(evidence.sources):
            if np.isfinite(rho[i, j]):
                found[i, j] = group if pooled[i, j] else _reached(source.retests[:, :, j], drawn[i])
    return found


def _drawn(source: SourceEvidence, count: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Return how often each resample of the source's records draws each pair, (pairs, count)."""
    blocks = [drawn[source.retested].astype(np.uint8) for drawn in resamples(len(source.ids), count, rng)]
    return np.concatenate(blocks, axis=1) if blocks else np.zeros((len(source.retested), 0), np.uint8)


def _reached(pairs: Floats, drawn: NDArray[np.uint8]) -> Floats:
    """Return the ceiling in every resample; 0 where pairs do not vary."""
    width = max(1, _BLOCK // max(len(pairs), 1))
    found = [
        rank_moments(pairs[:, 0], pairs[:, 1], drawn[:, start : start + width].astype(np.float64)).rho
        for start in range(0, drawn.shape[1], width)
    ]
    return np.sqrt(np.maximum(np.nan_to_num(np.concatenate(found)), 0.0)) if found else np.zeros(0)


def _centred(source: SourceEvidence) -> Floats:
    if not len(source.retests):
        return source.retests
    scored = np.isfinite(source.teacher)
    mean = np.where(scored, source.teacher, 0.0).sum(axis=0) / np.maximum(scored.sum(axis=0), 1)
    centred: Floats = source.retests - mean
    return centred


def _reliability(pairs: Floats) -> tuple[float, int]:
    both = np.isfinite(pairs).all(axis=1)
    return spearman(pairs[both, 0], pairs[both, 1]), int(both.sum())
