"""Why one record is kept or not."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from mira.config.settings import Config, SelectSettings
from mira.corpus import Shard
from mira.errors import InputError, RunError
from mira.hashing import hash_ids
from mira.progress import Quiet
from mira.rubric.slots import slot_index
from mira.run_folder.files import read_json
from mira.run_folder.paths import RunFolder
from mira.run_folder.results import read_result
from mira.run_folder.working_copy import fetch
from mira.selection.cuts import Cutoff
from mira.selection.explain.foreign import foreign_scores
from mira.selection.explain.gates import gate_effects, ungated_value
from mira.selection.explain.lines import line_of
from mira.selection.explain.results import Explanation, Flip, LengthEffect, OtherMethod, Rank, RejectedLine, SlotScore
from mira.selection.methods.method import load_method, method_names
from mira.selection.methods.mira import Mira
from mira.selection.ordering import rank_keys
from mira.selection.planning import Plan, make_plan, threshold_of
from mira.selection.quality import trim_count
from mira.selection.retention import SourceRule
from mira.selection.score_sidecars import scores_path
from mira.selection.stage import selection_inputs
from mira.selection.sweeps import AS_IT_IS, Ranking
from mira.selection.units import Unit
from mira.selection.value_reader import ValueChunk, read_values
from mira.selection.values import GATED, SelectionInputs, values_path
from mira.selection.yardstick.figures import Kept
from mira.selection.yardstick.length import NO_FIT
from mira.selection.yardstick.yardsticks import Yardstick

__all__ = ["explain", "explain_line", "explain_row"]


def explain(config: Config, run: RunFolder, id: str, source: str = "") -> Explanation:
    """Explain why a record was kept or dropped.

    Args:
        config: The settings.
        run: A run folder with a finished selection.
        id: The record's id.
        source: Its source; needed only if several sources have the id.

    Raises:
        InputError: The source is unknown, no valid record (of the source) has this id, or several sources have it.
        RunError: Nothing is selected yet.
    """
    inputs = _as_selected(selection_inputs(config, run, Quiet()))
    plan = make_plan(inputs, load_method(inputs.select.method, inputs))
    shard, row = _find(run, plan, id, source)
    return explain_row(inputs, plan, shard, row, id)


def explain_row(inputs: SelectionInputs, plan: Plan, shard: Shard, row: int, id: str) -> Explanation:
    """Explain why the record in a row of a shard was kept or dropped; see `explain`.

    Args:
        inputs: What the selection was made from.
        plan: The selection.
        shard: The record's shard.
        row: Its row.
        id: Its id.

    Raises:
        RunError: Nothing is selected yet.
    """
    run = inputs.run
    path = run.selection(shard.source) / f"{shard.name}.parquet"
    if not path.is_file():
        raise RunError(f"{path} is missing: nothing is selected yet", "Run `mira select` first.")
    rows = pq.read_table(path, filters=[("row", "=", row)]).to_pylist()
    if not rows:
        raise InputError(f"'{id}' is not in {path}", "Run `mira select` again.")
    chosen = rows[0]
    me = _position(run, plan, shard, id, chosen["n_tokens"], inputs.seed)
    rule = _rule(plan, me)
    ranks, flip = _ranks(run, plan, me, rule)
    threshold = threshold_of(rule.cutoff) if rule else None
    return Explanation(
        id=id,
        source=shard.source,
        group=plan.group_of.get(shard.source),
        where=shard.where(row),
        shard=shard.name,
        row=row,
        n_tokens=chosen["n_tokens"],
        method=plan.method.name,
        value=me.value if np.isfinite(me.value) else None,
        kept=chosen["kept"],
        reason=chosen["reason"],
        quality=chosen["quality"],
        slots=_slots(inputs.select, run, plan, shard, row),
        scope=rule.pool.key if rule else None,
        threshold=threshold,
        tie_hash=f"{rule.cutoff.tie:016x}" if rule and threshold is not None else None,
        ranks=ranks,
        flip=flip,
        methods=_others(run, plan, shard, me),
        compare_by=plan.settings.compare_by if isinstance(plan.method, Mira) else "",
        mask_moves=_mask_moves(run, shard.source),
        length=_length(plan, me, rule),
        gates=gate_effects(run, plan, shard, me.tie),
        ungated=ungated_value(run, plan, shard, me.tie) if chosen["reason"].startswith(GATED) else None,
    )


def explain_line(config: Config, run: RunFolder, line: str | int, source: str = "") -> Explanation | RejectedLine:
    """Explain what became of a line of a source: why the record was kept or not, or why it is not a record.

    Args:
        config: The settings.
        run: A run folder with an index; for a line that is a record, with a finished selection.
        line: As in `line_of`.
        source: Its source; needed only if the line could be of several sources.

    Raises:
        InputError: As in `line_of`.
        RunError: The source is not indexed yet; or the line is a record, and nothing is selected yet.
    """
    found = line_of(config.corpus, run, line, source)
    return found if isinstance(found, RejectedLine) else explain(config, run, found[1], found[0])


def _as_selected(inputs: SelectionInputs) -> SelectionInputs:
    """Return the inputs with the method of the present selection; another one may need stages that have not run."""
    thresholds = inputs.run.thresholds
    if not thresholds.is_file():
        raise RunError(f"{thresholds} is missing: nothing is selected yet", "Run `mira select` first.")
    return replace(inputs, select=inputs.select.model_copy(update={"method": read_json(thresholds)["method"]}))


@dataclass(frozen=True)
class _Me:
    """The record's place: its source, stratum, value, tie and tokens."""

    source: str
    stratum: str
    value: float
    tie: int
    n_tokens: int


def _find(run: RunFolder, plan: Plan, id_: str, source: str) -> tuple[Shard, int]:
    if source and source not in plan.shards:
        raise InputError(f"there is no source '{source}'", f"Sources are: {', '.join(plan.shards)}")
    hits = _hits(run, plan, id_, [source] if source else list(plan.shards))
    if len(hits) == 1:
        return hits[0]
    if hits:
        names = ", ".join(shard.source for shard, _ in hits)
        raise InputError(f"several sources have the id '{id_}': {names}", "Name the source with --source.")
    elsewhere = [shard.source for shard, _ in _hits(run, plan, id_, list(plan.shards))] if source else []
    if elsewhere:
        raise InputError(
            f"no valid record of '{source}' has the id '{id_}'", f"It is in {' and in '.join(elsewhere)}: --source."
        )
    raise InputError(
        f"no valid record has the id '{id_}'",
        "Find it by its text: mira explain CONFIG --text TEXT. A rejected line has no id: use --line FILE:LINE.",
    )


def _hits(run: RunFolder, plan: Plan, id_: str, sources: Sequence[str]) -> list[tuple[Shard, int]]:
    hits = []
    for name, parts in plan.shards.items():
        if name in sources:
            paths = {str(run.index(name) / f"{shard.name}.parquet"): shard for shard in parts}
            fetch(paths)
            table = ds.dataset(list(paths)).to_table(
                columns=["row", "__filename"], filter=(ds.field("id") == id_) & ds.field("reason_rejected").is_null()
            )
            rows = sorted(
                ((paths[r["__filename"]], r["row"]) for r in table.to_pylist()), key=lambda hit: _order(parts, hit)
            )
            hits += rows[:1]  # the others are later duplicates
    return hits


def _order(parts: Sequence[Shard], hit: tuple[Shard, int]) -> tuple[int, int]:
    return list(parts).index(hit[0]), hit[1]


def _position(run: RunFolder, plan: Plan, shard: Shard, id_: str, n_tokens: int, seed: int) -> _Me:
    tie = int(hash_ids(pa.array([id_]), seed, shard.source)[0])
    for chunk in read_values(values_path(run, plan.folder, shard.source, shard.name)):
        at = np.flatnonzero(chunk.ties == np.uint64(tie))
        if len(at):
            stratum = chunk.strata[int(at[0])].as_py() or ""
            return _Me(shard.source, stratum, float(chunk.values[at[0]]), tie, n_tokens)
    raise InputError(f"'{id_}' has no value", "Run `mira select` again.")


def _rule(plan: Plan, me: _Me) -> SourceRule | None:
    if not np.isfinite(me.value):
        return None
    mine = (rule for rule in plan.retention.of_source(me.source) if rule.unit.stratum == me.stratum)
    return next((rule for rule in mine if rule.unit.shortest <= me.n_tokens <= rule.unit.longest), None)


def _mask_moves(run: RunFolder, source: str) -> float | None:
    figures = read_result(Kept, run.kept).sources.get(source) if run.kept.is_file() else None
    return figures.mask_moves if figures else None


def _length(plan: Plan, me: _Me, rule: SourceRule | None) -> LengthEffect | None:
    control = plan.settings.length.control
    if rule is None or control == "none":
        return None
    if control == "strata":
        return LengthEffect(control, shortest=rule.unit.shortest, longest=rule.unit.longest)
    rest = float(rule.ranking.fit.rest(np.array([me.value]), np.array([me.n_tokens]))[0])
    return LengthEffect(control, predicted=me.value - rest, rest=rest)


def _slots(select: SelectSettings, run: RunFolder, plan: Plan, shard: Shard, row: int) -> list[SlotScore]:
    path = scores_path(select, run, shard)
    if not path.is_file() or not run.reliability.is_file():
        return []
    scores = pq.read_table(path, filters=[("row", "=", row)]).to_pylist()
    table = pq.read_table(run.reliability)
    cells = table.filter(pc.equal(table["source"], shard.source)).to_pylist()
    slots = [
        SlotScore(
            cell["slot"],
            cell.get("name"),
            scores[0].get(cell["slot"]) if scores else None,
            cell["masked"],
            cell.get("why"),
        )
        for cell in sorted(cells, key=lambda c: slot_index(c["slot"]))
    ]
    slots += foreign_scores(run, shard, row)
    if not isinstance(plan.method, Mira):
        return slots
    yardstick = plan.method.yardsticks[shard.source]
    out = _trimmed(select, yardstick, {slot.slot: slot.score for slot in slots})
    return [replace(slot, trimmed=slot.slot in out, used=slot.slot in yardstick.slots) for slot in slots]


def _trimmed(settings: SelectSettings, yardstick: Yardstick, scores: Mapping[str, float | None]) -> set[str]:
    """Return the slots that the trimmed mean leaves out; of equal scores, the earlier slot counts as the lower."""
    columns = yardstick.scaled([np.array([scores.get(slot)], np.float32) for slot in yardstick.slots])
    values = zip((float(column[0]) for column in columns), yardstick.slots, strict=True)
    ranked = [slot for _, slot in sorted((pair for pair in values if np.isfinite(pair[0])), key=lambda pair: pair[0])]
    cut = trim_count(settings.trim, len(ranked))
    return {*ranked[:cut], *ranked[len(ranked) - cut :]}


def _ranks(run: RunFolder, plan: Plan, me: _Me, rule: SourceRule | None) -> tuple[Mapping[str, Rank], Flip | None]:
    if rule is None:
        return {}, None
    group = plan.group_of.get(me.source)
    members = [s for s in plan.shards if plan.group_of.get(s) == group] if group else []
    units = {
        "source": [Unit(me.source)],
        "group": [Unit(source) for source in members],
        "scope": list(rule.pool.units),
    }
    counted = {name: _before(run, plan, me, rule, of) for name, of in units.items() if of}
    tokens_before, tokens_in = counted["scope"][2:]
    ranks = {name: Rank(before + 1, total) for name, (before, total, _, _) in counted.items()}
    needed = tokens_before + me.n_tokens
    return ranks, Flip(needed, rule.pool.budget, tokens_in, needed / tokens_in)


def _before(run: RunFolder, plan: Plan, me: _Me, rule: SourceRule, units: Sequence[Unit]) -> tuple[int, int, int, int]:
    """Return records before, records, tokens before, tokens of what competes in some units."""
    sums = np.zeros(4, np.int64)
    mine = rule.ranking(np.array([me.value]), np.array([me.tie], np.uint64), np.array([me.n_tokens]))
    for unit in units:
        rules = plan.retention.of_source(unit.source)
        ranking = replace(rule.pool.ranking, fit=rules[0].ranking.fit if rules else NO_FIT)
        for shard in plan.shards[unit.source]:
            chunks = read_values(values_path(run, plan.folder, unit.source, shard.name))
            sums += _counted(chunks, float(mine[0]), me.tie, ranking, unit)
    records, total, tokens_before, tokens_in = sums.tolist()
    return records, total, tokens_before, tokens_in


def _counted(
    chunks: Iterable[ValueChunk], ranked: float, tie: int, ranking: Ranking = AS_IT_IS, unit: Unit | None = None
) -> npt.NDArray[np.int64]:
    """Return records before a place in the ranking, records, tokens before, tokens of what competes in some values."""
    cutoff = Cutoff(int(rank_keys(np.array([ranked]))[0]), tie - 1)
    sums = np.zeros(4, np.int64)
    for chunk in chunks:
        has = chunk.ranked(unit)
        keys = rank_keys(np.where(has, ranking(chunk.values, chunk.ties, chunk.n_tokens), 0.0))
        before = has & cutoff.keeps(keys, chunk.ties)
        tokens = chunk.n_tokens.astype(np.int64)
        sums += [before.sum(), has.sum(), tokens[before].sum(), tokens[has].sum()]
    return sums


def _others(run: RunFolder, plan: Plan, shard: Shard, me: _Me) -> Mapping[str, OtherMethod]:
    by_method = {}
    columns = sorted(path.name for path in (run.path / "values").glob("column.*") if not path.name.endswith(".all"))
    for name in [*method_names(), *columns]:
        path = values_path(run, name, shard.source, shard.name)
        if name in (plan.method.name, "raw") or not path.is_file():
            continue
        paths = [values_path(run, name, shard.source, other.name) for other in plan.shards[shard.source]]
        if all(p.is_file() for p in paths):
            by_method[name] = _other(paths, me)
    return by_method


def _other(paths: Sequence[Path], me: _Me) -> OtherMethod:
    value, reason = float("nan"), None
    chunks = [chunk for path in paths for chunk in read_values(path)]
    for chunk in chunks:
        at = np.flatnonzero(chunk.ties == np.uint64(me.tie))
        if len(at):
            value, reason = float(chunk.values[at[0]]), chunk.reasons[int(at[0])].as_py()
    if not np.isfinite(value):
        return OtherMethod(None, reason, None)
    _, _, before, total = _counted(chunks, value, me.tie).tolist()
    return OtherMethod(value, reason, before / total)
