"""Commands that set up and run: the whole pipeline, or one stage."""

import json
import shutil
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal

import typer

from mira.cli.batch import batch
from mira.cli.options import (
    NO_OVERRIDES,
    ConfigPath,
    Export,
    FailureBudget,
    Force,
    Import,
    MaxCost,
    MaxRequests,
    Overrides,
    limits,
    pair,
)
from mira.cli.program import RUN, STAGES, START, app, say
from mira.progress import Terminal

__all__ = ["run_stages_of"]


class DemoFamily(StrEnum):
    """A family that the demo has sources of."""

    TEXT = "text"
    QA = "qa"
    AGENT = "agent"


NO_FAMILIES: list[DemoFamily] = []


@app.command(rich_help_panel=START)
def demo(
    folder: Annotated[Path, typer.Option("--folder", help="Where the demo lives.")] = Path("mira-demo"),
    family: Annotated[
        list[DemoFamily],
        typer.Option("--family", help="Take only the sources of this family: text, qa or agent. May be repeated."),
    ] = NO_FAMILIES,
) -> None:
    """Run everything on real data, with recorded judgments.

    The corpus has nine sources in three families. A teacher judged a sample of it once, for this demo.
    """
    from mira.cli.tables import print_summary  # noqa: PLC0415
    from mira.demo_project.demo import FAMILIES  # noqa: PLC0415
    from mira.demo_project.demo import demo as run_demo  # noqa: PLC0415
    from mira.run_folder.paths import RunFolder  # noqa: PLC0415

    report = run_demo(folder, Terminal(), family or FAMILIES)
    print_summary(RunFolder(report.parent))
    command = "mira" if shutil.which("mira") else sys.argv[0]
    say(f"\nNow try: {command} run {folder / 'mira.yaml'} --set select.budget=25%")


@app.command(rich_help_panel=START)
def init(
    path: Annotated[Path, typer.Argument(metavar="CONFIG", help="Where to write the settings.")] = Path("mira.yaml"),
) -> None:
    """Write a commented settings file to start from."""
    from mira.config.template import write_template  # noqa: PLC0415

    write_template(path)
    say(f"Wrote {path}. Fill in your sources and teacher, then: mira validate {path}")


@app.command(rich_help_panel=START)
def validate(
    config: ConfigPath,
    deep: Annotated[
        bool, typer.Option("--deep", help="Also read sources and run folder again, and compare every file's hash.")
    ] = False,
    set_: Overrides = NO_OVERRIDES,
) -> None:
    """Check settings, files, fields, bundles and endpoints for free."""
    from mira.config.loading import load_config  # noqa: PLC0415
    from mira.pipeline.validate import validate as check  # noqa: PLC0415

    for line in check(load_config(config, set_), deep=deep):
        say(line)


@app.command(rich_help_panel=START)
def plan(config: ConfigPath, set_: Overrides = NO_OVERRIDES) -> None:
    """Show what a run would read, ask and cost."""
    from mira.cli.plan import print_plan  # noqa: PLC0415
    from mira.config.loading import load_config  # noqa: PLC0415
    from mira.pipeline.plan import missing_teacher  # noqa: PLC0415
    from mira.pipeline.plan import plan as make_plan  # noqa: PLC0415

    settings = load_config(config, set_)
    print_plan(make_plan(settings, Terminal()))
    if lacking := missing_teacher(settings):
        say(lacking)


@app.command(rich_help_panel=RUN)
def run(
    config: ConfigPath,
    max_cost: MaxCost = None,
    max_requests: MaxRequests = None,
    failure_budget: FailureBudget = "",
    set_: Overrides = NO_OVERRIDES,
    force: Force = False,
) -> None:
    """Run every stage that the selection needs; skip what is up to date."""
    run_stages_of(config, [*set_, *limits(max_cost, max_requests, failure_budget)], [], force=force)


@app.command(rich_help_panel=RUN)
def freeze(
    config: ConfigPath,
    folder: Annotated[
        str, typer.Option("--folder", help="Where the rubrics go, relative to the settings.")
    ] = "rubrics",
    set_: Overrides = NO_OVERRIDES,
) -> None:
    """Keep the run's groups and rubrics: write them into the settings.

    New sources then join the nearest group, and only they get new labels. Nothing is asked or computed.
    """
    from mira.pipeline.freeze import freeze as freeze_run  # noqa: PLC0415

    found = freeze_run(config, set_, folder)
    for name, sources in found.groups.items():
        say(f"{name}: {', '.join(sources)}; rubric {found.rubrics.get(name, '(none)')}")
    for name in found.new:
        say(f"{name}: in no group yet; it joins the nearest one. To choose, add it to a group in group.given.")
    done = f"Wrote {', '.join(found.written)}." if found.written else f"{config} says all of this already."
    say(f"{done} See what a run would do: mira plan {config}")


def run_stages_of(path: Path, overrides: list[str], names: list[str], *, force: bool) -> None:
    """Run stages, and print the tables that belong to them.

    Args:
        path: The settings file.
        overrides: Changes of settings.
        names: Stages; all that are needed when empty.
        force: Run them even if they are up to date.

    Raises:
        MiraError: A stage cannot run.
    """
    from mira.cli.judged import print_judged, print_left  # noqa: PLC0415
    from mira.cli.tables import print_flags, print_summary  # noqa: PLC0415
    from mira.config.loading import load_config  # noqa: PLC0415
    from mira.llm.cost import SpendingStop  # noqa: PLC0415
    from mira.pipeline.runner import refresh_report, run_stages  # noqa: PLC0415
    from mira.run_folder.paths import RunFolder  # noqa: PLC0415

    config = load_config(path, overrides)
    judging = next((name for name in names if name in ("discover", "label")), "")
    try:
        ran = run_stages(config, names, Terminal(), force=force)
    except SpendingStop:
        if judging:
            print_left(config, judging)
        raise
    if judging:
        print_judged(config, judging, ran=judging in ran)
    if names == ["flag"]:
        print_flags(RunFolder(config.run))
    if names == ["select"]:
        refresh_report(config, Terminal())  # else it would be about the selection before
    if not names or names == ["select"]:
        print_summary(RunFolder(config.run))


def _stage_command(name: str, text: str) -> None:
    @app.command(name=name, help=text, rich_help_panel=STAGES)
    def stage(config: ConfigPath, set_: Overrides = NO_OVERRIDES, force: Force = False) -> None:
        run_stages_of(config, set_, [name], force=force)


def _judging_command(name: str, text: str) -> None:
    @app.command(name=name, help=text, rich_help_panel=STAGES)
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
        given = limits(max_cost, max_requests, failure_budget)
        if not batch(config, set_, name, export, import_, force=force, limits=given):
            run_stages_of(config, [*set_, *given], [name], force=force)


_stage_command("index", "Read every source: ids, tokens, rejected lines.")
_stage_command("join", "Join the scores of other programs with the records.")
_stage_command("group", "Cluster the sources of each family into groups.")
_judging_command("discover", "Cluster the teacher's free judgments into rubrics.")
_judging_command("label", "Have the teacher judge a sample on each rubric.")


@app.command(rich_help_panel=STAGES)
def distill(
    config: ConfigPath,
    student: Annotated[
        Literal["encoder", "head", "sft", "endpoint", "bundle"] | None, typer.Option(help="Kind of student.")
    ] = None,
    set_: Overrides = NO_OVERRIDES,
    force: Force = False,
) -> None:
    """Train one student per group on the labels."""
    changes = [f"distill.student={student}"] if student else []
    run_stages_of(config, [*set_, *changes], ["distill"], force=force)


_judging_command("score", "Score every record with its group's student.")
_stage_command("reliability", "Test every (source, slot) cell; mask what fails.")
_stage_command("flag", "Flag duplicates and benchmark contamination.")


@app.command(rich_help_panel=STAGES)
def select(
    config: ConfigPath,
    method: Annotated[
        str, typer.Option(help="raw, random, ppl, dsir, dataman, column, mira, or an installed one.")
    ] = "",
    scope: Annotated[str, typer.Option(help="global, group or source.")] = "",
    budget: Annotated[str, typer.Option(help="Tokens to keep: 50%, 25B, 300M, 1000000.")] = "",
    temperature: Annotated[float | None, typer.Option(help="0 keeps the top; above it, records are sampled.")] = None,
    source_min: Annotated[
        list[str] | None, typer.Option("--source-min", metavar="SOURCE=TOKENS", help="Keep at least this: docs=10%.")
    ] = None,
    source_max: Annotated[
        list[str] | None, typer.Option("--source-max", metavar="SOURCE=TOKENS", help="Keep at most this: docs=40%.")
    ] = None,
    per_source_min: Annotated[list[str] | None, typer.Option("--per-source-min", hidden=True)] = None,
    per_source_max: Annotated[list[str] | None, typer.Option("--per-source-max", hidden=True)] = None,
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
    for old, new in (("--per-source-min", "--source-min"), ("--per-source-max", "--source-max")):
        if per_source_min if old.endswith("min") else per_source_max:
            typer.echo(f"{old} is now called {new}", err=True)
    bounds = {"source_min": [*(source_min or []), *(per_source_min or [])]}
    bounds |= {"source_max": [*(source_max or []), *(per_source_max or [])]}
    changes += [f"select.{key}={json.dumps(dict(map(pair, pairs)))}" for key, pairs in bounds.items() if pairs]
    spending = limits(max_cost, max_requests, failure_budget)
    run_stages_of(config, [*set_, *spending, *changes], ["select"], force=force)


_stage_command("report", "Write the HTML report.")
