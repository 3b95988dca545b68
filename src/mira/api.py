"""The Python API: every command under its name, with the same locks, fingerprints, manifest and limits.

Stages have no function of their own: `mira.run(config, "select")` is `mira select`.
"""

from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Literal, overload

from mira.config.loading import load_config
from mira.config.settings import Config
from mira.config.template import write_template
from mira.demo_project.demo import FAMILIES
from mira.demo_project.demo import demo as run_demo
from mira.distillation import adopt as checkpoints
from mira.distillation import bundle as bundles
from mira.evaluation import compare as comparison
from mira.evaluation import stage as evaluation
from mira.evaluation.pairs import stage as paired
from mira.evaluation.pairs.results import PairsPlan, PairsResult
from mira.evaluation.proxy import proxy as small_models
from mira.evaluation.proxy.results import ProxyResult
from mira.evaluation.results import ComparisonResult, EvaluationResult
from mira.evaluation.verdicts import push as pushing
from mira.html import block, paragraph, table
from mira.pipeline import cascade as cascades
from mira.pipeline import freeze as freezing
from mira.pipeline.cascade import CascadedSource
from mira.pipeline.freeze import Frozen
from mira.pipeline.plan import PlannedStage
from mira.pipeline.plan import plan as make_plan
from mira.pipeline.runner import run_extra, run_stages
from mira.pipeline.validate import validate as check
from mira.progress import Log, Quiet
from mira.reliability.students.report import compare_group_students
from mira.reliability.students.results import StudentsResult
from mira.run_folder.paths import RunFolder
from mira.run_folder.stored import place_path
from mira.run_view import Run, open_run
from mira.selection.explain import explain as explaining
from mira.selection.explain.results import Explanation, RejectedLine, TextMatches
from mira.selection.explain.text import find_text

__all__ = [
    "Plan",
    "adopt",
    "cascade",
    "compare",
    "demo",
    "evaluate",
    "explain",
    "freeze",
    "init",
    "plan",
    "proxy",
    "pull",
    "push",
    "run",
    "students",
    "validate",
]

Settings = Config | Path | str


class Plan(tuple[PlannedStage, ...]):
    """What a run would do: one `PlannedStage` per stage, in order."""

    __slots__ = ()

    def _repr_html_(self) -> str:
        """Return the plan as a table, for notebooks."""
        rows = [
            (s.name, s.state, s.records, s.calls, s.tokens_in, s.tokens_out, s.cost if s.calls else None) for s in self
        ]
        columns = ("stage", "state", "records", "LLM calls", "tokens in", "tokens out", "cost")
        return block(paragraph("What a run would do", strong=True), table(columns, rows))


def init(path: Path | str = "mira.yaml") -> Path:
    """Write a commented settings file to start from.

    Raises:
        ConfigError: The file exists already, or the path is a URL.
    """
    write_template(Path(path))
    return Path(path)


def demo(folder: Path | str = "mira-demo", *, families: Collection[str] = FAMILIES, log: Log | None = None) -> Run:
    """Run everything on real data, with recorded judgments.

    Args:
        folder: Where the demo lives.
        families: Take only the sources of these families: text, qa, agent.
        log: Where progress goes; nowhere by default.

    Raises:
        MiraError: A download failed, or the folder is a URL.
    """
    run_demo(Path(folder), log, families)
    return open_run(Path(folder) / "mira.yaml")


def run(config: Settings, *stages: str, force: bool = False, log: Log | None = None) -> Run:
    """Run stages, as `mira run` does; stages that are up to date are skipped.

    Args:
        config: The settings, or the path of their file.
        *stages: Stages to run, e.g. "select". By default, every stage that the configured selection needs.
        force: Run them even if they are up to date.
        log: Where progress goes; nowhere by default. `mira.Terminal()` shows it.

    Returns:
        The run, to look at.

    Raises:
        MiraError: A stage cannot run; what finished before it is kept.
    """
    settings = _settings(config)
    run_stages(settings, stages, log, force=force)
    return Run(RunFolder(settings.run), settings)


def validate(config: Settings, *, deep: bool = False) -> list[str]:
    """Check settings, files, fields, bundles and endpoints; nothing is spent.

    Args:
        config: The settings, or the path of their file.
        deep: Also read sources and run folder again, and compare the hash of every file.

    Returns:
        One line for each thing that is in order, warnings among them.

    Raises:
        MiraError: Something is wrong.
    """
    return list(check(_settings(config), deep=deep))


def plan(config: Settings, log: Log | None = None) -> Plan:
    """Return what a run would do: records, LLM calls, tokens and cost of each stage. The sources are indexed.

    Raises:
        MiraError: A source cannot be read, or a scorer bundle is not in order.
    """
    return Plan(make_plan(_settings(config), log or Quiet()))


def freeze(config: Path | str, *, overrides: Sequence[str] = (), folder: str = "rubrics") -> Frozen:
    """Keep the run's groups and rubrics: write them into the settings file.

    Args:
        config: The settings file.
        overrides: Settings on top of it, as after `--set`.
        folder: Where the rubrics go, relative to the settings.

    Returns:
        What was written.

    Raises:
        MiraError: There are no groups yet, or the file cannot be changed.
    """
    return freezing.freeze(Path(config), overrides, folder)


def compare(
    config: Settings, methods: Iterable[str] = ("mira", "random", "ppl", "dsir", "column"), *, log: Log | None = None
) -> ComparisonResult:
    """Compare selection methods at the same budget. The run's selection stays as it is.

    Args:
        config: The settings, or the path of their file.
        methods: raw, random, ppl, dsir, dataman, mira, or the name of an installed method; `column` for every score
            in `scores`, of which there may be none, and column.NAME for one.
        log: Where progress goes; nowhere by default.

    Raises:
        MiraError: A method is unknown or cannot run here, there is no run yet, or another process works in it.
    """
    names = [methods] if isinstance(methods, str) else list(methods)
    return run_extra(_settings(config), lambda c, r, log: comparison.compare(c, r, names, log), log or Quiet())


@overload
def evaluate(config: Settings, *, log: Log | None = None) -> EvaluationResult: ...
@overload
def evaluate(
    config: Settings, *, pairs: Path | str, source: str = "", judge: bool = False, log: Log | None = None
) -> PairsResult: ...
@overload
def evaluate(
    config: Settings, *, pairs: Path | str, dry_run: bool, source: str = "", judge: bool = False, log: Log | None = None
) -> PairsResult | PairsPlan: ...
def evaluate(
    config: Settings,
    *,
    pairs: Path | str = "",
    source: str = "",
    judge: bool = False,
    dry_run: bool = False,
    log: Log | None = None,
) -> EvaluationResult | PairsResult | PairsPlan:
    """Test the selection against held-out labels and planted faults, or the scorers on pairs of one's own.

    Args:
        config: The settings, or the path of their file.
        pairs: A JSONL file of better, worse and, optionally, source, kind and id: every scorer orders these pairs, and
            the selection is not looked at.
        source: With `pairs`: the source of pairs that name none.
        judge: With `pairs`: have the teacher judge them, too.
        dry_run: With `pairs`: count the requests and their cost, and send nothing.
        log: Where progress goes; nowhere by default.

    Raises:
        InputError: The file of pairs cannot be read, or holds no pair.
        MiraError: There is no selection yet, a served student does not answer, or another process works in the run.
    """
    settings, log = _settings(config), log or Quiet()
    if not pairs:
        return run_extra(settings, evaluation.evaluate, log)
    function = paired.plan_pairs if dry_run else paired.evaluate_pairs
    return run_extra(settings, lambda c, r, log: function(c, r, Path(pairs), log, source=source, judge=judge), log)


@overload
def explain(config: Settings, id: str, *, source: str = "", log: Log | None = None) -> Explanation: ...
@overload
def explain(
    config: Settings, *, line: str | int, source: str = "", log: Log | None = None
) -> Explanation | RejectedLine: ...
@overload
def explain(
    config: Settings, *, text: str, source: str = "", limit: int = 20, log: Log | None = None
) -> TextMatches: ...
def explain(
    config: Settings,
    id: str = "",
    *,
    line: str | int = "",
    text: str = "",
    source: str = "",
    limit: int = 20,
    log: Log | None = None,
) -> Explanation | RejectedLine | TextMatches:
    """Explain why a record was kept or dropped, or why a line was rejected, or find records by their text.

    Give one of `id`, `line` and `text`.

    Args:
        config: The settings, or the path of their file.
        id: The record's id.
        line: A line of a source: its number, after the file if there are several, such as "part_3.jsonl:17".
        text: A text to look for in all records. Case and white space do not matter.
        source: The source, if several have the id or the line, or to search only one.
        limit: With `text`: end after so many matches.
        log: Where progress goes; nowhere by default.

    Raises:
        InputError: Nothing has this id or line, or several sources have it.
        RunError: There is no run yet, nothing is selected yet, or another process works in the run.
        TypeError: Not exactly one of `id`, `line` and `text` is given.
    """
    if sum(map(bool, (id, line, text))) != 1:
        raise TypeError("mira.explain takes one of id, line and text")
    settings, log = _settings(config), log or Quiet()
    if text:
        return run_extra(settings, lambda c, r, log: find_text(c.corpus, r, text, log, source=source, limit=limit), log)
    if line:
        return run_extra(settings, lambda c, r, _: explaining.explain_line(c, r, line, source), log)
    return run_extra(settings, lambda c, r, _: explaining.explain(c, r, id, source), log)


def students(config: Settings, *, log: Log | None = None) -> StudentsResult:
    """Compare students with each other, with the teacher's own consistency and with baselines.

    Raises:
        MiraError: There are no labels yet, or another process works in the run.
    """
    return run_extra(_settings(config), compare_group_students, log or Quiet())


def proxy(
    config: Settings,
    methods: Iterable[str] = ("raw", "mira"),
    *,
    seeds: int = 3,
    size: Literal["smoke", "gpu"] = "smoke",
    log: Log | None = None,
) -> ProxyResult:
    """Train tiny LMs on each method's selection, and compare held-out bits per byte (extra `train`).

    Args:
        config: The settings, or the path of their file.
        methods: Methods, each "METHOD" or "METHOD:SCOPE". Random selection is always added.
        seeds: Models per method.
        size: "smoke" takes minutes on a CPU; "gpu" has 10M parameters.
        log: Where progress goes; nowhere by default.

    Raises:
        MiraError: A method is unknown or cannot run here, or torch is missing.
    """
    names = [methods] if isinstance(methods, str) else list(methods)
    return run_extra(
        _settings(config),
        lambda c, r, log: small_models.proxy(c, r, log, methods=names, seeds=seeds, size=size),
        log or Quiet(),
    )


def cascade(config: Settings, *, log: Log | None = None) -> dict[str, CascadedSource]:
    """Have the student that `distill.endpoint` serves judge again what the encoder puts near the thresholds.

    Returns:
        Source -> what was judged of it.

    Raises:
        MiraError: There is no run yet, no student is served, or it does not answer.
    """
    return cascades.cascade(_settings(config), log or Quiet())


def adopt(config: Settings, group: str, checkpoint: Path | str) -> Path:
    """Make a scorer bundle from a training job's checkpoint.

    Args:
        config: The settings, or the path of their file.
        group: The group that the job trained a student for.
        checkpoint: Folder with the checkpoint.

    Returns:
        The bundle's folder.

    Raises:
        MiraError: There is no such job, or the checkpoint cannot be used.
    """
    settings = _settings(config)

    def adopt_here(_: object, run: RunFolder, __: object) -> object:
        return checkpoints.adopt(run.job(group), Path(checkpoint), run.student(group))

    run_extra(settings, adopt_here, Quiet(), repairs=True)
    return RunFolder(settings.run).student(group)


def push(bundle: Path | str, target: Path | str, *, public: bool = False) -> str:
    """Copy a scorer bundle, checked, to a folder or to a hub repository, with the verdict of its run's evaluation.

    Args:
        bundle: The bundle's folder.
        target: A folder, a URL such as "s3://BUCKET/NAME", or "hf://OWNER/NAME".
        public: Make a new hub repository public.

    Returns:
        Where the bundle is now: the folder, or the repository with its commit.

    Raises:
        MiraError: The bundle is damaged or unsafe, the target is taken, or the hub cannot be reached.
    """
    return pushing.push(place_path(bundle, above=3), str(target), private=not public)


def pull(source: Path | str, folder: Path | str) -> Path:
    """Copy a scorer bundle from a folder or a hub repository, and check it.

    Args:
        source: A folder, a URL, or "hf://OWNER/NAME[@REVISION]".
        folder: Where the bundle goes.

    Returns:
        `folder`.

    Raises:
        MiraError: There is no bundle, it is damaged or unsafe, or the hub cannot be reached.
    """
    return bundles.pull(str(source), place_path(folder))


def _settings(config: Settings) -> Config:
    return config if isinstance(config, Config) else load_config(config)
