"""What discovery gives on few records: how stable its slots are, and what each rule of naming does.

    python benchmarks/discovery.py mira-demo/mira.yaml

Reads a project's recorded free judgments and the groups of its run. Prints, for every group:

- stability (mean Jaccard under resampled records) and cohesion of the slots, on a quarter, a half and all records;
- how often a point's name has a word of its slot's name under each rule of `discover.name_by`, in the clusters
  themselves and on points of records that discovery has not seen, given to the nearest centroid;
- how alike two rubrics of disjoint halves of the records are, by the cosine of each slot's name with the nearest name
  of the other rubric;
- what the two rules change.

Then, over all slots of the rubrics in use, how far their names' coverage and their cohesion go with the teacher's own
consistency, by the records that it judged twice.

Halves are drawn 20 times. Intervals are the 5th and 95th percentile over the draws.
"""

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from mira.config.loading import load_config
from mira.config.settings import Config
from mira.discovery.anchors import Clustering, cluster_points, embed_points
from mira.discovery.clusters import discovery_record, record_numbers, stability
from mira.discovery.naming import NameBy, covered
from mira.embedding import load_embedder
from mira.grouping.groups import load_groups
from mira.judging.free import read_free_judgments
from mira.rubric.points import JudgmentPoint
from mira.rubric.rubric import Rubric
from mira.run_folder.paths import RunFolder
from mira.stats import spearman

RULES: tuple[NameBy, ...] = ("medoid", "common_words")
DRAWS = 20


@dataclass
class Points:
    """Some points of a group, as discovery sees them."""

    config: Config
    points: list[JudgmentPoint]
    matrix: np.ndarray

    def __post_init__(self) -> None:
        self.records = record_numbers(self.points)

    def of(self, records: np.ndarray) -> "Points":
        rows = np.flatnonzero(np.isin(self.records, records))
        return Points(self.config, [self.points[i] for i in rows], self.matrix[rows])

    def clusters(self, by: NameBy) -> Clustering:
        settings = self.config.discover
        return cluster_points(
            self.points, self.matrix, slots=settings.slots, references=settings.references, seed=self.config.seed,
            name_by=by,
        )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", type=Path)
    config = load_config(parser.parse_args().config)
    for name, own in _groups(config):
        measure(name, own)
    _consistency(RunFolder(config.run), np.random.default_rng(config.seed))


def _groups(config: Config) -> Iterator[tuple[str, Points]]:
    points, embedder = read_free_judgments(config.teacher.free_judgments), load_embedder(config.embedding)
    for group in load_groups(RunFolder(config.run)):
        own = [p for p in points if p.source in group.sources]
        yield group.name, Points(config, own, embed_points(own, embedder, config.discover.name_weight))


def measure(name: str, own: Points) -> None:
    """Print everything about one group."""
    n, rng = int(own.records.max()) + 1, np.random.default_rng(own.config.seed)
    print(f"{name}: {n} records, {len(own.points)} points, {len({p.dimension for p in own.points})} names")
    for share in (0.25, 0.5, 1.0):
        draws = [own.of(rng.permutation(n)[: round(share * n)]) for _ in range(1 if share == 1 else 5)]
        found = [(drawn, drawn.clusters("medoid")) for drawn in draws]
        stable = [_stability(drawn, clusters) for drawn, clusters in found]
        cohesion = [a.cohesion for _, clusters in found for a in clusters.anchors if a.cohesion is not None]
        unstable = np.mean([(s < 0.6).mean() for s in stable])
        print(f"  {share:4.0%} of the records: Jaccard {np.mean(stable):.2f}, unstable slots {unstable:.0%}, "
              f"cohesion {np.mean(cohesion):.2f}")  # fmt: skip
    halves = [np.array_split(rng.permutation(n), 2) for _ in range(DRAWS)]
    for by in RULES:
        whole, drawn = own.clusters(by), [tuple(_named(own.of(half), by) for half in pair) for pair in halves]
        seen = np.mean(_covered(own, whole))
        unseen = [_unseen(a, b) for a, b in drawn] + [_unseen(b, a) for a, b in drawn]
        alike = [(_alike(a, b) + _alike(b, a)) / 2 for a, b in drawn]
        print(f"  {by}: names cover {seen:.0%} of their points, of unseen records {_interval(unseen)}; "
              f"rubrics of two halves {_interval(alike)}")  # fmt: skip
    pairs = zip(*(own.clusters(by).anchors for by in RULES), strict=True)
    for plain, other in pairs:
        if plain.name != other.name:
            print(f"    {plain.slot} {plain.name} -> {other.name}")
    record = discovery_record(
        own.points, own.matrix, own.clusters("medoid"), name_by="medoid", seed=own.config.seed
    )  # fmt: skip
    print("  " + "\n  ".join(record.advice))


def _consistency(run: RunFolder, rng: np.random.Generator) -> None:
    """Print Spearman's rho of coverage by near names, and of cohesion, with the test-retest rho of slots."""
    rows = []
    for group in load_groups(run):
        labels = pq.read_table(run.labels(group.name)).sort_by([("source", "ascending"), ("id", "ascending")])
        keys = list(zip(labels["source"].to_pylist(), labels["id"].to_pylist(), strict=True))
        again = np.array([i for i in range(1, len(keys)) if keys[i] == keys[i - 1]])
        for anchor in Rubric.load(run.rubric(group.name)).anchors:
            scores = labels[anchor.slot].to_numpy().astype(float)
            rho = spearman(scores[again - 1], scores[again])
            cohesion = np.nan if anchor.cohesion is None else anchor.cohesion
            rows.append((covered(anchor.name, anchor.near_names), cohesion, rho))
    coverage, cohesion, consistency = np.array(rows).T
    for name, values in (("coverage", coverage), ("cohesion", cohesion)):
        known = np.isfinite(values) & np.isfinite(consistency)
        a, b, n = values[known], consistency[known], int(known.sum())
        drawn = [spearman(a[i], b[i]) for i in (rng.integers(n, size=n) for _ in range(2000))]
        low, high = np.nanpercentile(drawn, [5, 95])
        print(f"{name} and consistency over {n} slots: {spearman(a, b):.2f} [{low:.2f}, {high:.2f}]")


def _stability(own: Points, clusters: Clustering) -> np.ndarray:
    return stability(own.records, own.matrix, clusters.labels, len(clusters.anchors), own.config.seed)


def _covered(own: Points, clusters: Clustering) -> list[float]:
    """Return 1 for every point whose name has a word of its slot's, and 0 for the others."""
    names = [a.name for a in clusters.anchors]
    return [covered(names[label], [p.dimension]) for label, p in zip(clusters.labels, own.points, strict=True)]


def _named(own: Points, by: NameBy) -> tuple[Points, Clustering]:
    return own, own.clusters(by)


def _unseen(fitted: tuple[Points, Clustering], other: tuple[Points, Clustering]) -> float:
    """Return how often names cover the points of records that discovery has not seen, by nearest centroid."""
    (seen, clusters), (unseen, _) = fitted, other
    centres = np.stack([seen.matrix[clusters.labels == i].mean(axis=0) for i in range(len(clusters.anchors))])
    nearest = (unseen.matrix @ centres.T - (centres**2).sum(axis=1) / 2).argmax(axis=1)
    names = [a.name for a in clusters.anchors]
    return float(np.mean([covered(names[i], [p.dimension]) for i, p in zip(nearest, unseen.points, strict=True)]))


def _alike(one: tuple[Points, Clustering], other: tuple[Points, Clustering]) -> float:
    return float((_names(*one) @ _names(*other).T).max(axis=1).mean())


def _names(own: Points, clusters: Clustering) -> np.ndarray:
    """Return unit vectors of the slots' names: the first half of a row, see `embed_points`."""
    position = {p.dimension: i for i, p in enumerate(own.points)}
    rows = own.matrix[[position[a.name] for a in clusters.anchors], : own.matrix.shape[1] // 2]
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def _interval(values: list[float]) -> str:
    low, high = np.percentile(values, [5, 95])
    return f"{np.mean(values):.2f} [{low:.2f}, {high:.2f}]"


if __name__ == "__main__":
    main()
