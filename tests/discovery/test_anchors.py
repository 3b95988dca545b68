import numpy as np
import pytest

from mira.config.settings import EmbeddingSettings
from mira.discovery.anchors import cluster_points, embed_points
from mira.embedding import load_embedder
from mira.errors import RunError
from mira.rubric.points import JudgmentPoint
from mira.rubric.rubric import Anchor, Reference

TOPICS = {
    "Code Correctness": ["The loop ends one item early.", "Imports are missing.", "Runs as it is."],
    "Prose Clarity": ["Short sentences.", "The paragraph rambles.", "Hard to follow."],
    "Version Currency": ["Describes a release of 2012.", "Still true today.", "Uses a removed call."],
}


def _points(copies: int = 4) -> list[JudgmentPoint]:
    points = []
    for t, (name, reasons) in enumerate(TOPICS.items()):
        for i in range(copies + t):  # sizes differ, so that the order of slots is fixed
            for j, reason in enumerate(reasons):
                points.append(JudgmentPoint(f"r{i}{j}", "docs", name, 2.0 * j + i / 2, f"{reason} Case {i}."))
    return points


@pytest.fixture(scope="module")
def clustered() -> tuple[list[JudgmentPoint], np.ndarray, tuple[Anchor, ...], np.ndarray]:
    points = _points()
    matrix = embed_points(points, load_embedder(EmbeddingSettings()), 0.85)
    found = cluster_points(points, matrix, slots=3, references=2, seed=0)
    return points, matrix, found.anchors, found.labels


def test_points_meet_by_dimension(clustered) -> None:
    points, matrix, anchors, labels = clustered
    assert [a.name for a in anchors] == ["Version Currency", "Prose Clarity", "Code Correctness"]
    assert [a.slot for a in anchors] == ["A1", "A2", "A3"]
    assert [a.cluster_size for a in anchors] == [18, 15, 12]
    assert all(anchors[label].name == p.dimension for p, label in zip(points, labels, strict=True))
    np.testing.assert_allclose(np.linalg.norm(matrix, axis=1), 1, rtol=1e-5)


def test_exemplar_is_the_real_point_nearest_the_centroid(clustered) -> None:
    points, matrix, anchors, labels = clustered
    for i, anchor in enumerate(anchors):
        members = np.flatnonzero(labels == i)
        distance = np.linalg.norm(matrix[members] - matrix[members].mean(axis=0), axis=1)
        nearest = points[members[distance.argmin()]]
        assert anchor.exemplar == Reference(nearest.record, nearest.score, nearest.reason, "docs", nearest.dimension)
        assert 0.5 < anchor.cohesion <= 1


def test_references_span_low_to_high_for_the_largest_slots(clustered) -> None:
    points, _, anchors, labels = clustered
    assert anchors[2].references == ()
    for i, anchor in enumerate(anchors[:2]):
        scores = [r.score for r in anchor.references]
        cluster = sorted(p.score for p, label in zip(points, labels, strict=True) if label == i)
        third = len(cluster) // 3
        assert scores == sorted(scores)
        assert len(scores) == 3
        assert scores[0] <= cluster[third]
        assert scores[-1] >= cluster[-third - 1]


def test_name_weight_decides_what_brings_points_together() -> None:
    points = [
        JudgmentPoint("a", "s", "Depth", 1, "about databases"),
        JudgmentPoint("b", "s", "Depth", 1, "about cooking"),
        JudgmentPoint("c", "s", "Safety", 1, "about databases"),
    ]
    embedder = load_embedder(EmbeddingSettings())
    by_name, by_reason = (embed_points(points, embedder, weight) for weight in (0.95, 0.05))
    assert by_name[0] @ by_name[1] > by_name[0] @ by_name[2]
    assert by_reason[0] @ by_reason[2] > by_reason[0] @ by_reason[1]


def test_too_few_points_is_a_clear_error() -> None:
    points = _points()[:2] * 10
    matrix = np.tile(np.eye(2, 4, dtype=np.float32), (10, 1))
    with pytest.raises(RunError, match="20 judgment points cannot make 3 anchors"):
        cluster_points(points, matrix, slots=3, references=2, seed=0)
