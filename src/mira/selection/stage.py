"""The stage: values, cutoffs, sidecars, kept records, thresholds.json, kept.json."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from mira.config.base import Settings
from mira.config.settings import Config, SelectSettings
from mira.corpus import describe_kept
from mira.progress import Log
from mira.run_folder.files import hash_json, read_json, remove_folder, write_json
from mira.run_folder.paths import RunFolder
from mira.run_folder.results import write_result
from mira.selection.map_shards import map_shards
from mira.selection.methods.column import column_name
from mira.selection.methods.method import Method, find_method, load_method
from mira.selection.planning import Plan, make_plan, rows_of
from mira.selection.ranks.plan_file import plan_content, plan_identity
from mira.selection.ranks.rules import recorded, rubrics_of, rules_of
from mira.selection.ranks.shared import shared_plan
from mira.selection.ranks.steps import value_parts, write_parts, write_shared
from mira.selection.thresholds import thresholds
from mira.selection.values import SelectionInputs, Summary, gated, of_all
from mira.selection.write import Counts, WriteTask, write_shard
from mira.selection.yardstick.figures import kept_figures
from mira.stage import TEMPLATE_TOKENS, ShardStep, Stage, Work, reads

__all__ = ["STAGE", "is_selected", "select", "select_from", "selection_inputs"]


def selection_inputs(config: Config, run: RunFolder, log: Log) -> SelectionInputs:
    """Return what a selection under these settings is made from."""
    return SelectionInputs(
        run,
        config.corpus,
        config.select,
        config.flags,
        config.score,
        config.teacher,
        config.seed,
        log,
        config.scores,
    )


def select(config: Config, run: RunFolder, log: Log) -> dict[str, Any]:
    """Choose records under the token budget; see `select_from`."""
    return select_from(selection_inputs(config, run, log))


def select_from(inputs: SelectionInputs, *, figures: bool = True) -> dict[str, Any]:
    """Choose records under the token budget.

    Writes `values/`, `selection/`, `selected/`, `thresholds.json` and `kept.json`. Shards that an interrupted run of
    the same selection has finished are kept; files of another selection are removed.

    Args:
        inputs: What the selection is made from; `select` is the stage's section.
        figures: Write `kept.json`, too.

    Returns:
        The content of `thresholds.json`.

    Raises:
        RunError: An earlier stage's output is missing or does not match the corpus.
        ConfigError: A floor or cap names an unknown source.
        BudgetError: Budget, floors and caps contradict each other.
        ConservationError: A source's records are not all accounted for.
    """
    run, settings, log = inputs.run, inputs.select, inputs.log
    method = load_method(settings.method, inputs)
    plan = shared_plan(inputs, method) or make_plan(inputs, method)
    for note in plan.retention.notes:
        log.note(note)
    for path in (run.thresholds, run.kept):
        path.unlink(missing_ok=True)
    counts = _write_shared(inputs, plan) if plan.heads else _write(inputs, plan)
    if settings.write_selected:
        for source, found in plan.shards.items():
            describe_kept(found, run.selected(source), settings.provenance_field)
    result = thresholds(plan, counts, inputs.seed)
    for note in result["notes"][len(plan.retention.notes) :]:
        log.note(note)
    if figures:
        measured = kept_figures(inputs, plan, counts)
        for note in measured.notes:
            log.note(note)
        write_result(run.kept, measured)
    write_json(run.thresholds, result)
    return result


def _write(inputs: SelectionInputs, plan: Plan) -> list[Counts]:
    """Write every shard that is not done."""
    run, settings = inputs.run, inputs.select
    _clear(run, plan, settings)
    rules, longest = rules_of(inputs, plan), inputs.corpus.max_record_bytes
    tasks = [
        WriteTask(settings, longest, run, plan.folder, shard, rules[source])
        for source, parts in plan.shards.items()
        for shard in parts
    ]
    counts = []
    with inputs.log.task("select: write", len(tasks)) as task:
        copied = rows_of(run, plan.shards) if settings.write_selected else 0
        for part in map_shards(inputs.near, write_shard, tasks, rows=copied):
            counts.append(part)
            task.advance()
    return counts


def _clear(run: RunFolder, plan: Plan, settings: SelectSettings) -> None:
    """Remove the files of another selection, and record which selection is being written."""
    identity, state = _identity(run, plan, settings), _state(run)
    if _read_state(state) == {"identity": identity} and not run.plan.is_file():
        return
    state.unlink(missing_ok=True)
    run.plan.unlink(missing_ok=True)
    for folder in (run.path / "selection", run.path / "selected"):
        if folder.is_dir():
            remove_folder(folder)
    write_json(state, {"identity": identity})


def _write_shared(inputs: SelectionInputs, plan: Plan) -> list[Counts]:
    """Write every shard that workers have not written, and record that this plan is done."""
    _state(inputs.run).unlink(missing_ok=True)
    counts = write_shared(inputs, plan)
    state = {"identity": _identity(inputs.run, plan, inputs.select), "plan": plan_identity(inputs.run)}
    write_json(_state(inputs.run), state)
    return counts


def _identity(run: RunFolder, plan: Plan, settings: SelectSettings) -> str:
    return hash_json(
        [
            recorded(settings), [_summary(s) for s in plan.summaries],
            {str(unit): list(rule.cutoff) for unit, rule in plan.retention.rules.items()},
            rubrics_of(run, plan.method.name, plan.group_of, plan.shards),
        ]
    )  # fmt: skip


def _summary(summary: Summary) -> dict[str, Any]:
    """Return a summary for hashes; without gates, as it was before there were any."""
    return {name: value for name, value in asdict(summary).items() if name != "gated" or value}


def _state(run: RunFolder) -> Path:
    return run.path / "values" / "selection.json"


def is_selected(inputs: SelectionInputs) -> bool:
    """Tell whether the selection in the run folder is the one that would be made now.

    Raises:
        MiraError: None can be made; see `select_from`.
    """
    run = inputs.run
    if not run.thresholds.is_file():
        return False
    method = load_method(inputs.select.method, inputs)
    plan = shared_plan(inputs, method) or make_plan(inputs, method)
    state = {"identity": _identity(run, plan, inputs.select)}
    if plan.heads:
        state["plan"] = plan_content(inputs, plan)["identity"]
    return bool(_read_state(_state(run)) == state and plan_identity(run) == state.get("plan"))


def _read_state(path: Path) -> Any:
    try:
        return read_json(path)
    except (OSError, ValueError):  # missing or damaged
        return None


def _methods(settings: SelectSettings) -> list[Method]:
    """Return the method that ranks, and those whose values gates measure."""
    names = [settings.method, *(gate.value for gate in settings.gates)]
    named = [column_name(settings.column.score) if name == "column" else name for name in names]
    return [find_method(name) for name in dict.fromkeys(named)]


def _needs(config: Config) -> tuple[str, ...]:
    settings = config.select
    wanted = ["index", *(stage for method in _methods(settings) for stage in method.needs(settings))]
    if settings.scope == "group":
        wanted.append("group")
    if _scores_read(config):
        wanted.append("join")
    if "drop" in (config.flags.duplicates, config.flags.contaminated):
        wanted.append("flag")
    return tuple(dict.fromkeys(wanted))


def _scores_read(config: Config) -> list[str]:
    """Return the foreign scores that decide: those that rank or are gates, and those that are slots of quality."""
    names = [method.name for method in _methods(config.select)]
    columns = [name.partition(".")[2] for name in names if name.startswith("column.")]
    slots = [name for name, score in config.scores.items() if score.slot != "none"] if "mira" in names else []
    return [*columns, *slots]


def _unread(config: Config) -> list[str]:
    """Return the sections of other methods, where a method's section has its name, and scores that decide nothing."""
    sections = [name for name, value in config.select if isinstance(value, Settings)]
    read = {"length", *(method.name.partition(".")[0] for method in _methods(config.select))}
    decide = _scores_read(config)
    others = [f"scores.{name}" for name in config.scores if name not in decide]
    return [*(f"select.{name}" for name in sections if name not in read), *others]


def _files(config: Config, run: RunFolder) -> Mapping[str, str]:
    found: dict[str, str] = {}
    for method in _methods(config.select):
        found |= method.files(config.select, config.corpus, run)
    return found


def _resumed(config: Config, run: RunFolder) -> list[Path]:
    methods = _methods(config.select)
    answers = [run.path / method.name for method in methods if method.endpoint(config.select)]
    folders = [name for method in methods for name in (method.name, of_all(method.name))]
    if config.select.gates:
        ranked = gated(methods[0].name)
        folders += [ranked, of_all(ranked)]
    values = [run.path / "values" / name for name in folders]
    workers = plan_identity(run)
    if workers is not None and (_read_state(_state(run)) or {}).get("plan") != workers:
        return [*values, *answers]  # what workers wrote since is theirs: marks tell what is whole
    return [run.path / "selection", run.path / "selected", *values, *answers]


def _work(config: Config, _run: RunFolder, valid: Mapping[str, int]) -> Work:
    """Return the work: the calls of the method that ranks or, if it makes none, of the first gate that makes some."""
    endpoints = [method.endpoint(config.select) for method in _methods(config.select)]
    endpoint = next((one for one in endpoints if one), None)
    reply = endpoint.max_tokens if endpoint else 0
    return Work(valid, valid, dict.fromkeys(valid, endpoint), TEMPLATE_TOKENS, reply)


STAGE = Stage(
    name="select",
    version=3,
    run=select,
    needs=_needs,
    reads=reads("select", "flags.duplicates", "flags.contaminated", "scores"),
    unread=_unread,
    outputs=lambda run: [run.path / "selection", run.path / "selected", run.thresholds, run.kept],
    resumed=_resumed,
    files=_files,
    work=_work,
    steps=(
        ShardStep(
            "values",
            lambda config, run, log, wanted: value_parts(selection_inputs(config, run, log), wanted),
            paid=lambda config, _run: find_method(config.select.method).endpoint(config.select) is not None,
        ),
        ShardStep("write", lambda config, run, log, wanted: write_parts(selection_inputs(config, run, log), wanted)),
    ),
)
