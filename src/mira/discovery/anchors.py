"""Judgment points -> anchors: embed name and reason apart, KMeans, the real point nearest each centroid."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mira.discovery.naming import NameBy, exemplar
from mira.embedding import Embedder
from mira.errors import RunError
from mira.rubric.points import JudgmentPoint
from mira.rubric.rubric import Anchor, Reference
from mira.rubric.slots import slot_name

__all__ = ["Clustering", "cluster_points", "embed_points"]

Matrix = NDArray[np.float32]
NEAR_NAMES = 7
MINI_BATCH_ABOVE = 100_000  # full KMeans would need minutes and several copies of the matrix


@dataclass(frozen=True, slots=True)
class Clustering:
    """A group's anchors, and where each point went.

    Attributes:
        anchors: Slots A1.. by descending cluster size, ties by the exemplar's position.
        labels: (points,) index into `anchors`.
    """

    anchors: tuple[Anchor, ...]
    labels: NDArray[np.int64]


def embed_points(points: Sequence[JudgmentPoint], embedder: Embedder, name_weight: float) -> Matrix:
    """Embed name and reason apart, so that points meet by quality dimension rather than by topic.

    The row is [sqrt(w) name, sqrt(1 - w) reason]: a dot product of two rows is w times the names' cosine plus
    (1 - w) times the reasons'. The split and its default weight are ours.

    Returns:
        (points, 2 x embedder.dim) unit rows.
    """
    names = list(dict.fromkeys(p.dimension for p in points))
    position = {name: i for i, name in enumerate(names)}
    by_name = embedder.embed(names)[[position[p.dimension] for p in points]]
    by_reason = embedder.embed([p.reason for p in points])
    return np.hstack([np.sqrt(name_weight) * by_name, np.sqrt(1 - name_weight) * by_reason]).astype(np.float32)


def cluster_points(
    points: Sequence[JudgmentPoint],
    matrix: Matrix,
    *,
    slots: int,
    references: int,
    seed: int,
    name_by: NameBy = "medoid",
) -> Clustering:
    """Cluster a group's judgment points into anchors.

    Args:
        points: The group's points.
        matrix: (points, dimensions) from `embed_points`.
        slots: Number of anchors.
        references: How many of the largest slots get calibration references.
        seed: KMeans' seed.
        name_by: Which point names a cluster; see `exemplar`.

    Raises:
        RunError: There are fewer distinct points than slots, or MiniBatchKMeans left a cluster empty.
    """
    few = RunError(
        f"{len(points)} judgment points cannot make {slots} anchors",
        "Judge more records (discover.sample) or ask for fewer slots (discover.slots).",
    )
    if _distinct(matrix, slots) < slots:
        raise few
    from sklearn.cluster import KMeans, MiniBatchKMeans  # noqa: PLC0415 - slow to import

    kind = MiniBatchKMeans if len(points) > MINI_BATCH_ABOVE else KMeans
    model = kind(slots, random_state=seed, n_init=10).fit(matrix)
    if np.unique(model.labels_).size < slots:
        raise few
    distance = np.linalg.norm(matrix - model.cluster_centers_[model.labels_], axis=1)
    members = [np.flatnonzero(model.labels_ == c) for c in range(slots)]
    members = [m[np.argsort(distance[m], kind="stable")] for m in members]
    members.sort(key=lambda m: (-len(m), int(m[0])))
    labels = np.empty(len(points), dtype=np.int64)
    anchors = []
    for i, nearest_first in enumerate(members):
        labels[nearest_first] = i
        cluster = [points[j] for j in nearest_first.tolist()]
        named = cluster[exemplar([p.dimension for p in cluster], name_by)]
        anchors.append(_anchor(slot_name(i), cluster, named, i < references, _cohesion(matrix[nearest_first])))
    return Clustering(tuple(anchors), labels)


def _distinct(matrix: Matrix, enough: int) -> int:
    """Count distinct rows, up to `enough`: sorting all of them would need another copy of the matrix."""
    seen: set[bytes] = set()
    for row in matrix:
        seen.add(row.tobytes())
        if len(seen) >= enough:
            break
    return len(seen)


def _cohesion(rows: Matrix) -> float:
    centre = rows.mean(axis=0)
    return round(float((rows @ centre).mean() / max(float(np.linalg.norm(centre)), 1e-12)), 4)


def _anchor(
    slot: str, cluster: list[JudgmentPoint], named: JudgmentPoint, with_references: bool, cohesion: float
) -> Anchor:
    names = Counter(p.dimension for p in cluster if p.dimension != named.dimension)
    return Anchor(
        slot=slot,
        name=named.dimension,
        cluster_size=len(cluster),
        exemplar=Reference(named.record, named.score, named.reason, named.source, named.dimension),
        near_names=tuple(name for name, _ in names.most_common(NEAR_NAMES)),
        references=_references(cluster) if with_references else (),
        cohesion=cohesion,
    )


def _references(cluster: list[JudgmentPoint]) -> tuple[Reference, ...]:
    """Take the most central point of the low, middle and high third of the cluster's scores (ours)."""
    scores = np.array([p.score for p in cluster])
    low, high = np.quantile(scores, [1 / 3, 2 / 3])
    thirds = (scores <= low, (scores > low) & (scores < high), scores >= high)
    chosen = [cluster[int(np.flatnonzero(third)[0])] for third in thirds if third.any()]
    distinct = {p.score: p for p in reversed(chosen)}
    return tuple(Reference(p.record, p.score, p.reason, p.source, p.dimension) for _, p in sorted(distinct.items()))
