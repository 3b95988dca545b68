"""Commands for scorers: score files with one, re-score with one, and move bundles."""

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from mira import plugins
from mira.cli.batch import run_batch, wants_batch
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
from mira.cli.program import SCORERS, app, say
from mira.progress import Terminal
from mira.run_folder.stored import run_path

__all__: list[str] = []


def _known_family(name: str | None) -> str | None:
    if name and not plugins.is_known(plugins.FAMILIES, name):
        known = ", ".join(map(repr, plugins.names(plugins.FAMILIES)))
        raise typer.BadParameter(f"'{name}' is not one of {known}.")
    return name


Input = Annotated[
    list[str] | None, typer.Option("--input", metavar="PATH", help="Records: JSONL, Parquet, dataset folder, glob.")
]
Family = Annotated[
    str | None,
    typer.Option(
        callback=_known_family,
        help="text, qa, qa_with_think, agent or a package's. Default: what the bundle scores, else text.",
    ),
]
Field = Annotated[
    list[str] | None, typer.Option(metavar="OURS=YOURS", help="Field mapping, e.g. --field text=content.")
]
Out = Annotated[Path, typer.Option(parser=run_path, help="Run folder for the sidecars: a folder or a URL.")]
Model = Annotated[str, typer.Option(help="Model name as the endpoint knows it.")]
Judge = Annotated[list[str] | None, typer.Option("--judge", metavar="URL", help="Base URL(s), ending in /v1.")]
KeyEnv = Annotated[str, typer.Option(help="Environment variable with the endpoint's key.")]
Source = Annotated[
    str, typer.Option(help="Source name. Use a name from the bundle's training sources to apply its offset.")
]

_THIS = "this command without --export or --import, or with"


@app.command(name="score-bundle", rich_help_panel=SCORERS)
def score_bundle(
    bundle: Annotated[str, typer.Argument(metavar="BUNDLE", help="A scorer bundle, e.g. one that was pulled.")],
    input_: Input = None,
    judge: Judge = None,
    model: Model = "",
    source: Source = "input",
    family: Family = None,
    field: Field = None,
    out: Out = Path("scores"),
    api_key_env: KeyEnv = "",
    export: Export = None,
    import_: Import = None,
    max_cost: MaxCost = None,
    max_requests: MaxRequests = None,
    failure_budget: FailureBudget = "",
    set_: Overrides = NO_OVERRIDES,
    force: Force = False,
) -> None:
    """Score any records with a scorer bundle.

    An encoder bundle runs on this machine. A fine-tuned LM has to be served: give --judge and --model.
    """
    from mira.pipeline.score_files import score_bundle as score  # noqa: PLC0415

    given = limits(max_cost, max_requests, failure_budget)
    files = wants_batch(export, import_, force=force, limits=given)
    paths = score(
        bundle,
        input_ or [],
        urls=judge or [],
        model=model,
        source=source,
        family=family or "",
        fields=dict(map(pair, field or [])),
        out=out,
        api_key_env=api_key_env,
        overrides=[*set_, *given],
        log=Terminal(),
        batch=partial(run_batch, "score", export, import_, _THIS) if files else None,
        force=force,
    )
    for path in paths:
        say(path)


@app.command(name="score-endpoint", rich_help_panel=SCORERS)
def score_endpoint(
    judge: Judge = None,
    model: Model = "",
    rubric: Annotated[Path | None, typer.Option(help="The scorer's anchors file, one JSON line per slot.")] = None,
    input_: Input = None,
    source: Annotated[str, typer.Option(help="Source name, used in folders.")] = "input",
    family: Family = None,
    field: Field = None,
    out: Out = Path("scores"),
    api_key_env: KeyEnv = "",
    export: Export = None,
    import_: Import = None,
    max_cost: MaxCost = None,
    max_requests: MaxRequests = None,
    failure_budget: FailureBudget = "",
    set_: Overrides = NO_OVERRIDES,
    force: Force = False,
) -> None:
    """Score any records with a scorer that you serve.

    For a released scorer, give its endpoint, its model name and its anchors file. No labels are needed.
    """
    from mira.pipeline.score_files import score_endpoint as score  # noqa: PLC0415

    given = limits(max_cost, max_requests, failure_budget)
    files = wants_batch(export, import_, force=force, limits=given)
    paths = score(
        judge or [],
        model,
        rubric,
        input_ or [],
        source=source,
        family=family or "text",
        fields=dict(map(pair, field or [])),
        out=out,
        api_key_env=api_key_env,
        overrides=[*set_, *given],
        log=Terminal(),
        batch=partial(run_batch, "score", export, import_, _THIS) if files else None,
        force=force,
    )
    for path in paths:
        say(path)


@app.command(rich_help_panel=SCORERS)
def cascade(
    config: ConfigPath,
    max_cost: MaxCost = None,
    max_requests: MaxRequests = None,
    failure_budget: FailureBudget = "",
    set_: Overrides = NO_OVERRIDES,
) -> None:
    """Re-score records near the threshold with a stronger student.

    The student that distill.endpoint serves judges what the encoder puts near the thresholds.
    """
    from mira import api  # noqa: PLC0415
    from mira.cli.tables import print_cascade  # noqa: PLC0415
    from mira.config.loading import load_config  # noqa: PLC0415
    from mira.run_folder.files import read_json  # noqa: PLC0415
    from mira.run_folder.paths import RunFolder  # noqa: PLC0415

    settings = load_config(config, [*set_, *limits(max_cost, max_requests, failure_budget)])
    print_cascade(api.cascade(settings, log=Terminal()), read_json(RunFolder(settings.run).cascade_report))


@app.command(rich_help_panel=SCORERS)
def adopt(
    config: ConfigPath,
    group: Annotated[str, typer.Argument(help="The group, e.g. text_group_A.")],
    checkpoint: Annotated[Path, typer.Argument(help="Folder with the checkpoint that the job wrote.")],
    set_: Overrides = NO_OVERRIDES,
) -> None:
    """Make a bundle from a training job's checkpoint."""
    from mira import api  # noqa: PLC0415
    from mira.config.loading import load_config  # noqa: PLC0415

    api.adopt(load_config(config, set_), group, checkpoint)
    say("Serve it, name the endpoint in distill.endpoint, and: mira run")


@app.command(rich_help_panel=SCORERS)
def push(
    bundle: Annotated[str, typer.Argument(help="A scorer bundle, e.g. run/students/text_group_A.")],
    target: Annotated[str, typer.Argument(help="A folder, a URL such as s3://BUCKET/NAME, or hf://OWNER/NAME.")],
    public: Annotated[bool, typer.Option("--public", help="Make a new hub repository public.")] = False,
) -> None:
    """Copy a bundle, checked, to a folder, bucket or hub, with what `mira evaluate` says of it."""
    from mira import api  # noqa: PLC0415

    say(api.push(bundle, target, public=public))


@app.command(rich_help_panel=SCORERS)
def pull(
    source: Annotated[str, typer.Argument(help="A folder, a URL, or hf://OWNER/NAME[@REVISION].")],
    folder: Annotated[str, typer.Argument(help="Where the bundle goes.")],
) -> None:
    """Copy a bundle from a folder, bucket or hub, and check it."""
    from mira import api  # noqa: PLC0415

    say(api.pull(source, folder))
