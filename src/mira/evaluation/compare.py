"""Selection side by side: several methods under one budget and scope, over one run folder."""

import hashlib
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mira.arrays import Floats
from mira.config.settings import Config, CorpusSettings, ForeignSettings, SelectSettings
from mira.corpus import Shard, read, records_key
from mira.errors import ConfigError, RunError
from mira.evaluation.agreement import Held, agreement
from mira.evaluation.results import Agreement, ComparisonResult, KeptTokens, MethodResult, SourceTokens
from mira.hashing import uniform
from mira.progress import Log
from mira.run_folder.files import atomic
from mira.run_folder.paths import RunFolder
from mira.run_folder.results import write_result
from mira.selection.map_shards import map_shards
from mira.selection.methods.column import column_name
from mira.selection.methods.method import load_method, method_names
from mira.selection.planning import Plan, make_plan
from mira.selection.stage import selection_inputs
from mira.selection.value_reader import aligned, read_values
from mira.selection.values import GATED, SelectionInputs, values_path
from mira.selection.write import keep_mask
from mira.selection.yardstick.cut import cut_of
from mira.selection.yardstick.held_out import held_out_quality
from mira.stats import spearman

__all__ = ["compare", "plan_agreement", "without_gates"]

Flags = npt.NDArray[np.bool_]

_COLUMN = "column"
_TEACHERLESS = ("random", "ppl")
_SAMPLE = 200_000  # records that rank correlations are taken over, chosen by hash


def compare(config: Config, run: RunFolder, methods: Sequence[str], log: Log) -> ComparisonResult:
    """Select by several methods, without writing any selection, and set the results side by side.

    Writes `compare.json`.

    Args:
        config: The settings: budget, scope, floors, caps and temperature are those of `select`, the same for all.
        run: The run folder.
        methods: Names of methods; one that cannot run here (no labels, no scores) is an error. `column` stands for
            every foreign score, of which there may be none, and "column.NAME" for one.
        log: Where progress goes.

    Raises:
        ConfigError: A method is unknown.
        RunError: What a method needs is not in the run folder yet.
        BudgetError: Budget, floors and caps contradict each other.
    """
    names = _names(methods, config.scores)
    inputs = selection_inputs(config, run, log)
    plans = {name: _plan(name, inputs) for name in names}
    if inputs.select.gates and inputs.select.method in names:
        plans[f"{inputs.select.method}, no gates"] = _plan(inputs.select.method, without_gates(inputs))
    any_plan = plans[names[0]]
    told = _Told({name: _Sums() for name in plans})
    tasks = [_HashTask(inputs.corpus, run, shard) for parts in any_plan.shards.values() for shard in parts]
    with log.task("compare: duplicates", len(tasks)) as task:
        for _ in map_shards(inputs.near, _hash_texts, tasks, rows=sum(s.rows for s in any_plan.summaries)):
            task.advance()
    for shard in (shard for parts in any_plan.shards.values() for shard in parts):
        _add_shard(told, run, plans, shard)
    agreements = {name: plan_agreement(run, plan, config.evaluate.interval) for name, plan in plans.items()}
    result = _result(told, config.select, any_plan, agreements)
    write_result(run.path / "compare.json", result)
    return result


def _names(methods: Sequence[str], scores: Mapping[str, ForeignSettings]) -> list[str]:
    columns = [column_name(score) for score in scores]
    known = [name for name in method_names() if name != _COLUMN]
    unknown = [name for name in methods if name not in (_COLUMN, *known, *columns)]
    every = itertools.chain.from_iterable(columns if name == _COLUMN else [name] for name in methods)
    found = list(dict.fromkeys(every))
    if unknown or not found:
        raise ConfigError(
            f"compare: unknown methods: {', '.join(unknown) or 'none given'}",
            f"Known: {', '.join([*known, *columns])}.",
        )
    return found


def _plan(name: str, inputs: SelectionInputs) -> Plan:
    try:
        return make_plan(inputs, load_method(name, inputs))
    except RunError as error:
        if name in _TEACHERLESS:
            raise
        way_out = f"Without a teacher: mira compare CONFIG --methods {','.join(_TEACHERLESS)}"
        raise RunError(f"compare: {name} cannot run here: {error.message}", f"{error.hint} {way_out}") from None


@dataclass
class _Sums:
    """What is summed up of one method."""

    records: int = 0
    unscored: int = 0
    by_source: dict[str, int] = field(default_factory=dict)
    sample: list[tuple[Floats, Floats]] = field(default_factory=list)
    hashes: list[npt.NDArray[np.uint64]] = field(default_factory=list)
    tokens: list[npt.NDArray[np.int32]] = field(default_factory=list)


@dataclass
class _Told:
    sums: dict[str, _Sums]
    both: dict[tuple[str, str], int] = field(default_factory=dict)
    either: dict[tuple[str, str], int] = field(default_factory=dict)


def _add_shard(told: _Told, run: RunFolder, plans: Mapping[str, Plan], shard: Shard) -> None:
    hashes = pq.read_table(_hash_path(run, shard))["hash"].to_numpy()
    n_tokens = np.zeros(0, np.int32)
    share = min(1.0, _SAMPLE / max(sum(s.records for s in next(iter(plans.values())).summaries), 1))
    kept: dict[str, Flags] = {}
    for name, plan in plans.items():
        rule, sums = plan.rule(shard.source), told.sums[name]
        chunks = list(read_values(values_path(run, plan.folder, shard.source, shard.name)))
        kept[name] = np.concatenate([np.zeros(0, bool), *(keep_mask(rule, chunk) for chunk in chunks)])
        n_tokens = np.concatenate([np.zeros(0, np.int32), *(chunk.n_tokens for chunk in chunks)])
        own = n_tokens[kept[name]]
        sums.records += len(own)
        sums.by_source[shard.source] = sums.by_source.get(shard.source, 0) + int(own.sum(dtype=np.int64))
        sums.hashes.append(hashes[kept[name]])
        sums.tokens.append(own)
        for chunk in chunks:
            has = chunk.ranked()
            sums.unscored += int((~has).sum())
            has &= uniform(chunk.ties) < share
            sums.sample.append((chunk.values[has], chunk.n_tokens[has].astype(np.float64)))
    for a, b in itertools.combinations(plans, 2):
        for flags, counts in ((kept[a] & kept[b], told.both), (kept[a] | kept[b], told.either)):
            counts[a, b] = counts.get((a, b), 0) + int(n_tokens[flags].sum(dtype=np.int64))


def _result(
    told: _Told, settings: SelectSettings, plan: Plan, agreements: Mapping[str, Agreement | None]
) -> ComparisonResult:
    of_source: dict[str, int] = {}
    for summary in plan.summaries:
        of_source[summary.source] = of_source.get(summary.source, 0) + summary.tokens
    return ComparisonResult(
        budget_tokens=settings.budget.of(sum(of_source.values())),
        tokens_in=sum(of_source.values()),
        scope=settings.scope,
        sources={source: SourceTokens(tokens) for source, tokens in sorted(of_source.items())},
        methods={name: _method(sums, agreements[name]) for name, sums in told.sums.items()},
        jaccard={f"{a}|{b}": told.both[a, b] / told.either[a, b] if told.either[a, b] else None for a, b in told.both},
    )


def _method(sums: _Sums, agreed: Agreement | None) -> MethodResult:
    total = sum(sums.by_source.values())
    values, lengths = (np.concatenate(part) for part in zip(*sums.sample, strict=True))
    rho = spearman(values, lengths) if len(values) > 1 else float("nan")
    return MethodResult(
        tokens_kept=total,
        records_kept=sums.records,
        mean_tokens=total / sums.records if sums.records else None,
        sources={
            source: KeptTokens(tokens, tokens / total if total else 0.0)
            for source, tokens in sorted(sums.by_source.items())
        },
        unscored=sums.unscored,
        length_rho=rho if np.isfinite(rho) else None,
        duplicate_tokens=_duplicates(np.concatenate(sums.hashes), np.concatenate(sums.tokens)),
        agreement=agreed,
    )


def _duplicates(hashes: npt.NDArray[np.uint64], tokens: npt.NDArray[np.int32]) -> float:
    total = int(tokens.sum(dtype=np.int64))
    _, first = np.unique(hashes, return_index=True)
    return 1 - int(tokens[first].sum(dtype=np.int64)) / total if total else 0.0


class _HashTask(NamedTuple):
    corpus: CorpusSettings
    run: RunFolder
    shard: Shard


def _hash_path(run: RunFolder, shard: Shard) -> Path:
    return run.path / "values" / "text_hash" / shard.source / f"{shard.name}.parquet"


def _hash_texts(task: _HashTask) -> None:
    """Hash every valid record's text, white space aside, unless that is done already."""
    corpus, run, shard = task
    path = _hash_path(run, shard)
    mark = {b"fingerprint": records_key(run, shard).encode()}
    if path.is_file() and (pq.read_metadata(path).metadata or {}).items() >= mark.items():
        return
    schema = pa.schema([("hash", pa.uint64())], metadata=mark)
    records = read(corpus, run, shard)
    with atomic(path) as temporary, pq.ParquetWriter(temporary, schema, use_dictionary=False) as writer:
        while batch := list(itertools.islice(records, 4096)):
            texts = (" ".join(record.text.split()).encode("utf-8", "surrogatepass") for record in batch)
            digests = b"".join(hashlib.blake2b(text, digest_size=8).digest() for text in texts)
            writer.write_table(pa.Table.from_arrays([pa.array(np.frombuffer(digests, "<u8"))], schema=schema))


def without_gates(inputs: SelectionInputs) -> SelectionInputs:
    """Return the inputs of the same selection without gates."""
    return replace(inputs, select=inputs.select.model_copy(update={"gates": []}))


def plan_agreement(run: RunFolder, plan: Plan, interval: float) -> Agreement | None:
    """Compare a selection with the teacher's held-out labels; None without any.

    Where there are predictions by the model of the training split alone, `mira` is judged by these against its
    thresholds (see `held_out_quality`).
    """
    labels = _labels(run)
    is_mira = plan.method.name == "mira" and not plan.settings.temperature
    fair = held_out_quality(plan.settings, run, plan.group_of) if is_mira else {}
    held = []
    for source, parts in plan.shards.items():
        cut = cut_of(plan.retention.of_source(source))
        for shard in parts:
            for id_, n_tokens, value, kept, gated in _verdicts(run, plan, shard, labels.keys()):
                label = labels[source, id_]
                quality = fair.get((source, id_), value)
                if (source, id_) in fair and cut is not None and not gated:
                    kept = cut.keeps(quality, n_tokens, kept)  # noqa: PLW2901
                held.append(Held(source, kept, quality, label["overall"], label["recommendation"]))
    return agreement(held, interval) if held else None


def _labels(run: RunFolder) -> dict[tuple[str, str], dict[str, Any]]:
    labels: dict[tuple[str, str], dict[str, Any]] = {}
    for path in sorted((run.path / "labels").glob("*.parquet")):
        table = pq.read_table(path, columns=["id", "source", "replicate", "overall", "recommendation", "split"])
        held_out = pc.and_(pc.equal(table["split"], "held_out"), pc.equal(table["replicate"], 0))
        labels |= {(row["source"], row["id"]): row for row in table.filter(held_out).to_pylist()}
    return labels


def _verdicts(
    run: RunFolder, plan: Plan, shard: Shard, labelled: Any
) -> list[tuple[str, int, float | None, bool, bool]]:
    """Return id, tokens, value and kept of a shard's labelled records, and whether a gate drops them."""
    wanted = pa.array(sorted(id_ for source, id_ in labelled if source == shard.source), pa.string())
    rule, found = plan.rule(shard.source), []
    for block, chunk in aligned(run, plan.folder, shard):
        kept = keep_mask(rule, chunk)
        for row in np.flatnonzero(pc.is_in(block.ids, value_set=wanted).to_numpy(zero_copy_only=False)).tolist():
            value = float(chunk.values[row])
            reason = chunk.reasons[row].as_py()
            usable = plan.method.has_quality and np.isfinite(value) and reason is None
            gated = reason is not None and reason.startswith(GATED)
            id_, n_tokens = block.ids[row].as_py(), int(chunk.n_tokens[row])
            found.append((id_, n_tokens, value if usable else None, bool(kept[row]), gated))
    return found
