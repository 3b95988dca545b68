"""The stage: values, cutoffs, sidecars, kept records, thresholds.json."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow.parquet as pq

from mira.config.settings import Config, SelectSettings
from mira.config.tokens import Tokens
from mira.corpus import Shard, shards
from mira.errors import ConservationError, RunError
from mira.progress import Log
from mira.rubric.rubric import Rubric
from mira.run_folder.files import hash_json, read_json, remove_folder, write_json
from mira.run_folder.paths import RunFolder
from mira.selection.cuts import ALL, Cutoff
from mira.selection.map_shards import each
from mira.selection.methods.method import find_method, load_method, method_names
from mira.selection.ordering import value_of_key
from mira.selection.retention import Retention, SourceRule, retain
from mira.selection.standing import find_standing
from mira.selection.values import (
    CopyTask,
    SelectionMethod,
    Summary,
    ValueTask,
    make_values,
    of_all,
    values_path,
    without_copies,
)
from mira.selection.write import Counts, Rule, WriteTask, write_shard
from mira.stage import TEMPLATE_TOKENS, Stage, Work, reads

__all__ = ["STAGE", "Plan", "make_plan", "read_groups", "select", "threshold_of"]

_USED = 0.9  # a budget of which less is used is told


@dataclass(frozen=True)
class Plan:
    """A selection that is decided but not written.

    Attributes:
        settings: As in effect (`raw` keeps all, so its budget is 100%).
        method: The method.
        shards: Source -> its shards.
        summaries: One a shard.
        retention: Pools, cutoffs, rules.
        group_of: Source -> group; empty where there is no groups.json.
    """

    settings: SelectSettings
    method: SelectionMethod
    shards: Mapping[str, Sequence[Shard]]
    summaries: Sequence[Summary]
    retention: Retention
    group_of: Mapping[str, str]

    def rule(self, source: str) -> Rule:
        """Return what is kept of a source."""
        return Rule(tuple(self.retention.of_source(source)), self.method.has_quality)


def select(config: Config, run: RunFolder, log: Log) -> dict[str, Any]:
    """Choose records under the token budget.

    Writes `values/`, `selection/`, `selected/` and `thresholds.json`. Shards that an interrupted run of the same
    selection has finished are kept; what another selection left behind is removed.

    Args:
        config: The settings; `select` is the stage's section.
        run: The run folder.
        log: Where progress goes.

    Returns:
        What `thresholds.json` holds.

    Raises:
        RunError: An earlier stage's output is missing or does not match the corpus.
        ConfigError: A floor or cap is no number of tokens, or names an unknown source.
        BudgetError: Budget, floors and caps contradict each other.
        ConservationError: A source's records are not all accounted for.
    """
    plan = make_plan(config, run, load_method(config.select.method, config, run, log), log)
    for note in plan.retention.notes:
        log.note(note)
    _clear(run, plan, config)
    tasks = _write_tasks(config, run, plan)
    counts = []
    with log.task("select: write", len(tasks)) as task:
        copied = _rows(run, plan.shards) if config.select.write_selected else 0
        for part in each(config, write_shard, tasks, rows=copied):
            counts.append(part)
            task.advance()
    result = _thresholds(config, plan, counts)
    for note in result["notes"][len(plan.retention.notes) :]:
        log.note(note)
    write_json(run.thresholds, result)
    return result


def make_plan(config: Config, run: RunFolder, method: SelectionMethod, log: Log) -> Plan:
    """Rank every record by `method` and find the cutoffs.

    Raises:
        RunError: An earlier stage's output is missing or does not match the corpus.
        ConfigError: A floor or cap is no number of tokens, or names an unknown source.
        BudgetError: Budget, floors and caps contradict each other.
    """
    of_source = shards(config)
    settings = _in_effect(config.select, method.name)
    group_of = read_groups(run, list(of_source), needed=settings.scope == "group")
    every = [shard for parts in of_source.values() for shard in parts]
    drops = config.flags.duplicates == "drop"
    folder = of_all(method.name) if drops else method.name
    tasks = [ValueTask(config, run, method, shard, folder) for shard in every]
    summaries: list[Summary] = []
    with log.task(f"select: {method.name} values", len(tasks)) as task:
        texts = _rows(run, of_source) if method.reads_text else 0
        for summary in each(config, make_values, tasks, rows=texts):
            summaries.append(summary)
            task.advance()
    if drops:
        summaries = _without_copies(config, run, method, settings, every, summaries)
    summaries.sort(key=lambda s: (s.source, s.shard))
    paths = {s: [values_path(run, method.name, s, shard.name) for shard in parts] for s, parts in of_source.items()}
    retention = retain(
        settings, summaries, group_of, paths, lambda f, items: each(config, f, items), to_median=method.to_median
    )
    return Plan(settings, method, of_source, summaries, retention, group_of)


def _without_copies(
    config: Config,
    run: RunFolder,
    method: SelectionMethod,
    settings: SelectSettings,
    every: Sequence[Shard],
    summaries: Sequence[Summary],
) -> list[Summary]:
    """Take the copies that do not stand out of the competition."""
    valid: dict[str, int] = {}
    for summary in summaries:
        valid[summary.source] = valid.get(summary.source, 0) + summary.tokens
    caps = {
        source: most.of(valid[source])
        for source, most in settings.source_max.items()
        if source in valid  # an unknown one is refused where budgets are split
    }
    of_shard = {(s.source, s.shard): s for s in summaries}
    values = [(s, values_path(run, of_all(method.name), s.source, s.name)) for s in every]
    judges = method.has_quality and not method.to_median
    with find_standing(run, values, caps, judges=judges) as standing:
        tasks = [CopyTask(run, method.name, s, of_shard[s.source, s.name], standing.dropped(s)) for s in every]
    return list(each(config, without_copies, tasks))


def read_groups(run: RunFolder, sources: Sequence[str], *, needed: bool = True) -> dict[str, str]:
    """Return source -> group.

    Args:
        run: The run folder.
        sources: Sources that must have a group.
        needed: Raise where groups are missing; else return what there is.

    Raises:
        RunError: There is no groups.json, or it lacks a source.
    """
    groups = read_json(run.groups)["groups"] if run.groups.is_file() else []
    found = {source: group["name"] for group in groups for source in group["sources"]}
    lacking = [source for source in sources if source not in found]
    if needed and lacking:
        raise RunError(
            f"{run.groups} does not have the sources {', '.join(lacking)}",
            "Run `mira group` first, or select with scope global or source.",
        )
    return found


def _in_effect(settings: SelectSettings, method: str) -> SelectSettings:
    if method != "raw":
        return settings
    everything = {
        "budget": Tokens.parse("100%"),
        "scope": "global",
        "source_min": {},
        "source_max": {},
        "temperature": 0.0,
    }
    return settings.model_copy(update=everything)


def _rows(run: RunFolder, of_source: Mapping[str, Sequence[Shard]]) -> int:
    files = (run.index(source) / f"{shard.name}.parquet" for source, parts in of_source.items() for shard in parts)
    return sum(pq.read_metadata(path).num_rows for path in files if path.is_file())


def _clear(run: RunFolder, plan: Plan, config: Config) -> None:
    """Remove what another selection left, and say which one is being written."""
    identity = hash_json(
        [
            config.select.model_dump(mode="json"), [asdict(s) for s in plan.summaries],
            {unit: list(rule.cutoff) for unit, rule in plan.retention.rules.items()}, _rubrics(run, plan),
        ]
    )  # fmt: skip
    state = run.path / "values" / "selection.json"
    run.thresholds.unlink(missing_ok=True)
    if state.is_file() and read_json(state) == {"identity": identity}:
        return
    state.unlink(missing_ok=True)
    for folder in (run.path / "selection", run.path / "selected"):
        if folder.is_dir():
            remove_folder(folder)
    write_json(state, {"identity": identity})


def _write_tasks(config: Config, run: RunFolder, plan: Plan) -> list[WriteTask]:
    rubrics = _rubrics(run, plan)
    settings = hash_json([plan.settings.model_dump(mode="json"), config.seed])
    tasks = []
    for source, parts in plan.shards.items():
        rules = plan.retention.of_source(source)
        provenance = {
            "method": plan.method.name,
            **_place(rules),
            "settings": settings,
            **({"rubric": rubrics[source]} if source in rubrics else {}),
        }
        rule = Rule(tuple(rules), plan.method.has_quality, provenance)
        tasks += [WriteTask(config, run, plan.method.name, shard, rule) for shard in parts]
    return tasks


def _rubrics(run: RunFolder, plan: Plan) -> dict[str, str]:
    if plan.method.name != "mira":
        return {}
    groups = sorted({g for s, g in plan.group_of.items() if s in plan.shards and run.rubric(g).is_file()})
    if not groups:
        return {}
    hashes = {group: Rubric.load(run.rubric(group)).hash for group in groups}
    return {source: hashes[g] for source, g in plan.group_of.items() if g in hashes}


def _place(rules: Sequence[SourceRule]) -> dict[str, Any]:
    """Return scope and threshold of a source; null where its domains have one each."""
    if len(rules) != 1:
        return {"scope": None, "threshold": None}
    return {"scope": rules[0].pool.key, "threshold": threshold_of(rules[0].cutoff)}


def threshold_of(cutoff: Cutoff) -> float | None:
    """Return the value at a cutoff; None where it keeps everything or nothing."""
    return None if cutoff == ALL or cutoff.value < 0 else value_of_key(cutoff.value)


def _tie_hash(cutoff: Cutoff) -> str | None:
    return None if cutoff == ALL or cutoff.value < 0 else f"{max(cutoff.tie, 0):016x}"


def _thresholds(config: Config, plan: Plan, counts: Sequence[Counts]) -> dict[str, Any]:
    sources = {source: _source_entry(plan, source, counts) for source in sorted(plan.shards)}
    scopes = {key: _scope_entry(plan, key, counts) for key in sorted(plan.retention.pools)}
    return {
        "method": plan.method.name,
        **({"scores": plan.settings.scores} if plan.method.name == "mira" else {}),
        "scope": plan.settings.scope,
        "budget_tokens": plan.retention.budget,
        "tokens_in": sum(s["tokens_in"] for s in sources.values()),
        "tokens_kept": sum(s["tokens_kept"] for s in sources.values()),
        "seed": config.seed,
        "temperature": plan.settings.temperature,
        "scopes": scopes,
        "sources": sources,
        "notes": [*plan.retention.notes, *_unused(plan, scopes), *_unfilled(plan, sources)],
    }


def _unused(plan: Plan, scopes: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """Say where much of a budget is not used: a long record ends the ranking's prefix."""
    for key, entry in scopes.items():
        kept, budget = entry["tokens_kept"], entry["budget_tokens"]
        if kept < _USED * budget:
            yield (
                f"WARNING: {key}: {kept:,} of the budget's {budget:,} tokens are used ({kept / budget:.0%}): the next "
                "record of the ranking does not fit into the rest; leave such records out (max_record_bytes), or raise "
                "the budget"
            )


def _unfilled(plan: Plan, sources: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """Say where a source keeps much less than its floor, though it has the tokens."""
    for source, least in plan.settings.source_min.items():
        entry = sources[source]
        ranked = sum(s.ranked_tokens for s in plan.summaries if s.source == source)
        floor = min(least.of(entry["tokens_in"]), ranked)
        if entry["tokens_kept"] < _USED * floor:
            yield (
                f"WARNING: source '{source}' keeps {entry['tokens_kept']:,} of the {floor:,} tokens of its source_min: "
                "the next record of its ranking does not fit into the rest"
            )


def _scope_entry(plan: Plan, key: str, counts: Sequence[Counts]) -> dict[str, Any]:
    pool = plan.retention.pools[key]
    units = [c.units[unit] for c in counts for unit in pool.units if unit in c.units]
    entry: dict[str, Any] = {
        "threshold": threshold_of(pool.cutoff),
        "tie_hash": _tie_hash(pool.cutoff),
        "budget_tokens": pool.budget,
        **{name: sum(u[name] for u in units) for name in ("tokens_in", "tokens_kept", "records_in", "records_kept")},
        "sources": sorted({unit.partition("\t")[0] for unit in pool.units}),
    }
    if pool.ranking.median is not None:
        entry["median"] = pool.ranking.median
    if pool.ranking.temperature:
        entry["mean"], entry["deviation"] = pool.ranking.mean, pool.ranking.deviation
    return entry


def _source_entry(plan: Plan, source: str, counts: Sequence[Counts]) -> dict[str, Any]:
    parts = [c for c in counts if c.source == source]
    rules = plan.retention.of_source(source)
    rows = sum(s.rows for s in plan.summaries if s.source == source)
    rejected = sum(s.rejected for s in plan.summaries if s.source == source)
    reasons: dict[str, int] = {}
    for part in parts:
        for why, n in part.reasons.items():
            reasons[why] = reasons.get(why, 0) + n
    entry: dict[str, Any] = {
        **_place(rules),
        "tie_hash": _tie_hash(rules[0].cutoff) if len(rules) == 1 else None,
        "rows": rows,
        "records_in": sum(p.records_in for p in parts),
        "kept": sum(p.kept for p in parts),
        "dropped": sum(p.dropped for p in parts),
        "unscored": sum(p.unscored for p in parts),
        "rejected": rejected,
        "tokens_in": sum(p.tokens_in for p in parts),
        "tokens_kept": sum(p.tokens_kept for p in parts),
        "reasons": dict(sorted(reasons.items())),
    }
    told = entry["kept"] + entry["dropped"] + entry["unscored"] + rejected
    if told != rows:
        raise ConservationError(
            f"source '{source}': {rows:,} rows in, but {entry['kept']:,} kept + {entry['dropped']:,} dropped "
            f"+ {entry['unscored']:,} unscored + {rejected:,} rejected = {told:,}",
            "The run folder is inconsistent: remove its `index` folder and run again.",
        )
    return entry


def _needs(config: Config) -> tuple[str, ...]:
    settings = config.select
    wanted = ["index", *find_method(settings.method).needs(config)]
    if settings.scope == "group":
        wanted.append("group")
    if "drop" in (config.flags.duplicates, config.flags.contaminated):
        wanted.append("flag")
    return tuple(dict.fromkeys(wanted))


def _unread(config: Config) -> list[str]:
    """Return the sections of other methods."""
    sections = {name: find_method(name).section for name in method_names()}
    return [section for name, section in sections.items() if section and name != config.select.method]


def _files(config: Config, run: RunFolder) -> Mapping[str, str]:
    return find_method(config.select.method).files(config, run)


def _work(config: Config, _run: RunFolder, valid: Mapping[str, int]) -> Work:
    endpoint = find_method(config.select.method).endpoint(config)
    reply = endpoint.max_tokens if endpoint else 0
    return Work(valid, valid, dict.fromkeys(valid, endpoint), TEMPLATE_TOKENS, reply)


STAGE = Stage(
    name="select",
    help="Keep the best records under the token budget.",
    version=2,
    run=select,
    needs=_needs,
    reads=reads("select", "flags.duplicates", "flags.contaminated"),
    unread=_unread,
    outputs=lambda run: [run.path / "selection", run.path / "selected", run.thresholds],
    files=_files,
    work=_work,
)
