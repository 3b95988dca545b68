"""`mira evaluate --pairs`: every scorer orders pairs of a better and a worse record -> pairs.json."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

from mira.config.settings import Config, EndpointSettings
from mira.distillation.student import open_student, runs_here
from mira.errors import ConfigError, ConservationError, RunError
from mira.evaluation.agreement_figures import GateCatch
from mira.evaluation.gates import gate_catches
from mira.evaluation.pairs.judged import Valued, by_judge, by_methods, planned, records_of
from mira.evaluation.pairs.pairs_file import PairsRead, RecordPair, read_pairs
from mira.evaluation.pairs.results import PairsPlan, PairsResult
from mira.evaluation.pairs.tallies import findings, tallies
from mira.grouping.groups import Group, load_groups
from mira.judging.judge import Judge
from mira.judging.teacher import Teacher
from mira.llm.journal.reader import JournalReader
from mira.progress import Log
from mira.rubric.rubric import Rubric
from mira.run_folder.paths import RunFolder
from mira.run_folder.results import write_result
from mira.run_folder.scratch import scratch_folder
from mira.selection.methods.method import load_method
from mira.selection.planning import make_plan
from mira.selection.stage import selection_inputs
from mira.selection.values import SelectionInputs
from mira.selection.yardstick.yardsticks import load_yardsticks

__all__ = ["evaluate_pairs", "plan_pairs"]


def evaluate_pairs(
    config: Config, run: RunFolder, path: Path, log: Log, *, source: str = "", judge: bool = False
) -> PairsResult:
    """Have every scorer order the pairs of a file, and write pairs.json.

    Args:
        config: The settings.
        run: A run folder.
        path: JSONL of better, worse and, optionally, source, kind and id.
        log: Where progress and what is wrong with lines go.
        source: Source of pairs that name none.
        judge: Have the teacher judge the records, too, within its limits. Replies go to the journal.

    Raises:
        InputError: The file cannot be read, or holds no pair.
        ConfigError: The teacher is to judge, and there is no live one.
        JudgeError: A judge cannot be asked, or leaves too many records unanswered.
    """
    if judge:
        _check_live(config)
    read = read_pairs(config.corpus, path, source)
    _tell_lines(read, log)
    pairs, groups = read.pairs, _groups(run)
    values: dict[str, Valued] = {}
    budget = config.teacher.failure_budget
    if groups:
        yardsticks = load_yardsticks(config.select, run)
        with log.task("pairs: students") as _:
            values["mira"] = by_judge(
                pairs, groups, lambda g: open_student(config.students, run, g.name, log), yardsticks, config.select,
                budget, log,
            )[0]  # fmt: skip
    else:
        log.note("pairs: there are no students in this run; only methods that need none order the pairs")
    values |= by_methods(selection_inputs(config, run, log), config.evaluate, pairs)
    if judge:
        with Teacher(config.teacher, config.discover, run, log) as teacher:

            @contextmanager
            def opened(group: Group) -> Iterator[Judge]:
                yield teacher.judge(Rubric.load(run.rubric(group.name), group.name))

            values["teacher"], values["teacher_overall"] = by_judge(
                pairs, groups, opened, yardsticks, config.select, budget, log
            )
    scorers = {
        name: tallies(pairs, *found.of(pairs), config.evaluate.interval, config.seed) for name, found in values.items()
    }
    result = PairsResult(
        file=path.name,
        lines=read.lines,
        pairs=len(pairs),
        rejected=dict(sorted(read.rejected.items())),
        problems=read.problems,
        assumed=dict(sorted(read.assumed.items())),
        scorers=scorers,
        findings=findings(scorers),
        gates=_gates(selection_inputs(config, run, log), pairs),
    )
    _check_counts(result)
    write_result(run.pairs, result)
    return result


def plan_pairs(
    config: Config, run: RunFolder, path: Path, log: Log, *, source: str = "", judge: bool = False
) -> PairsPlan:
    """Count what judging the pairs would ask of served students and, with `judge`, of the teacher. Nothing is sent.

    Raises:
        InputError: The file cannot be read, or holds no pair.
        ConfigError: The teacher is to judge, and there is no live one.
    """
    if judge:
        _check_live(config)
    read = read_pairs(config.corpus, path, source)
    _tell_lines(read, log)
    groups = _groups(run)
    with ExitStack() as stack:
        # Nothing is looked up in these journals; opening the run's would keep another process out of it.
        scratch = RunFolder(stack.enter_context(scratch_folder()))
        judges: list[tuple[Judge, EndpointSettings, Sequence[str]]] = []
        for group in (g for g in groups if records_of(read.pairs, g.sources)):
            endpoint = config.distill.endpoint_of(group.name)
            if endpoint and not runs_here(config.distill, run, group.name):
                judges.append(
                    (stack.enter_context(open_student(config.students, run, group.name, log)), endpoint, group.sources)
                )
        if judge and config.teacher.endpoint:
            teacher = stack.enter_context(Teacher(config.teacher, config.discover, scratch, log))
            judges += [
                (teacher.judge(Rubric.load(run.rubric(g.name), g.name)), config.teacher.endpoint, g.sources)
                for g in groups
            ]
        records = [record for pair in read.pairs for record in (pair.better, pair.worse)]
        found = planned(records, judges, JournalReader(run.journal))
    return replace(found, pairs=len(read.pairs), rejected=dict(sorted(read.rejected.items())))


def _gates(inputs: SelectionInputs, pairs: Sequence[RecordPair]) -> dict[str, dict[str, GateCatch]]:
    if not inputs.select.gates:
        return {}
    plan = make_plan(inputs, load_method(inputs.select.method, inputs))
    better, worse = [p.better for p in pairs], [p.worse for p in pairs]
    return gate_catches(inputs, plan.gates, better, worse, [p.kind for p in pairs], [p.id for p in pairs])


def _check_live(config: Config) -> None:
    if config.teacher.endpoint is None or config.teacher.replies:
        raise ConfigError(
            "--judge: there is no live teacher"
            + ("; recorded replies know only the records that were judged" if config.teacher.replies else ""),
            "Set teacher.endpoint, and take out teacher.replies; or leave out --judge.",
        )


def _groups(run: RunFolder) -> list[Group]:
    """Return the groups that have a student and a mask."""
    if not run.groups.is_file() or not run.reliability.is_file():
        return []
    groups = load_groups(run)
    lacking = [g.name for g in groups if not (run.student(g.name) / "bundle.json").is_file()]
    if lacking:
        raise RunError(f"{run.student(lacking[0])}: there is no student yet", "Run: mira distill CONFIG")
    return groups


def _tell_lines(read: PairsRead, log: Log) -> None:
    for problem in read.problems:
        log.note(problem)
    if rejected := read.rejected.total():
        counts = ", ".join(f"{n:,} {why}" for why, n in sorted(read.rejected.items()))
        log.note(f"{rejected:,} of {read.lines:,} lines are not pairs: {counts}")
    for source, n in read.assumed.items():
        log.note(f"pairs that name no source: {n:,}, taken as records of {source}; --source names another")


def _check_counts(result: PairsResult) -> None:
    """Check that every line is a pair or rejected, and every pair compared or left out with a reason."""
    if result.pairs + sum(result.rejected.values()) != result.lines:
        raise ConservationError(f"{result.file}: {result.lines:,} lines in, but other numbers of pairs and rejections")
    for name, found in result.scorers.items():
        parts = (found.all, *found.kinds.values(), *found.sources.values())
        if any(t.compared + sum(t.unscored.values()) != t.pairs for t in parts):
            raise ConservationError(f"{name}: compared pairs and those without values do not add up to all pairs")
        if sum(t.pairs for t in found.sources.values()) != result.pairs:
            raise ConservationError(f"{name}: the pairs of all sources do not add up to {result.pairs:,}")
