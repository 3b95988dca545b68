"""The record of a discovery: how far each cluster holds together, and whether more records are needed.

The record is for people: it stands in the manifest, in the report and in what `mira discover` prints. No prompt shows
it, and no hash covers it.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from mira.discovery.anchors import Clustering
from mira.discovery.naming import commonest_names, covered
from mira.rubric.points import JudgmentPoint
from mira.stats import generator

__all__ = ["ClusterRecord", "DiscoveryRecord", "discovery_record", "record_numbers", "stability"]

FEW = 30
"""A cluster of fewer points is thin (ours)."""
STABLE = 0.6
"""A cluster whose mean Jaccard similarity under resampling is below this is unstable: do not trust it (Hennig 2007,
"Cluster-wise assessment of cluster stability")."""
LOOSE = 0.1
"""A cluster is loose if its cohesion is less than this above that of all points taken as one cluster (ours)."""
SHARE = 1 / 3
"""More records are needed if at least this share of the slots is thin or unstable (ours)."""

_ROUNDS = 10
_STARTS = 3  # of KMeans, per round
_MOST = 5_000  # points that are resampled, so that the cost does not grow with the sample
_LONGEST = 100  # letters of a name

Matrix = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class ClusterRecord:
    """One slot's cluster.

    Attributes:
        slot: "A1", ...
        name: The slot's name.
        points: Judgment points.
        cohesion: Mean cosine of the points to their centroid.
        stability: Mean Jaccard similarity of the cluster with the most similar cluster of resampled records, 0..1.
        covered: Share of the points whose name has a word of the slot's name.
        names: The three commonest names, and how many points have them.
    """

    slot: str
    name: str = ""
    points: int = 0
    cohesion: float | None = None
    stability: float | None = None
    covered: float | None = None
    names: list[tuple[str, int]] = field(default_factory=list)

    def problems(self, all_points: float | None) -> list[str]:
        """Return what is wrong with the cluster: thin, unstable, loose.

        Args:
            all_points: Cohesion of all points of the group, or None if unknown.
        """
        found = ["thin"] if self.points < FEW else []
        if self.stability is not None and self.stability < STABLE:
            found.append("unstable")
        if self.cohesion is not None and all_points is not None and self.cohesion < all_points + LOOSE:
            found.append("loose")
        return found


@dataclass(frozen=True, slots=True)
class DiscoveryRecord:
    """One group's discovery.

    Attributes:
        records: Records with a judgment point.
        points: Judgment points.
        cohesion: Cohesion of all points taken as one cluster.
        name_by: The rule that named the slots.
        clusters: Slot by slot.
        advice: Whether more records are needed, and why, in words.
    """

    records: int = 0
    points: int = 0
    cohesion: float | None = None
    name_by: str = "medoid"
    clusters: list[ClusterRecord] = field(default_factory=list)
    advice: list[str] = field(default_factory=list)


def discovery_record(
    points: Sequence[JudgmentPoint],
    matrix: Matrix,
    found: Clustering,
    *,
    name_by: str,
    seed: int,
) -> DiscoveryRecord:
    """Describe a group's clusters.

    Args:
        points: The group's points.
        matrix: (points, dimensions) unit rows.
        found: The clusters.
        name_by: The rule that named them.
        seed: Seed of the resamples.
    """
    records, anchors = record_numbers(points), found.anchors
    stable = stability(records, matrix, found.labels, len(anchors), seed)
    names: list[list[str]] = [[] for _ in anchors]
    for label, point in zip(found.labels.tolist(), points, strict=True):
        names[label].append(point.dimension)
    clusters = [
        ClusterRecord(
            slot=anchor.slot,
            name=anchor.name[:_LONGEST],
            points=anchor.cluster_size,
            cohesion=anchor.cohesion,
            stability=round(float(stable[i]), 2) if np.isfinite(stable[i]) else None,
            covered=round(covered(anchor.name, names[i]), 3),
            names=[(name[:_LONGEST], n) for name, n in commonest_names(names[i])],
        )
        for i, anchor in enumerate(anchors)
    ]
    whole = round(_cohesion(matrix), 4)
    of_source = Counter(source for source, _ in {(p.source, p.record) for p in points})
    advice = _advice(clusters, whole, max(of_source.values(), default=0))
    return DiscoveryRecord(int(records.max(initial=-1)) + 1, len(points), whole, name_by, clusters, advice)


def record_numbers(points: Sequence[JudgmentPoint]) -> NDArray[np.int64]:
    """Return a number for each point's record, from 0, in the order of the points."""
    known: dict[tuple[str, str], int] = {}
    return np.array([known.setdefault((p.source, p.record), len(known)) for p in points], dtype=np.int64)


def _cohesion(rows: Matrix) -> float:
    centre = rows.mean(axis=0)
    return float((rows @ centre).mean() / max(float(np.linalg.norm(centre)), 1e-12))


def stability(
    records: NDArray[np.int64], matrix: Matrix, labels: NDArray[np.int64], slots: int, seed: int
) -> NDArray[np.float64]:
    """Return how similar each cluster stays when the records are resampled (Hennig's bootstrap, 10 rounds).

    Records are drawn with replacement and their points clustered again; a cluster's similarity in a round is its best
    Jaccard coefficient with a new cluster, over the points drawn. Of more than 5,000 points a sample of whole records
    is resampled.

    Args:
        records: (points,) number of each point's record, from 0.
        matrix: (points, dimensions) unit rows.
        labels: (points,) cluster of each point, 0..slots-1.
        slots: Number of clusters.
        seed: Seed of the resamples.

    Returns:
        (slots,) means over the rounds; NaN for a cluster of which no point was drawn, or if too few records were judged
        to draw from.
    """
    from sklearn.cluster import KMeans  # noqa: PLC0415 - slow to import

    rng = generator(seed, "stability")
    kept = _some(records, rng)
    records, matrix, labels = np.unique(records[kept], return_inverse=True)[1], matrix[kept], labels[kept]
    n = int(records.max(initial=-1)) + 1
    found = np.full((_ROUNDS, slots), np.nan)

    for i in range(_ROUNDS):
        weights = np.bincount(rng.integers(n, size=n), minlength=n)[records] if n else np.zeros(0, np.int64)
        drawn = np.flatnonzero(weights)
        if len(drawn) < slots:
            continue
        model = KMeans(slots, random_state=seed + i, n_init=_STARTS)
        again = model.fit(matrix[drawn], sample_weight=weights[drawn]).labels_
        found[i] = _jaccard(labels[drawn], again, slots)
    known = np.isfinite(found)
    total = np.where(known, found, 0.0).sum(axis=0)
    return np.where(known.any(axis=0), total / np.maximum(known.sum(axis=0), 1), np.nan)


def _some(records: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.int64]:
    """Return the positions of the points of all records, or of so many records that there are at most _MOST points."""
    if len(records) <= _MOST:
        return np.arange(len(records))
    counts = np.bincount(records)
    order = rng.permutation(len(counts))
    taken = order[: max(1, int(np.searchsorted(counts[order].cumsum(), _MOST, side="right")))]
    return np.flatnonzero(np.isin(records, taken))


def _jaccard(before: NDArray[np.int64], after: NDArray[np.int32], slots: int) -> NDArray[np.float64]:
    both = np.zeros((slots, slots))
    np.add.at(both, (before, after), 1)
    sizes = both.sum(axis=1)
    either = sizes[:, None] + both.sum(axis=0)[None, :] - both
    best = (both / np.maximum(either, 1)).max(axis=1)
    return np.where(sizes > 0, best, np.nan)


def _advice(clusters: Sequence[ClusterRecord], whole: float, judged: int) -> list[str]:
    problems: Mapping[str, list[str]] = {
        kind: [c.slot for c in clusters if kind in c.problems(whole)] for kind in ("thin", "unstable", "loose")
    }
    few = sorted({*problems["thin"], *problems["unstable"]}, key=lambda slot: int(slot[1:]))
    told = []
    if clusters and len(few) >= SHARE * len(clusters):
        told.append(
            f"More records are needed: {len(few)} of {len(clusters)} slots ({', '.join(few)}) have fewer than {FEW} "
            f"points or change when the records are resampled (Jaccard below {STABLE}). The teacher judged "
            f"{judged:,} per source; have it judge twice as many: discover.sample: {2 * judged}"
        )
    if problems["loose"]:
        told.append(
            f"Loose clusters: {', '.join(problems['loose'])} (cohesion less than {LOOSE} above the {whole:.2f} of all "
            "points together). Their names may not cover them: read the commonest names."
        )
    return told
