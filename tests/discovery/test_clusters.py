import json
from dataclasses import asdict

import numpy as np

from mira.discovery.anchors import Clustering, cluster_points
from mira.discovery.clusters import ClusterRecord, discovery_record, record_numbers, stability
from mira.discovery.naming import commonest_names, covered, exemplar, name_words
from mira.rubric.points import JudgmentPoint


def _world(per_cluster: int, spread: float, clusters: int = 3, records: int = 40):
    """Points around orthogonal directions, dealt to records in turn; a smaller spread keeps clusters apart."""
    rng = np.random.default_rng(0)
    points, rows = [], []
    for c in range(clusters):
        for i in range(per_cluster + c):
            points.append(JudgmentPoint(f"r{i % records}", "docs", f"Depth {c}", 5.0, "because"))
            row = np.eye(clusters, 8)[c] + spread * rng.standard_normal(8)
            rows.append(row / np.linalg.norm(row))
    return points, np.array(rows, np.float32)


def _found(points, matrix, slots=3) -> Clustering:
    return cluster_points(points, matrix, slots=slots, references=0, seed=0)


def test_a_slot_is_named_by_the_medoid_or_by_the_commonest_words() -> None:
    names = ["Code content", "Reasoning demand", "Explicit reasoning", "Code layout", "Reasoning demand made plain"]
    assert exemplar(names, "medoid") == 0
    assert exemplar(names, "common_words") == 1, "reasoning (3 points) and code or demand (2): the first with both"
    assert exemplar(["Depth", "Code", "Clarity"], "common_words") == 0, "no word is common"
    assert exemplar(["Tone", "Code size", "The code"], "common_words") == 1, "one common word is enough"
    assert exemplar(["Size of records", "Code and prose", "Of note"], "common_words") == 0, "articles do not count"


def test_names_cover_their_cluster_by_shared_words() -> None:
    assert name_words("The Depth-of Reasoning_2") == {"depth", "reasoning"}
    assert covered("Code content", ["code layout", "Content safety", "Reasoning demand", "x"]) == 0.5
    assert covered("Глубина кода", ["глубина"]) == 1.0 and covered("x", []) == 0.0
    assert commonest_names(["a", "b", "b", "c", "c"], 2) == [("b", 2), ("c", 2)]


def test_clusters_that_are_apart_stay_when_records_are_resampled() -> None:
    points, matrix = _world(60, 0.05)
    found = _found(points, matrix)
    stable = stability(record_numbers(points), matrix, found.labels, 3, seed=0)
    assert (stable > 0.95).all()
    again = stability(record_numbers(points), matrix, found.labels, 3, seed=0)
    np.testing.assert_array_equal(stable, again)


def test_clusters_of_noise_do_not_stay() -> None:
    points, matrix = _world(60, 5.0)
    found = _found(points, matrix, slots=6)
    assert stability(record_numbers(points), matrix, found.labels, 6, seed=0).mean() < 0.6


def test_of_many_points_whole_records_are_resampled() -> None:
    points, matrix = _world(2_600, 0.05, records=520)
    assert len(points) > 5_000
    found = _found(points, matrix)
    assert (stability(record_numbers(points), matrix, found.labels, 3, seed=0) > 0.9).all()


def test_no_stability_where_there_is_too_little_to_draw_from() -> None:
    points, matrix = _world(1, 0.05)
    assert np.isnan(stability(np.zeros(len(points), np.int64), matrix[:, :2], np.zeros(6, np.int64), 99, 0)).all()
    assert np.isnan(stability(np.zeros(0, np.int64), matrix[:0], np.zeros(0, np.int64), 3, 0)).all()


def _record(points, matrix):
    return discovery_record(points, matrix, _found(points, matrix), name_by="medoid", seed=0)


def test_enough_records_need_no_advice() -> None:
    points, matrix = _world(60, 0.05)
    record = _record(points, matrix)
    assert record.advice == [] and record.records == 40 and record.points == len(points)
    top = record.clusters[0]
    assert (top.slot, top.name, top.points, top.names, top.covered) == ("A1", "Depth 2", 62, [("Depth 2", 62)], 1.0)
    assert top.cohesion and top.cohesion > 0.9 and json.loads(json.dumps(asdict(record)))["name_by"] == "medoid"


def test_thin_clusters_ask_for_more_records() -> None:
    points, matrix = _world(12, 0.05, records=7)
    (advice,) = _record(points, matrix).advice
    assert advice.startswith("More records are needed: 3 of 3 slots (A1, A2, A3) have fewer than 30 points")
    assert advice.endswith("judged 7 per source; have it judge twice as many: discover.sample: 14")


def test_what_is_wrong_with_a_cluster() -> None:
    fine = ClusterRecord("A1", "n", 30, 0.7, 0.6, 0.5)
    assert fine.problems(0.4) == [] and fine.problems(None) == []
    assert ClusterRecord("A1", "n", 29, 0.45, 0.59, 0.5).problems(0.4) == ["thin", "unstable", "loose"]
    assert ClusterRecord("A1", "n", 30).problems(0.4) == []


def test_a_hostile_name_is_clipped_in_the_record() -> None:
    points, matrix = _world(12, 0.05)
    points = [JudgmentPoint(p.record, p.source, "x" * 300_000 + p.dimension, p.score, p.reason) for p in points]
    cluster = _record(points, matrix).clusters[0]
    assert len(cluster.name) == 100 and len(cluster.names[0][0]) == 100
