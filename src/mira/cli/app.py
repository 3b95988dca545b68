"""The command line: one verb a stage, no logic."""

import json
import os
import shutil
import signal
import sys
import threading
from collections.abc import Sequence
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console

from mira._version import __version__
from mira.config.settings import Config
from mira.errors import ConfigError, MiraError, refused_by_system
from mira.progress import Terminal, printable
from mira.urls import check_local

__all__ = ["app", "main"]

app = typer.Typer(
    name="mira",
    help="Choose the training data of language models' mid-training by quality, source by source.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

ConfigPath = Annotated[Path, typer.Argument(metavar="CONFIG", help="The settings, e.g. mira.yaml.")]
Overrides = Annotated[
    list[str], typer.Option("--set", metavar="KEY=VALUE", help="Override a setting, e.g. --set select.budget=25%.")
]
Force = Annotated[bool, typer.Option("--force", help="Run the stage even when it is up to date.")]
Export = Annotated[
    Path | None, typer.Option("--export", metavar="FILE", help="Write the LLM requests as batch lines instead.")
]
Import = Annotated[
    list[Path] | None, typer.Option("--import", metavar="FILE", help="Read batch results into the journal instead.")
]
INTERRUPTED = 130  # what typer returns for Ctrl-C
TERMINATED = 143  # 128 + SIGTERM, as shells say it
MaxCost = Annotated[float | None, typer.Option("--max-cost", help="Stop cleanly before spending more.")]
MaxRequests = Annotated[int | None, typer.Option("--max-requests", help="Stop cleanly before sending more.")]
FailureBudget = Annotated[
    str, typer.Option("--failure-budget", metavar="SHARE", help="Records that may stay unscored, e.g. 1%.")
]
NO_OVERRIDES: list[str] = []


class DemoFamily(StrEnum):
    """A family that the demo has sources of."""

    TEXT = "text"
    QA = "qa"
    AGENT = "agent"


NO_FAMILIES: list[DemoFamily] = []


def main() -> None:
    """Run the command line. A user's mistake ends in a message and status 1 (2 for settings), not in a traceback."""
    console = Console(stderr=True, soft_wrap=True)
    terminated = _hear_sigterm()
    try:
        status = app(standalone_mode=False)
        if status == INTERRUPTED:
            raise KeyboardInterrupt
        sys.exit(status)
    except MiraError as error:
        console.print(printable(f"error: {error}"), markup=False, highlight=False, style="red")
        sys.exit(2 if isinstance(error, ConfigError) else 1)
    except (KeyboardInterrupt, typer.Abort):
        console.print("stopped; what is finished is kept. Run the same command again to go on.", style="yellow")
        sys.exit(TERMINATED if terminated else INTERRUPTED)
    except typer.Exit as end:
        sys.exit(end.exit_code)
    except BrokenPipeError:  # whoever read the output has had enough: `mira ... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:
        console.print(printable(f"error: {refused_by_system(error)}"), markup=False, highlight=False, style="red")
        sys.exit(1)
    except Exception as error:
        if type(error).__module__.partition(".")[0] in ("pyarrow", "duckdb", "_duckdb"):
            said = str(error).strip().partition("\n")[0]
            console.print(f"error: a file of the run folder is damaged or closed: {said}", markup=False, style="red")
            console.print("  Allow reading it; or remove it, and run its stage again with --force.", style="red")
            sys.exit(1)
        show, status = getattr(error, "show", None), getattr(error, "exit_code", None)
        if show is None or status is None:  # not a usage error, whichever click raised it
            raise
        show()
        sys.exit(status)


def _hear_sigterm() -> list[int]:
    """Have the first SIGTERM do what Ctrl-C does, and the second end the process at once.

    Returns:
        A list that holds the signal once it has come.
    """
    came: list[int] = []
    me = os.getpid()

    def stop(number: int, _: object) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        if os.getpid() != me:  # a worker that was forked
            os.kill(os.getpid(), number)
            return
        came.append(number)
        raise KeyboardInterrupt

    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, stop)
    return came


def _say(text: object) -> None:
    typer.echo(printable(str(text)))


def _version(value: bool) -> None:
    if value:
        typer.echo("mira " + __version__)
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Choose the training data of language models' mid-training by quality, source by source."""


@app.command()
def init(
    path: Annotated[Path, typer.Argument(metavar="CONFIG", help="Where to write the settings.")] = Path("mira.yaml"),
) -> None:
    """Write a commented settings file to start from."""
    from mira.config.template import write_template  # noqa: PLC0415

    write_template(path)
    _say(f"Wrote {path}. Fill in your sources and teacher, then: mira validate {path}")


@app.command()
def validate(
    config: ConfigPath,
    deep: Annotated[
        bool, typer.Option("--deep", help="Also read sources and run folder again, and compare every file's hash.")
    ] = False,
    set_: Overrides = NO_OVERRIDES,
) -> None:
    """Check settings, files, fields, scorer bundles and endpoints; nothing is spent."""
    from mira.config.loading import load_config  # noqa: PLC0415
    from mira.pipeline.validate import validate as check  # noqa: PLC0415

    for line in check(load_config(config, set_), deep=deep):
        _say(line)


@app.command()
def plan(config: ConfigPath, set_: Overrides = NO_OVERRIDES) -> None:
    """Show what a run would do: records, tokens, LLM calls and cost of each stage, and what is already done."""
    from mira.cli.plan import print_plan  # noqa: PLC0415
    from mira.config.loading import load_config  # noqa: PLC0415
    from mira.pipeline.plan import missing_teacher  # noqa: PLC0415
    from mira.pipeline.plan import plan as make_plan  # noqa: PLC0415

    settings = load_config(config, set_)
    print_plan(make_plan(settings, Terminal()))
    if lacking := missing_teacher(settings):
        _say(lacking)


@app.command()
def run(
    config: ConfigPath,
    max_cost: MaxCost = None,
    max_requests: MaxRequests = None,
    failure_budget: FailureBudget = "",
    set_: Overrides = NO_OVERRIDES,
    force: Force = False,
) -> None:
    """Run every stage that the selection needs; what is up to date is skipped."""
    _stages(config, [*set_, *_limits(max_cost, max_requests, failure_budget)], [], force=force)


@app.command()
def demo(
    folder: Annotated[Path, typer.Option("--folder", help="Where the demo lives.")] = Path("mira-demo"),
    family: Annotated[
        list[DemoFamily],
        typer.Option("--family", help="Take the sources of this family only: text, qa or agent. May be repeated."),
    ] = NO_FAMILIES,
) -> None:
    """Run the whole pipeline on a corpus of nine sources in three families, with a teacher's recorded judgments."""
    from mira.cli.tables import print_summary  # noqa: PLC0415
    from mira.demo.demo import FAMILIES  # noqa: PLC0415
    from mira.demo.demo import demo as run_demo  # noqa: PLC0415
    from mira.run_folder.paths import RunFolder  # noqa: PLC0415

    report = run_demo(folder, Terminal(), family or FAMILIES)
    print_summary(RunFolder(report.parent))
    command = "mira" if shutil.which("mira") else sys.argv[0]
    _say(f"\nNow try: {command} run {folder / 'mira.yaml'} --set select.budget=25%")


def _stage_command(name: str, text: str) -> None:
    @app.command(name=name, help=text)
    def stage(config: ConfigPath, set_: Overrides = NO_OVERRIDES, force: Force = False) -> None:
        _stages(config, set_, [name], force=force)


def _judging_command(name: str, text: str) -> None:
    @app.command(name=name, help=text)
    def stage(
        config: ConfigPath,
        export: Export = None,
        import_: Import = None,
        max_cost: MaxCost = None,
        max_requests: MaxRequests = None,
        failure_budget: FailureBudget = "",
        set_: Overrides = NO_OVERRIDES,
        force: Force = False,
    ) -> None:
        set_ = [*set_, *_limits(max_cost, max_requests, failure_budget)]
        if not _batch(config, set_, name, export, import_, force=force):
            _stages(config, set_, [name], force=force)


def _limits(max_cost: float | None, max_requests: int | None, failure_budget: str) -> list[str]:
    """Return limits as overrides; they hold for teacher and student alike, and for the whole command."""
    limits = {"max_cost": max_cost, "max_requests": max_requests, "failure_budget": _share(failure_budget)}
    return [f"teacher.{name}={value}" for name, value in limits.items() if value is not None]


def _share(text: str) -> float | None:
    try:
        return None if not text else float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        raise ConfigError(f"--failure-budget {text}: expected a share", "For example: --failure-budget 1%") from None


def _batch(
    path: Path, overrides: list[str], stage: str, export: Path | None, results: list[Path] | None, *, force: bool
) -> bool:
    """Write or read batch files; return whether that was all that was asked for."""
    if not _wants_batch(export, results, force=force):
        return False
    from mira.config.loading import load_config  # noqa: PLC0415

    _run_batch(stage, export, results, f"mira {stage} {path}", load_config(path, overrides))
    return True


def _wants_batch(export: Path | None, results: list[Path] | None, *, force: bool) -> bool:
    if export is None and not results:
        return False
    if export is not None and results:
        raise ConfigError("--export and --import: one at a time", "Export, run the requests, then import the results.")
    if force:
        raise ConfigError("--force has no meaning with --export or --import", "Leave --force out.")
    if export is not None:
        check_local(export, "--export")
    return True


def _run_batch(stage: str, export: Path | None, results: list[Path] | None, command: str, config: Config) -> None:
    from mira.pipeline.batch import export_requests, import_results, still_out  # noqa: PLC0415

    if results:
        done = import_results(config, results)
        _say(
            f"{done.replies:,} new replies, {done.known:,} known already, {done.failures:,} failed requests, "
            f"{done.unreadable:,} lines that are no results. {_left(still_out(config, stage))}Now: {command}"
        )
        return
    assert export is not None
    written = export_requests(config, stage, export, Terminal())
    files = ", ".join(str(p) for p in written.paths)
    if written.removed:
        _say(f"Removed {', '.join(map(str, written.removed))}: parts of a longer export before this one.")
    _say(
        f"{written.requests:,} requests in {files}; {written.answered:,} are answered already, "
        f"{written.unsendable:,} do not fit. Run them, then: {command} --import RESULTS"
    )


def _left(still: tuple[int, int] | None) -> str:
    if still is None or not still[0]:
        return ""
    return f"{still[0]:,} of the {still[1]:,} requests last exported are still without a reply. "


def _stages(path: Path, overrides: list[str], names: list[str], *, force: bool) -> None:
    from mira.cli.tables import print_flags, print_summary  # noqa: PLC0415
    from mira.config.loading import load_config  # noqa: PLC0415
    from mira.pipeline.runner import run_stages  # noqa: PLC0415
    from mira.run_folder.paths import RunFolder  # noqa: PLC0415

    config = load_config(path, overrides)
    run_stages(config, names, Terminal(), force=force)
    if names == ["flag"]:
        print_flags(RunFolder(config.run))
    if names == ["select"]:
        run_stages(config, ["report"], Terminal())  # else it would be about the selection before
    if not names or names == ["select"]:
        print_summary(RunFolder(config.run))


_stage_command("index", "Read every source once: ids, tokens, and every rejected line with its reason.")
_stage_command("group", "Cluster the sources of each family into groups.")
_judging_command("discover", "Cluster the teacher's free-form judgments into each group's rubric.")
_judging_command("label", "Have the teacher judge a sample on the rubric (or take its recorded replies).")


@app.command()
def distill(
    config: ConfigPath,
    student: Annotated[
        Literal["encoder", "sft", "endpoint", "bundle"] | None, typer.Option(help="Kind of student.")
    ] = None,
    set_: Overrides = NO_OVERRIDES,
    force: Force = False,
) -> None:
    """Train each group's student on the labels."""
    _stages(config, [*set_, *([f"distill.student={student}"] if student else [])], ["distill"], force=force)


@app.command()
def score(
    context: typer.Context,
    config: Annotated[Path | None, typer.Argument(metavar="[CONFIG]", help="The settings of a run.")] = None,
    judge: Annotated[
        list[str] | None, typer.Option("--judge", metavar="URL", help="Base URL(s), ending in /v1.")
    ] = None,
    model: Annotated[str, typer.Option(help="Model name as the endpoint knows it.")] = "",
    rubric: Annotated[Path | None, typer.Option(help="The scorer's anchors file, one JSON line a slot.")] = None,
    bundle: Annotated[Path | None, typer.Option(help="A scorer bundle; one of an encoder needs no endpoint.")] = None,
    input_: Annotated[
        list[str] | None, typer.Option("--input", metavar="PATH", help="Records: JSONL, Parquet, dataset folder, glob.")
    ] = None,
    source: Annotated[
        str, typer.Option(help="Name of the records' source; one that an encoder's bundle knows, if it is the same.")
    ] = "input",
    family: Annotated[
        Literal["text", "qa", "qa_with_think", "agent"] | None,
        typer.Option(help="Record format; text by default, or what the bundle scores."),
    ] = None,
    field: Annotated[
        list[str] | None, typer.Option(metavar="OURS=YOURS", help="Field mapping, e.g. --field text=content.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Run folder for the sidecars.")] = Path("scores"),
    api_key_env: Annotated[str, typer.Option(help="Environment variable with the endpoint's key.")] = "",
    export: Export = None,
    import_: Import = None,
    max_cost: MaxCost = None,
    max_requests: MaxRequests = None,
    failure_budget: FailureBudget = "",
    set_: Overrides = NO_OVERRIDES,
    force: Force = False,
) -> None:
    """Score every record with its group's student; or any records with a scorer that you have, or that you serve.

    The other forms need no settings file: mira score --bundle FOLDER --input data/*.jsonl, with --judge and --model
    where the bundle has to be served; or mira score --judge http://localhost:8000/v1 --model NAME
    --rubric group_D_dim_anchors.jsonl --input data/*.jsonl
    """
    set_ = [*set_, *_limits(max_cost, max_requests, failure_budget)]
    if judge is None and bundle is None:
        if config is None:
            raise ConfigError("score needs CONFIG, or --bundle or --judge with --input", "See: mira score --help")
        _refuse(context, _WITHOUT_CONFIG, "says how to score without CONFIG: in CONFIG it is a setting")
        if not _batch(config, set_, "score", export, import_, force=force):
            _stages(config, set_, ["score"], force=force)
        return
    if config is not None:
        raise ConfigError("score takes CONFIG, or --bundle or --judge, not both", "See: mira score --help")
    from mira.pipeline.score_files import score_bundle, score_released  # noqa: PLC0415

    fields = dict(_pair(text) for text in field or [])
    batch = None
    if _wants_batch(export, import_, force=force):
        batch = partial(_run_batch, "score", export, import_, _THIS)
    if bundle is not None:
        if rubric is not None:
            raise ConfigError("--rubric: a bundle has its own rubric", "Leave --rubric or --bundle out.")
        paths = score_bundle(
            bundle, input_ or [], urls=judge or [], model=model, source=source, family=family or "", fields=fields,
            out=out, api_key_env=api_key_env, overrides=set_, log=Terminal(), batch=batch, force=force,
        )  # fmt: skip
    else:
        paths = score_released(
            judge or [], model, rubric, input_ or [], source=source, family=family or "text", fields=fields,
            out=out, api_key_env=api_key_env, overrides=set_, log=Terminal(), batch=batch, force=force,
        )  # fmt: skip
    for path in paths:
        _say(path)


_THIS = "this command without --export or --import, or with"
_WITHOUT_CONFIG = ("model", "rubric", "input_", "source", "family", "field", "out", "api_key_env")


def _refuse(context: typer.Context, names: Sequence[str], why: str) -> None:
    """Refuse options that would have no effect.

    Raises:
        ConfigError: One of them is given.
    """
    for name in names:
        given = context.get_parameter_source(name)
        if given is not None and given.name == "COMMANDLINE":
            option = name.strip("_").replace("_", "-")
            raise ConfigError(f"--{option} {why}", f"See: mira {context.command.name} --help")


def _pair(text: str) -> tuple[str, str]:
    ours, equals, yours = text.partition("=")
    if not equals or not ours or not yours:
        raise ConfigError(f"{text}: expected NAME=VALUE", "For example: text=content")
    return ours, yours


_stage_command("reliability", "Test every (source, slot) cell on the labels, and mask what fails.")
_stage_command("flag", "Flag duplicates, and records that share text with given benchmarks.")


@app.command()
def select(
    config: ConfigPath,
    method: Annotated[str, typer.Option(help="raw, random, ppl, dsir, dataman or mira.")] = "",
    scope: Annotated[str, typer.Option(help="global, group or source.")] = "",
    budget: Annotated[str, typer.Option(help="Tokens to keep: 50%, 25B, 300M, 1000000.")] = "",
    temperature: Annotated[float | None, typer.Option(help="0 keeps the top; above it, records are sampled.")] = None,
    per_source_min: Annotated[
        list[str] | None, typer.Option(metavar="SOURCE=TOKENS", help="Least to keep of a source: docs=10%.")
    ] = None,
    per_source_max: Annotated[
        list[str] | None, typer.Option(metavar="SOURCE=TOKENS", help="Most to keep of a source: docs=40%.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of ties, of random selection and of sampling.")] = None,
    max_cost: MaxCost = None,
    max_requests: MaxRequests = None,
    failure_budget: FailureBudget = "",
    set_: Overrides = NO_OVERRIDES,
    force: Force = False,
) -> None:
    """Keep the best records under the token budget."""
    given = {"select.method": method, "select.scope": scope, "select.budget": budget, "select.temperature": temperature}
    given |= {"seed": seed}
    changes = [f"{key}={value}" for key, value in given.items() if value not in ("", None)]
    for key, pairs in (("source_min", per_source_min), ("source_max", per_source_max)):
        if pairs:
            changes.append(f"select.{key}={json.dumps(dict(map(_pair, pairs)))}")
    _stages(config, [*set_, *_limits(max_cost, max_requests, failure_budget), *changes], ["select"], force=force)


_stage_command("report", "Write the HTML report.")


@app.command()
def compare(
    config: ConfigPath,
    methods: Annotated[
        str, typer.Option(help="Methods, separated by commas: raw, random, ppl, dsir, dataman, mira.")
    ] = "mira,random,ppl,dsir",
    max_cost: MaxCost = None,
    max_requests: MaxRequests = None,
    failure_budget: FailureBudget = "",
    set_: Overrides = NO_OVERRIDES,
) -> None:
    """Set several selection methods side by side, under one budget, without changing the run's selection."""
    from mira.cli.tables import print_comparison  # noqa: PLC0415
    from mira.evaluation.compare import compare as compare_methods  # noqa: PLC0415
    from mira.pipeline.runner import run_extra  # noqa: PLC0415

    set_ = [*set_, *_limits(max_cost, max_requests, failure_budget)]
    names = [name.strip() for name in methods.split(",") if name.strip()]
    print_comparison(run_extra(config, set_, lambda c, r, log: compare_methods(c, r, names, log), Terminal()))


@app.command()
def evaluate(
    config: ConfigPath,
    max_cost: MaxCost = None,
    max_requests: MaxRequests = None,
    failure_budget: FailureBudget = "",
    set_: Overrides = NO_OVERRIDES,
) -> None:
    """Test a selection against held-out teacher labels and planted faults."""
    from mira.evaluation.stage import evaluate as evaluate_selection  # noqa: PLC0415
    from mira.pipeline.runner import run_extra  # noqa: PLC0415

    set_ = [*set_, *_limits(max_cost, max_requests, failure_budget)]
    run_extra(config, set_, evaluate_selection, Terminal())


@app.command()
def explain(
    config: ConfigPath,
    id_: Annotated[str, typer.Argument(metavar="ID", help="The record's id.")],
    source: Annotated[str, typer.Option(help="Its source, where several have the id.")] = "",
    set_: Overrides = NO_OVERRIDES,
) -> None:
    """Tell all that decided on one record: slots, masks, quality, threshold, ranks, and what would have flipped it."""
    from mira.cli.tables import print_explanation  # noqa: PLC0415
    from mira.pipeline.runner import run_extra  # noqa: PLC0415
    from mira.selection.explain import explain as explain_record  # noqa: PLC0415

    print_explanation(run_extra(config, set_, lambda c, r, _log: explain_record(c, r, id_, source), Terminal()))


@app.command()
def cascade(
    config: ConfigPath,
    max_cost: MaxCost = None,
    max_requests: MaxRequests = None,
    failure_budget: FailureBudget = "",
    set_: Overrides = NO_OVERRIDES,
) -> None:
    """Have a served student (distill.endpoint) judge again what the encoder puts near the thresholds."""
    from mira.pipeline.cascade import cascade as run_cascade  # noqa: PLC0415

    set_ = [*set_, *_limits(max_cost, max_requests, failure_budget)]
    for source, told in run_cascade(config, set_, Terminal()).items():
        _say(f"{source}: {told}")


@app.command()
def students(config: ConfigPath, set_: Overrides = NO_OVERRIDES) -> None:
    """Compare a run's students with each other and with naive ones, cell by cell; say what more labels would buy."""
    from mira.cli.tables import print_students  # noqa: PLC0415
    from mira.pipeline.runner import run_extra  # noqa: PLC0415
    from mira.reliability.students.report import compare_group_students  # noqa: PLC0415

    print_students(run_extra(config, set_, compare_group_students, Terminal()))


@app.command()
def proxy(
    config: ConfigPath,
    methods: Annotated[str, typer.Option(help="Methods, or METHOD:SCOPE, separated by commas.")] = "raw,mira",
    seeds: Annotated[int, typer.Option(help="Models a method.")] = 3,
    size: Annotated[
        Literal["smoke", "gpu"], typer.Option(help="smoke: minutes on a CPU; gpu: 10M parameters.")
    ] = "smoke",
    set_: Overrides = NO_OVERRIDES,
) -> None:
    """Train the same tiny LM on each method's selection at equal tokens, and measure held-out bits per byte."""
    from mira.cli.tables import print_proxy  # noqa: PLC0415
    from mira.evaluation.proxy.proxy import proxy as run_proxy  # noqa: PLC0415
    from mira.pipeline.runner import run_extra  # noqa: PLC0415

    names = [name.strip() for name in methods.split(",") if name.strip()]
    print_proxy(
        run_extra(
            config, set_, lambda c, r, log: run_proxy(c, r, log, methods=names, seeds=seeds, size=size), Terminal()
        )
    )


@app.command()
def adopt(
    config: ConfigPath,
    group: Annotated[str, typer.Argument(help="The group, e.g. text_group_A.")],
    checkpoint: Annotated[Path, typer.Argument(help="Folder with the checkpoint that the job wrote.")],
    set_: Overrides = NO_OVERRIDES,
) -> None:
    """Make a group's scorer bundle of the checkpoint that its training job wrote on a GPU machine."""
    from mira.distillation.adopt import adopt as adopt_checkpoint  # noqa: PLC0415
    from mira.pipeline.runner import run_extra  # noqa: PLC0415

    run_extra(
        config, set_, lambda _c, r, _log: adopt_checkpoint(r.job(group), checkpoint, r.student(group)), Terminal()
    )
    _say("Serve it, name the endpoint in distill.endpoint, and: mira run")


@app.command()
def push(
    bundle: Annotated[Path, typer.Argument(help="A scorer bundle, e.g. run/students/text_group_A.")],
    target: Annotated[str, typer.Argument(help="A folder, or hf://OWNER/NAME.")],
    public: Annotated[bool, typer.Option("--public", help="Make a new hub repository public.")] = False,
) -> None:
    """Copy a scorer bundle, checked, to a folder or a hub repository."""
    from mira.distillation.bundle import push as push_bundle  # noqa: PLC0415

    _say(push_bundle(bundle, target, private=not public))


@app.command()
def pull(
    source: Annotated[str, typer.Argument(help="A folder, or hf://OWNER/NAME[@REVISION].")],
    folder: Annotated[Path, typer.Argument(help="Where the bundle goes.")],
) -> None:
    """Copy a scorer bundle from a folder or a hub repository, and check every file of it."""
    from mira.distillation.bundle import pull as pull_bundle  # noqa: PLC0415

    _say(pull_bundle(source, folder))
