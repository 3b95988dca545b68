"""Which way of comparing records agrees best with the teacher: other yardsticks, and length taken out.

Predictions are by models that have not seen the record: cross-fitted over all labels where the student can be refitted,
else of the held-out split. Records are resampled within their source, the same for every variant, so that differences
have intervals of their own.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mira.arrays import Floats
from mira.config.settings import SelectSettings
from mira.evaluation.results import Estimate, VariantFigures, VariantsResult
from mira.foreign.sidecars import with_foreign
from mira.grouping.groups import Group
from mira.rubric.judgement import Recommendation
from mira.rubric.slots import slot_columns
from mira.run_folder.paths import RunFolder
from mira.selection.units import Unit
from mira.selection.yardstick.length import Lengths, LengthSums
from mira.selection.yardstick.yardsticks import CompareBy, Yardstick, load_yardsticks
from mira.stats import generator, percentile_interval, rank_moments, resamples

__all__ = ["compare_variants", "labelled_scores", "qualities"]

_RESAMPLES = 1000
_YARDSTICKS: tuple[CompareBy, ...] = ("own", "shared", "centred")
_VERDICTS = {Recommendation.DROP: 0.0, Recommendation.DOWNSAMPLE: 1.0, Recommendation.KEEP: 2.0}

Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class _Records:
    """Labelled records of all sources that are ranked.

    Attributes:
        source: Number of each record's source.
        pool: Number of each record's pool.
        tokens: Their tokens.
        of_corpus: Tokens of each source in the corpus.
        share: Share of its tokens that each pool keeps.
        verdict: The teacher's verdict: 0 drop, 1 downsample, 2 keep.
    """

    source: npt.NDArray[np.int64]
    pool: npt.NDArray[np.int64]
    tokens: npt.NDArray[np.int64]
    of_corpus: Floats
    share: Floats
    verdict: Floats


def compare_variants(
    select: SelectSettings,
    run: RunFolder,
    groups: Sequence[Group],
    selected: Mapping[str, Any],
    confidence: float = 0.95,
    seed: int = 0,
) -> VariantsResult | None:
    """Measure `select.compare_by` and `select.length.control` against the teacher's verdicts.

    Length is taken out of the values by the yardstick that the settings name, with lines and strata of the labelled
    records.

    Args:
        select: How records are compared.
        run: The run folder.
        groups: Its groups.
        selected: The content of `thresholds.json`.
        confidence: Of the intervals, in (0, 1).
        seed: Of the resamples.

    Returns:
        None if no labelled record has a quality by every yardstick.
    """
    table = labelled_scores(run, groups)
    if table is None:
        return None
    pools = {source: key for key, pool in selected["scopes"].items() for source in pool["sources"]}
    yardsticks = {name: load_yardsticks(select, run, name) for name in _YARDSTICKS}
    values = {name: qualities(select, run, table, yardsticks[name]) for name in _YARDSTICKS}
    usable = np.isfinite(np.sum(list(values.values()), axis=0)) & np.array(
        [s in pools for s in table["source"].to_pylist()]
    )
    if not usable.any():
        return None
    table, values = table.filter(pa.array(usable)), {name: value[usable] for name, value in values.items()}
    names, source = np.unique(np.array(table["source"].to_pylist()), return_inverse=True)
    keys, pool = np.unique(np.array([pools[name] for name in names]), return_inverse=True)
    shares = [selected["scopes"][key]["tokens_kept"] / max(selected["scopes"][key]["tokens_in"], 1) for key in keys]
    records = _Records(
        source.astype(np.int64),
        pool[source].astype(np.int64),
        table["n_tokens"].to_numpy().astype(np.int64),
        np.array([selected["sources"][name]["tokens_in"] for name in names], np.float64),
        np.array(shares),
        np.array([_VERDICTS[Recommendation(v)] for v in table["recommendation"].to_pylist()]),
    )
    chosen = values[select.compare_by]
    lengths = {"none": chosen, "residual": _without_length(records, chosen), "strata": chosen}
    strata = _strata(records, select.length.strata)
    measured = {name: _drawn(seed, records, value) for name, value in values.items()}
    by_length = {
        name: _drawn(seed, records, value, strata if name == "strata" else None) for name, value in lengths.items()
    }
    return VariantsResult(
        records=len(source),
        compare_by={name: _figures(drawn, measured["own"], confidence) for name, drawn in measured.items()},
        length={name: _figures(drawn, by_length["none"], confidence) for name, drawn in by_length.items()},
    )


def labelled_scores(run: RunFolder, groups: Sequence[Group]) -> pa.Table | None:
    """Return source, id, n_tokens, recommendation and the student's scores of labelled records."""
    parts = []
    for group in groups:
        folder = run.student(group.name)
        paths = [folder / name for name in ("out_of_fold.parquet", "held_out.parquet") if (folder / name).is_file()]
        if not paths or not run.labels(group.name).is_file():
            continue
        columns = ["id", "source", "n_tokens", "replicate", "recommendation", "split"]
        labels = pq.read_table(run.labels(group.name), columns=columns)
        labels = labels.filter(pc.and_(pc.equal(labels["replicate"], 0), pc.is_valid(labels["recommendation"])))
        if paths[0].name == "held_out.parquet":
            labels = labels.filter(pc.equal(labels["split"], "held_out"))
        found = pq.read_table(paths[0])
        found = found.select(["id", "source", *slot_columns(found.column_names)])
        parts.append(labels.join(found, ["source", "id"], join_type="inner"))
    if not parts:
        return None
    return pa.concat_tables(parts, promote_options="default").sort_by([("source", "ascending"), ("id", "ascending")])


def qualities(select: SelectSettings, run: RunFolder, table: pa.Table, yardsticks: Mapping[str, Yardstick]) -> Floats:
    """Return the quality of the records of `labelled_scores`; NaN if too few slots are scored."""
    values = np.full(len(table), np.nan)
    sources = np.array(table["source"].to_pylist(), dtype=object)
    for source in dict.fromkeys(sources):
        rows, yardstick = np.flatnonzero(sources == source), yardsticks.get(source, Yardstick())
        if yardstick.slots:
            part = with_foreign(run, source, table.take(pa.array(rows)), yardstick.slots)
            columns = [part[slot].to_numpy().astype(np.float32) for slot in yardstick.slots]
            values[rows] = yardstick.quality(columns, select)[0]
    return values


def _without_length(records: _Records, values: Floats) -> Floats:
    rest = values.copy()
    for source in range(len(records.of_corpus)):
        rows = records.source == source
        rest[rows] = LengthSums.of(values[rows], records.tokens[rows]).fit.rest(values[rows], records.tokens[rows])
    return rest


def _strata(records: _Records, most: int) -> npt.NDArray[np.int64]:
    """Return the number of each record's stratum: of its source's lengths."""
    found, count = np.zeros(len(records.source), np.int64), 0
    for source in range(len(records.of_corpus)):
        rows = records.source == source
        for part, _ in Lengths.of(records.tokens[rows]).strata(Unit(""), most):
            inside = rows & (records.tokens >= part.shortest) & (records.tokens <= part.longest)
            found[inside], count = count, count + 1
    return found


@dataclass(frozen=True)
class _Drawn:
    """A variant's figures: the sample's own first, then one per resample."""

    within: Floats
    across: Floats
    precision: Floats


def _drawn(seed: int, records: _Records, values: Floats, strata: npt.NDArray[np.int64] | None = None) -> _Drawn:
    parts = [_measured(records, values, strata, weights) for weights in _weights(seed, records)]
    return _Drawn(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def _weights(seed: int, records: _Records) -> Iterator[Floats]:
    """Yield counts (records, resamples) of the sample itself, then of resamples within each source."""
    yield np.ones((len(records.source), 1))
    drawn = np.zeros((len(records.source), _RESAMPLES))
    for source in range(len(records.of_corpus)):
        rows = np.flatnonzero(records.source == source)
        rng = generator(seed, "variants", source)
        drawn[rows] = np.concatenate(list(resamples(len(rows), _RESAMPLES, rng)), axis=1)
    yield drawn


def _measured(
    records: _Records, values: Floats, strata: npt.NDArray[np.int64] | None, weights: Floats
) -> tuple[Floats, Floats, Floats]:
    """Return rho within sources, rho across the sources of a pool, and the teacher's keeps among the kept tokens."""
    rhos = []
    for code in (records.source, records.pool):
        parts = [
            rank_moments(values[rows], records.verdict[rows], weights[rows])
            for rows in (code == number for number in range(int(code.max()) + 1))
        ]
        rhos.append(sum(parts[1:], parts[0]).rho if strata is None else np.full(weights.shape[1], np.nan))
    tokens = weights * records.tokens[:, None]
    for source, total in enumerate(records.of_corpus):  # a source's labels stand for all of its tokens
        rows = records.source == source
        tokens[rows] *= total / np.maximum(tokens[rows].sum(axis=0), 1)
    kept = np.zeros(weights.shape, np.bool_)
    for pool, share in enumerate(records.share):
        rows = np.flatnonzero(records.pool == pool)
        kept[rows] = _best(values[rows], tokens[rows], np.full(weights.shape[1], share))
    if strata is not None:
        kept = _by_strata(records, values, tokens, kept, strata)
    worth = np.where(kept, tokens, 0.0)
    precision = worth[records.verdict == 2].sum(axis=0) / np.maximum(worth.sum(axis=0), 1e-9)
    return rhos[0], rhos[1], precision


def _best(values: Floats, tokens: Floats, share: Floats) -> Flags:
    """Return which records are kept in each resample: the best, up to a share of the tokens."""
    order = np.argsort(-values, kind="stable")
    running = np.cumsum(tokens[order], axis=0)
    kept = np.zeros(tokens.shape, np.bool_)
    kept[order] = running <= share * running[-1] * (1 + 1e-12)
    return kept


def _by_strata(records: _Records, values: Floats, tokens: Floats, kept: Flags, strata: npt.NDArray[np.int64]) -> Flags:
    """Return which records are kept if each stratum keeps its source's share."""
    found = np.zeros_like(kept)
    for source in range(len(records.of_corpus)):
        rows = records.source == source
        share = np.where(kept[rows], tokens[rows], 0.0).sum(axis=0) / np.maximum(tokens[rows].sum(axis=0), 1e-9)
        for stratum in np.unique(strata[rows]):
            own = np.flatnonzero(strata == stratum)
            found[own] = _best(values[own], tokens[own], share)
    return found


def _figures(drawn: _Drawn, base: _Drawn, confidence: float) -> VariantFigures:
    pairs = ((drawn.within, base.within), (drawn.across, base.across), (drawn.precision, base.precision))
    return VariantFigures(
        *(_estimate(own, confidence) for own, _ in pairs),
        *(_estimate(own - other, confidence) for own, other in pairs),
    )


def _estimate(samples: Floats, confidence: float) -> Estimate:
    if not np.isfinite(samples[0]):
        return Estimate()
    return Estimate(float(samples[0]), *percentile_interval(samples[1:], confidence))
