"""`mira audit`: what the scorers of a run do on its corpus, and whether they can be believed."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mira.arrays import Floats
from mira.config.settings import Config, CorpusSettings
from mira.corpus import Shard, shards, totals
from mira.corpus.database import connect
from mira.corpus.index_reader import index_blocks
from mira.corpus.parse import Parser
from mira.errors import ConfigError
from mira.evaluation.audit.figures import (
    Sample,
    agreed,
    length_rho,
    percentiles,
    source_auc,
    source_share,
    strata_of,
    upper_half,
)
from mira.evaluation.audit.results import AuditResult, Drift, ScorerAudit, SourceAudit
from mira.evaluation.audit.scorers import QUALITY, Counts, Scorer, count_values, find_scorers, shard_values
from mira.evaluation.audit.verdicts import verdicts
from mira.evaluation.results import EvaluationResult, PlantedFigures
from mira.evaluation.yardsticks import labelled_scores, qualities
from mira.grouping.groups import load_groups
from mira.hashing import hash_ids, uniform
from mira.progress import Log
from mira.reliability.evidence import folds_of, read_labels
from mira.reliability.foreign import overall_of
from mira.run_folder.paths import RunFolder
from mira.run_folder.results import read_result, write_result
from mira.selection.stage import selection_inputs
from mira.selection.values import SelectionInputs
from mira.selection.yardstick.yardsticks import load_yardsticks
from mira.stats import spearman

__all__ = ["Labels", "audit"]

_SAMPLE = 50_000  # records per source that rank figures are taken over, chosen by a hash of their ids
TEACHER, PEOPLE = "the teacher", "the reviewers"
Labels = Mapping[str, tuple[pa.Array, Floats]]
"""Source -> ids of its labelled records, and a number for each."""


def audit(
    config: Config,
    run: RunFolder,
    log: Log,
    *,
    names: Sequence[str] = (),
    by: Sequence[str] = (),
    against: str = "",
    reference: str = "",
    source_field: str = "",
    humans: Labels | None = None,
) -> AuditResult:
    """Audit scorers and write audit.json.

    Args:
        config: The settings; foreign scores must be joined.
        run: The run folder.
        log: Where progress goes.
        names: Scorers: `quality` and names of `scores`; all by default.
        by: Fields of the records, e.g. meta.lang: are their values judged differently at equal quality?
        against: Another scorer, to measure drift against.
        reference: A scorer that stands in for the teacher.
        source_field: Field of the records that names their source, in the place of the settings' sources.
        humans: What people say of records, higher is better.

    Raises:
        ConfigError: A scorer is unknown, or the run has no scorer.
        RunError: Scores are not there yet.
    """
    inputs = selection_inputs(config, run, log)
    extra = [name for name in dict.fromkeys((against, reference)) if name]
    scorers, known = find_scorers(inputs, names, extra)
    found = shards(config.corpus)
    every = [shard for parts in found.values() for shard in parts]
    counted = totals(config.corpus, run)
    truth = _teacher(run, found)
    wanted = {scorer.name: scorer for scorer in [*scorers, *(known[name] for name in extra)]}
    if QUALITY in known:
        wanted.setdefault(QUALITY, known[QUALITY])
    sample, values, fields = _drawn(
        config,
        run,
        log,
        found,
        wanted,
        [truth, humans or {}],
        [*by, *([source_field] if source_field else [])],
        counted,
    )
    if source_field:
        sample = _by_field(sample, fields.pop(source_field))
    if unknown := [field for field, given in fields.items() if not any(given)]:
        raise ConfigError(
            f"audit: no record has the field {', '.join(unknown)}", "Nested fields are written meta.lang."
        )
    notes: list[str] = []
    overall = _looked_up(sample, truth, found)
    said = _looked_up(sample, humans, found) if humans else None
    fair = dict(values)
    if QUALITY in values and truth:
        fair[QUALITY] = _fair(inputs, sample, found)
        if not np.isfinite(fair[QUALITY]).any():
            notes.append("quality is not compared with the teacher: its student has no cross-fitted predictions")
    judge = (TEACHER, overall) if truth else ("", None)
    if reference:
        judge = (reference, values[reference])
    audited: dict[str, ScorerAudit] = {}
    with connect(run, alone=True) as con:
        con.execute("SET threads = 1")  # sums of one order, so that the same input gives the same digits
        for scorer in scorers:
            counts = count_values(con, scorer, every)
            audited[scorer.name] = _audited(
                config, scorer, counts, sample, values, fair, judge, said, fields,
                _sources(con, scorer, found, sample, values[scorer.name]),
                _planted(run, scorer, notes), _drift(con, scorer, known.get(against), every, sample, values),
            )  # fmt: skip
    result = AuditResult(
        records=sum(total["valid"] for total in counted.values()),
        rejected=sum(sum(total["rejected"].values()) for total in counted.values()),
        sampled=int(sample.is_drawn.sum()),
        scorers=audited,
        notes=list(dict.fromkeys(notes)),
    )
    write_result(run.audit, result)
    return result


def _audited(
    config: Config,
    scorer: Scorer,
    counts: Counts,
    sample: Sample,
    values: Mapping[str, Floats],
    fair: Mapping[str, Floats],
    judge: tuple[str, Floats | None],
    said: Floats | None,
    fields: Mapping[str, Sequence[str | None]],
    sources: Mapping[str, SourceAudit],
    planted: PlantedFigures | None,
    drift: Drift | None,
) -> ScorerAudit:
    own, confidence, seed = values[scorer.name], config.evaluate.interval, config.seed
    name, truth = judge
    equal_by, equal = _equal(scorer, values, judge)
    usable = sample.is_drawn if equal is not truth or truth is None else np.ones(len(own), np.bool_)
    scores = fair[scorer.name] if equal is truth and truth is not None else own
    found = ScorerAudit(
        better=scorer.better,
        **asdict(counts),
        source_auc=source_auc(sample, own, sample.is_drawn),
        source_share=source_share(sample, own, sample.is_drawn),
        length_rho=length_rho(sample, own, sample.is_drawn)[0],
        sources=sources,
        teacher=None if truth is None else agreed(sample, name, fair[scorer.name], truth, confidence, seed),
        humans=None if said is None else agreed(sample, PEOPLE, own, said, confidence, seed),
        equal_by=equal_by,
        strata={
            field: strata_of(sample, scores, equal, labels, usable, confidence, seed)
            for field, labels in fields.items()
        },
        planted=planted,
        drift=drift,
    )
    return replace(found, verdicts=verdicts(found))


def _equal(scorer: Scorer, values: Mapping[str, Floats], judge: tuple[str, Floats | None]) -> tuple[str, Floats | None]:
    """Return what equal quality is measured by: the reference, the run's quality, or for this the teacher."""
    name, truth = judge
    if truth is not None and name not in (TEACHER, scorer.name):
        return name, truth
    if scorer.name != QUALITY and QUALITY in values:
        return QUALITY, values[QUALITY]
    return (name, truth) if truth is not None and name != scorer.name else ("", None)


def _drawn(
    config: Config,
    run: RunFolder,
    log: Log,
    found: Mapping[str, Sequence[Shard]],
    scorers: Mapping[str, Scorer],
    labelled: Sequence[Labels],
    fields: Sequence[str],
    counted: Mapping[str, Mapping[str, Any]],
) -> tuple[Sample, dict[str, Floats], dict[str, list[str | None]]]:
    """Read the sampled and the labelled records: their values, and the fields."""
    parts: list[tuple[int, list[str], Floats, np.ndarray[Any, np.dtype[np.bool_]], list[Floats]]] = []
    labels: dict[str, list[str | None]] = {field: [] for field in fields}
    with log.task("audit", sum(len(own) for own in found.values())) as task:
        for at, (source, own) in enumerate(found.items()):
            share = min(1.0, _SAMPLE / max(counted[source]["valid"], 1))
            none = pa.array([], pa.string())
            wanted = pa.concat_arrays([none, *(one[source][0] for one in labelled if source in one)])
            for shard in own:
                blocks = list(index_blocks(run, source, shard.name))
                task.advance()
                if not blocks:
                    continue
                ids = pa.concat_arrays([_plain(block.ids) for block in blocks])
                drawn = uniform(hash_ids(ids, config.seed, source, "audit")) < share
                rows = np.flatnonzero(drawn | pc.is_in(ids, value_set=wanted).to_numpy(zero_copy_only=False))
                tokens = np.concatenate([block.n_tokens for block in blocks])[rows].astype(np.float64)
                values = [shard_values(scorer, shard, len(ids))[rows] for scorer in scorers.values()]
                parts.append((at, ids.take(pa.array(rows)).to_pylist(), tokens, drawn[rows], values))
                places = np.concatenate([block.rows for block in blocks])[rows].tolist()
                for field in fields:
                    labels[field] += _field(config.corpus, shard, field, places)
    ids_all = [id for part in parts for id in part[1]]
    columns = [np.concatenate([part[4][k] for part in parts]) if parts else np.zeros(0) for k in range(len(scorers))]
    sample = Sample(
        tuple(found),
        np.concatenate([np.full(len(part[1]), part[0], np.int64) for part in parts])
        if parts
        else np.zeros(0, np.int64),
        folds_of(ids_all),
        np.concatenate([part[2] for part in parts]) if parts else np.zeros(0),
        np.concatenate([part[3] for part in parts]) if parts else np.zeros(0, np.bool_),
        np.array(ids_all, dtype=object),
    )
    return sample, dict(zip(scorers, columns, strict=True)), labels


def _plain(ids: pa.Array) -> pa.Array:
    return ids.combine_chunks() if isinstance(ids, pa.ChunkedArray) else ids


def _field(corpus: CorpusSettings, shard: Shard, field: str, rows: Sequence[int]) -> list[str | None]:
    """Return a field's values of some rows of a shard, as text; None where it is missing."""
    found: list[str | None] = []
    given = Parser(corpus.source(shard.source), corpus.max_record_bytes).values(shard, field)
    row, value = next(given, (-1, None))
    for wanted in rows:
        while 0 <= row < wanted:
            row, value = next(given, (-1, None))
        found.append(str(value) if row == wanted and isinstance(value, str | int | float) else None)
    return found


def _by_field(sample: Sample, labels: Sequence[str | None]) -> Sample:
    names, code = np.unique(np.array([label if label is not None else "" for label in labels]), return_inverse=True)
    return replace(sample, names=tuple(str(name) or "(no source)" for name in names), source=code.astype(np.int64))


def _teacher(run: RunFolder, found: Mapping[str, Sequence[Shard]]) -> Labels:
    """Return source -> ids and overall scores of its labelled records."""
    if not run.groups.is_file():
        return {}
    truth: dict[str, tuple[pa.Array, Floats]] = {}
    for group in load_groups(run):
        if run.labels(group.name).is_file():
            labels = read_labels(run.labels(group.name))
            truth |= {source: overall_of(labels, source) for source in group.sources if source in found}
    return truth


def _looked_up(sample: Sample, truth: Labels, found: Mapping[str, object]) -> Floats:
    values = np.full(len(sample.ids), np.nan)
    for at, source in enumerate(found):
        if source in truth:
            rows = np.flatnonzero(sample.source == at)
            ids, overall = truth[source]
            place = pc.index_in(pa.array(sample.ids[rows].tolist(), pa.string()), value_set=ids)
            known = place.is_valid().to_numpy(zero_copy_only=False)
            values[rows[known]] = overall[place.drop_null().to_numpy()]
    return values


def _fair(inputs: SelectionInputs, sample: Sample, found: Mapping[str, object]) -> Floats:
    """Return the quality of labelled records by models that did not see their labels; NaN of all others."""
    values = np.full(len(sample.ids), np.nan)
    table = labelled_scores(inputs.run, load_groups(inputs.run))
    if table is None:
        return values
    quality = qualities(inputs.select, inputs.run, table, load_yardsticks(inputs.select, inputs.run))
    known = dict(zip(zip(table["source"].to_pylist(), table["id"].to_pylist(), strict=True), quality, strict=True))
    names = list(found)
    for row, (at, id) in enumerate(zip(sample.source.tolist(), sample.ids.tolist(), strict=True)):
        values[row] = known.get((names[at], id), np.nan)
    return values


def _sources(
    con: Any, scorer: Scorer, found: Mapping[str, Sequence[Shard]], sample: Sample, own: Floats
) -> dict[str, SourceAudit]:
    by_length = length_rho(sample, own, sample.is_drawn)[1]
    counted = (
        {name: count_values(con, scorer, parts) for name, parts in found.items()}
        if tuple(found) == sample.names
        else {}
    )
    audited = {}
    for name, rows in sample.rows(sample.is_drawn):
        scores = own[rows][np.isfinite(own[rows])] * scorer.sign
        counts = counted.get(name, Counts(records=len(rows), scored=len(scores)))
        audited[name] = SourceAudit(
            records=counts.records,
            scored=counts.scored,
            mean=float(scores.mean()) if len(scores) else None,
            spread=float(scores.std(ddof=1)) if len(scores) > 1 else None,
            length_rho=by_length.get(name),
        )
    return audited


def _planted(run: RunFolder, scorer: Scorer, notes: list[str]) -> PlantedFigures | None:
    """Return what `mira evaluate` found of the student on planted faults; other scorers cannot be asked again."""
    if scorer.name != QUALITY:
        notes.append(f"{scorer.name}: planted faults need a scorer that can be run on the spoiled copies")
        return None
    if not run.evaluation.is_file():
        notes.append(f"{scorer.name}: for planted faults, run `mira evaluate` first")
        return None
    figures = read_result(EvaluationResult, run.evaluation).planted.methods.get("mira") or []
    return figures[-1] if figures else None


def _drift(
    con: Any, scorer: Scorer, other: Scorer | None, every: Sequence[Shard], sample: Sample, values: Mapping[str, Floats]
) -> Drift | None:
    if other is None or other.name == scorer.name:
        return None
    both = only_this = only_other = 0
    for shard in every:
        a, b = (_valid(one, shard) for one in (scorer, other))
        n = max(len(a), len(b))
        a, b = (part if len(part) else np.zeros(n, np.bool_) for part in (a, b))
        both, only_this, only_other = (
            both + int((a & b).sum()),
            only_this + int((a & ~b).sum()),
            only_other + int((b & ~a).sum()),
        )
    own, theirs = values[scorer.name], values[other.name]
    usable = sample.is_drawn & np.isfinite(own) & np.isfinite(theirs)
    found = Drift(other=other.name, both=both, only_this=only_this, only_other=only_other)
    if usable.sum() < 2:
        return found
    x, y = own[usable], theirs[usable]
    rho, spread, of_other = spearman(x, y), float(x.std(ddof=1)), float(y.std(ddof=1))
    one = replace(sample, names=("all",), source=np.zeros(len(own), np.int64))
    moved = percentiles(one, own, usable) - percentiles(one, theirs, usable)
    return replace(
        found,
        rho=rho if np.isfinite(rho) else None,
        same_half=float((upper_half(x) == upper_half(y)).mean()),
        shift=float((x.mean() - y.mean()) / of_other) if of_other > 0 else None,
        spread=spread / of_other if of_other > 0 else None,
        moved={name: float(moved[rows].mean()) for name, rows in sample.rows(usable) if len(rows)},
    )


def _valid(scorer: Scorer, shard: Shard) -> Any:
    return np.isfinite(shard_values(scorer, shard, 0))
