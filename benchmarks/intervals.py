"""Do intervals of group figures hold the truth, and does masking by shrunken cells agree better with held-out labels?

    python benchmarks/intervals.py RUN [--corpora 300] [--splits 100]

RUN is a finished run folder with labels and cross-fitted predictions, such as the demo's.

**Coverage.** Every group of the run becomes a world of known truth: a Gaussian copula of its teacher's and student's
scores within each source, the teacher's scores in their own steps, the second judgements as reliable as the run's. From
it, corpora of the run's size are drawn, and both intervals are taken of each: the percentile interval with the ceiling
taken as known, and the bias-corrected one that resamples the ceiling's pairs. The truth is that of 60,000 records a
source. The cells are those that the run trusts.

**Shrinkage.** Labels are split in halves, again and again. Cells are masked on one half, by the lower end of their own
interval or of the shrunken one. On the other half: within-source Spearman of the student's quality, the trimmed mean
over unmasked slots, against the teacher's overall; and how many masks agree with the rho measured there.
"""

import argparse
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from functools import reduce
from operator import add
from pathlib import Path

import numpy as np
from scipy.special import ndtr, ndtri
from scipy.stats import rankdata

from mira.config.settings import ReliabilitySettings
from mira.grouping.groups import load_groups
from mira.reliability.ceiling import Ceilings, ceilings
from mira.reliability.cells import GroupMeasure, Measure, measure_group
from mira.reliability.evidence import GroupEvidence, SourceEvidence
from mira.reliability.group_figures import mean_rho, share_of_ceiling
from mira.reliability.masking import Reason, judge_cell
from mira.reliability.shrinkage import shrink
from mira.reliability.stage import load_evidence
from mira.run_folder.paths import RunFolder
from mira.selection.quality import trimmed_mean
from mira.stats import RankMoments, percentile_interval, rank_moments, spearman

SETTINGS = ReliabilitySettings()
MANY = 60_000


def measured(evidence: GroupEvidence, seed: int, bootstrap: int = SETTINGS.bootstrap) -> GroupMeasure:
    return measure_group(evidence, bootstrap=bootstrap, confidence=SETTINGS.interval, seed=seed)


class World:
    """What a group's corpora are drawn from."""

    def __init__(self, evidence: GroupEvidence) -> None:
        self.evidence, self.k = evidence, len(evidence.names)
        found = ceilings(evidence, SETTINGS.min_pairs)
        self.reliability = np.clip(np.nan_to_num(found.rho, nan=0.9) ** 2, 0.05, 0.98)
        self.steps = [[np.sort(c[np.isfinite(c)]) for c in s.teacher.T] for s in evidence.sources]
        self.covariance = [self._covariance(s) for s in evidence.sources]

    def _covariance(self, source: SourceEvidence) -> np.ndarray:
        scores = np.hstack([source.teacher, source.student])
        normal = np.zeros_like(scores)
        for j, column in enumerate(scores.T):
            known = np.isfinite(column)
            if known.sum() > 2:
                normal[known, j] = ndtri((rankdata(column[known]) - 0.5) / known.sum())
        normal += 1e-9 * np.arange(len(normal))[:, None]  # a column that does not vary correlates with nothing
        values, vectors = np.linalg.eigh(np.nan_to_num(np.corrcoef(normal.T)))
        found = (vectors * np.maximum(values, 1e-3)) @ vectors.T
        scale = np.sqrt(np.diag(found))
        return np.asarray(found / np.outer(scale, scale))

    def draw(self, i: int, n: int, pairs: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the teacher's scores, the student's, and second judgements of the first records."""
        normal = rng.multivariate_normal(np.zeros(2 * self.k), self.covariance[i], size=n, method="cholesky")
        teacher, r = normal[:, : self.k], self.reliability[i]
        again = r * teacher[:pairs] + np.sqrt(1 - r**2) * rng.standard_normal((pairs, self.k))
        return self._stepped(i, teacher), normal[:, self.k :], self._stepped(i, again)

    def _stepped(self, i: int, normal: np.ndarray) -> np.ndarray:
        columns = [
            steps[np.minimum((ndtr(z) * len(steps)).astype(int), len(steps) - 1)]
            if len(steps)
            else np.full(len(z), np.nan)
            for steps, z in zip(self.steps[i], normal.T, strict=True)
        ]
        return np.column_stack(columns)

    def corpus(self, seed: int) -> GroupEvidence:
        rng, sources = np.random.default_rng(seed), []
        for i, source in enumerate(self.evidence.sources):
            pairs = len(source.retests)
            teacher, student, again = self.draw(i, len(source.ids), pairs, rng)
            retests = np.stack([teacher[:pairs], again], axis=1)
            sources.append(
                replace(source, teacher=teacher, student=student, retests=retests, retested=np.arange(pairs))
            )
        return replace(self.evidence, sources=tuple(sources))

    def truth(self, cells: np.ndarray) -> tuple[float, float]:
        rng, rho, again = np.random.default_rng(99), [], []
        for i in range(len(self.evidence.sources)):
            teacher, student, second = self.draw(i, MANY, MANY, rng)
            rho.append([spearman(a, b) for a, b in zip(teacher.T, student.T, strict=True)])
            again.append([spearman(a, b) for a, b in zip(teacher.T, second.T, strict=True)])
        share = np.minimum(np.array(rho) / np.sqrt(np.array(again)), 1)
        return float(np.array(rho)[cells].mean()), float(share[cells].mean())


def coverage(evidence: GroupEvidence, corpora: int) -> None:
    cells = np.array([[judge_cell(c, SETTINGS)[0] is None for c in row] for row in measured(evidence, 0).cells])
    world = World(evidence)
    true_rho, true_share = world.truth(cells)
    print(f"{evidence.group}: {cells.sum()} cells, true rho {true_rho:.3f}, true share of the ceiling {true_share:.3f}")
    held = defaultdict(list)
    for seed in range(corpora):
        corpus = world.corpus(seed)
        measure = measured(corpus, seed)
        sampled = ceilings(corpus, SETTINGS.min_pairs, bootstrap=SETTINGS.bootstrap, seed=seed)
        fixed = Ceilings(sampled.rho, sampled.pairs, sampled.pooled, sampled.samples[..., :0])
        rho = mean_rho(measure.rho, measure.samples, cells)
        for confidence in (0.90, 0.95):
            for name, truth, figure, corrected in (
                ("rho, percentile", true_rho, rho, False),
                ("rho, bias-corrected", true_rho, rho, True),
                ("share, percentile", true_share, share_of_ceiling(measure.rho, measure.samples, fixed, cells), False),
                ("share, corrected", true_share, share_of_ceiling(measure.rho, measure.samples, sampled, cells), True),
            ):
                low, high = (
                    figure.interval(confidence)[1:] if corrected else percentile_interval(figure.samples, confidence)
                )
                held[name, confidence].append((low <= truth <= high, high < truth, low > truth, high - low))
    for (name, confidence), rows in held.items():
        covers, below, above, width = np.mean(np.array(rows, float), axis=0)
        print(
            f"  {name:20} {confidence:.0%}: covers {covers:.3f}, below the truth {below:.3f}, above {above:.3f}, "
            f"width {width:.3f}"
        )


def halves(evidence: GroupEvidence, seed: int) -> Iterator[GroupEvidence]:
    rng = np.random.default_rng(seed)
    orders = [rng.permutation(len(s.ids)) for s in evidence.sources]
    for part in range(2):
        yield replace(
            evidence,
            sources=tuple(
                _rows(s, np.sort(order[part * (len(order) // 2) :][: len(order) // 2]))
                for s, order in zip(evidence.sources, orders, strict=True)
            ),
        )


def _rows(source: SourceEvidence, rows: np.ndarray) -> SourceEvidence:
    taken = {f: getattr(source, f)[rows] for f in ("teacher", "student", "held_out", "overall", "keep", "fold")}
    ids = tuple(source.ids[i] for i in rows)
    return replace(source, ids=ids, retests=source.retests[:0], retested=source.retested[:0], **taken)


def shrinkage(evidence: GroupEvidence, splits: int) -> None:
    gains = defaultdict(list)
    for seed in range(splits):
        seen, unseen = halves(evidence, seed)
        measure = measured(seen, seed, 300)
        shrunken = shrink(measure.rho, measure.samples, SETTINGS.interval)
        other = np.array([[_is_usable(c) for c in row] for row in measure.cells])
        raw_low = np.array([[c.low for c in row] for row in measure.cells])
        rho = np.array(
            [[spearman(*pair) for pair in zip(s.teacher.T, s.student.T, strict=True)] for s in unseen.sources]
        )
        found = {}
        for name, low in (("own", raw_low), ("shrunken", shrunken.low)):
            trusted = (np.nan_to_num(low, nan=-1.0) >= SETTINGS.min_rho) & other
            moments = [_agreement(s, row) for s, row in zip(unseen.sources, trusted, strict=True)]
            right = (trusted == ((rho >= SETTINGS.min_rho) & other))[np.isfinite(rho)].mean()
            found[name] = float(reduce(add, moments).rho[0]), float(right), float(trusted.mean())
        for i, what in enumerate(("agreement with the overall", "masks that agree", "cells trusted")):
            gains[what].append((found["own"][i], found["shrunken"][i]))
    print(f"{evidence.group}: {splits} halves")
    for what, pairs in gains.items():
        own, shrunk = np.array(pairs).T
        low, high = np.quantile(shrunk - own, [0.05, 0.95])
        print(
            f"  {what:27} own {own.mean():.3f}, shrunken {shrunk.mean():.3f}, "
            f"difference {np.mean(shrunk - own):+.3f} [{low:+.3f}, {high:+.3f}]"
        )


def _is_usable(cell: Measure) -> bool:
    """Tell whether no other rule than that on rho masks the cell."""
    return judge_cell(cell, SETTINGS)[0] in (None, Reason.WEAK) and cell.skill > SETTINGS.min_skill


def _agreement(source: SourceEvidence, trusted: np.ndarray) -> RankMoments:
    columns = source.student[:, trusted] if trusted.any() else source.student
    return rank_moments(trimmed_mean(list(columns.T), 0.1, 1)[0], source.overall)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--corpora", type=int, default=300)
    parser.add_argument("--splits", type=int, default=100)
    parser.add_argument("--groups", nargs="*", default=[])
    given = parser.parse_args()
    run = RunFolder(given.run)
    for group in load_groups(run):
        if not given.groups or group.name in given.groups:
            evidence = load_evidence(run, group)
            coverage(evidence, given.corpora)
            shrinkage(evidence, given.splits)


if __name__ == "__main__":
    main()
