"""Foreign scores as slots of quality: which sources' records they are trusted for.

A rubric's slot is compared with the teacher's score on the same slot. A foreign score has no such twin, so it is
compared with the teacher's overall score, and its scale is its own, so its error is taken after a straight line through
the source's labels (both ours). All else is as for any cell: the same thresholds, levels and reasons.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mira.arrays import Floats
from mira.config.settings import ForeignSettings, ReliabilitySettings
from mira.foreign.sidecars import foreign_values
from mira.foreign.values import scaled
from mira.grouping.groups import Group
from mira.reliability.cells import measure_group
from mira.reliability.evidence import GroupEvidence, SourceEvidence, folds_of, read_labels
from mira.reliability.masking import Verdict, verdicts
from mira.run_folder.paths import RunFolder

__all__ = ["FOREIGN_FIELDS", "foreign_rows"]

FOREIGN_FIELDS = [("low", pa.float64()), ("high", pa.float64()), ("better", pa.string()), ("trust", pa.string())]
"""Further columns of foreign_slots.parquet: the score's range and direction, and `slot` of its settings."""


def foreign_rows(
    run: RunFolder,
    groups: Sequence[Group],
    scores: Mapping[str, ForeignSettings],
    settings: ReliabilitySettings,
    figures: Any,
    seed: int,
) -> list[dict[str, Any]]:
    """Return a row per source and foreign score that is a slot.

    Args:
        run: A run folder whose scores are joined.
        groups: The groups.
        scores: The foreign scores.
        settings: What a cell needs to be trusted.
        figures: (cell, held-out cell, verdict) -> their columns.
        seed: Of the resamples.

    Raises:
        RunError: A score is not joined yet.
    """
    slots = {name: score for name, score in scores.items() if score.slot != "none"}
    rows = []
    for group in groups if slots else ():
        for name, score in slots.items():
            sources = [source for source in group.sources if score.covers(source)]
            if not sources:
                continue
            evidence = _evidence(run, group.name, sources, name, score)
            measure = measure_group(evidence, bootstrap=settings.bootstrap, confidence=settings.interval, seed=seed)
            decided = verdicts(measure, settings)
            for i, source in enumerate(sources):
                verdict = _trusted(decided[i][0]) if score.slot == "trusted" else decided[i][0]
                rows.append(
                    {
                        "group": group.name,
                        "source": source,
                        "slot": name,
                        "name": name,
                        **figures(measure.cells[i][0], measure.held_out[i][0], verdict),
                        "n_pairs": 0,
                        "low": score.range[0],
                        "high": score.range[1],
                        "better": score.better,
                        "trust": score.slot,
                    }
                )
    return rows


def _trusted(verdict: Verdict) -> Verdict:
    return Verdict(verdict.level, verdict.evidence, None, None)


def _evidence(run: RunFolder, group: str, sources: Sequence[str], name: str, score: ForeignSettings) -> GroupEvidence:
    path = run.labels(group)
    labels = read_labels(path) if path.is_file() else None
    blocks = tuple(_source(run, labels, source, name, score) for source in sources)
    return GroupEvidence(group, (name,), blocks, cross_fitted=True)


def _source(run: RunFolder, labels: pa.Table | None, source: str, name: str, score: ForeignSettings) -> SourceEvidence:
    ids, overall = overall_of(labels, source) if labels is not None else (pa.array([], pa.string()), np.zeros(0))
    given = scaled(foreign_values(run, name, source, ids), score.range[0], score.range[1], score.better)
    student = _on_line(given.astype(np.float64), overall / 10)
    n, nothing = len(ids), np.full((len(ids), 1), np.nan)
    return SourceEvidence(
        source=source,
        ids=tuple(ids.to_pylist()),
        teacher=(overall / 10)[:, None],
        student=student[:, None],
        held_out=nothing,
        overall=overall,
        keep=np.full(n, np.nan),
        retests=np.zeros((0, 2, 1)),
        retested=np.zeros(0, np.int64),
        fold=folds_of(ids.to_pylist()),
    )


def overall_of(labels: pa.Table, source: str) -> tuple[pa.Array, Floats]:
    """Return ids, ascending, and the overall score (0-100) of each record's first judgement that has one."""
    own = labels.filter(pc.and_(pc.equal(labels["source"], source), pc.is_valid(labels["overall"])))
    own = own.sort_by([("id", "ascending"), ("replicate", "ascending")])
    ids = own["id"].to_numpy(zero_copy_only=False)
    first = np.flatnonzero(np.r_[True, ids[1:] != ids[:-1]]) if len(ids) else np.zeros(0, np.int64)
    found = own.take(pa.array(first))
    return found["id"].combine_chunks().cast(pa.string()), found["overall"].to_numpy().astype(np.float64)


def _on_line(given: Floats, teacher: Floats) -> Floats:
    """Put scores on the teacher's scale by least squares; their order stays as it is."""
    both = np.isfinite(given) & np.isfinite(teacher)
    x, y = given[both], teacher[both]
    spread = float(x.var()) if len(x) else 0.0
    slope = float(((x - x.mean()) * (y - y.mean())).mean()) / spread if spread > 0 else 0.0
    return (y.mean() if len(y) else 0.0) + max(slope, 1e-6) * (given - (x.mean() if len(x) else 0.0))
