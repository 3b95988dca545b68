"""Commands that look at a finished run."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from mira.cli.options import (
    NO_OVERRIDES,
    ConfigPath,
    FailureBudget,
    MaxCost,
    MaxRequests,
    Overrides,
    Place,
    RunArgument,
    limits,
    names_in,
)
from mira.cli.program import LOOK, app
from mira.errors import ConfigError
from mira.progress import Terminal

__all__: list[str] = []


@app.command(rich_help_panel=LOOK)
def compare(
    config: ConfigPath,
    methods: Annotated[
        str,
        typer.Option(
            help="Methods, separated by commas: raw, random, ppl, dsir, dataman, mira; column for every score in "
            "`scores`, column.NAME for one."
        ),
    ] = "mira,random,ppl,dsir,column",
    max_cost: MaxCost = None,
    max_requests: MaxRequests = None,
    failure_budget: FailureBudget = "",
    set_: Overrides = NO_OVERRIDES,
) -> None:
    """Compare selection methods at the same budget.

    The run's selection stays as it is.
    """
    from mira import api  # noqa: PLC0415
    from mira.cli.tables import print_comparison  # noqa: PLC0415
    from mira.config.loading import load_config  # noqa: PLC0415

    settings = load_config(config, [*set_, *limits(max_cost, max_requests, failure_budget)])
    print_comparison(api.compare(settings, names_in(methods), log=Terminal()))


@app.command(rich_help_panel=LOOK)
def evaluate(
    config: ConfigPath,
    pairs: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Instead: have every scorer order the pairs (better, worse) of a JSONL file."
        ),
    ] = None,
    judge: Annotated[bool, typer.Option("--judge", help="With --pairs: have the teacher judge them, too.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="With --pairs: count the requests and their cost; send nothing.")
    ] = False,
    source: Annotated[str, typer.Option(help="With --pairs: the source of pairs that name none.")] = "",
    max_cost: MaxCost = None,
    max_requests: MaxRequests = None,
    failure_budget: FailureBudget = "",
    set_: Overrides = NO_OVERRIDES,
) -> None:
    """Test a selection against held-out labels and planted faults, or scorers on pairs of your own."""
    from mira import api  # noqa: PLC0415
    from mira.cli.pairs import print_pairs  # noqa: PLC0415
    from mira.config.loading import load_config  # noqa: PLC0415

    settings, log = load_config(config, [*set_, *limits(max_cost, max_requests, failure_budget)]), Terminal()
    if pairs is None:
        if judge or dry_run or source:
            raise ConfigError(
                "evaluate: --judge, --dry-run and --source are about pairs", "Give them: --pairs FILE.jsonl"
            )
        api.evaluate(settings, log=log)
    else:
        print_pairs(api.evaluate(settings, pairs=pairs, source=source, judge=judge, dry_run=dry_run, log=log))


@app.command(rich_help_panel=LOOK)
def explain(
    config: ConfigPath,
    id_: Annotated[str, typer.Argument(metavar="[ID]", help="The record's id.")] = "",
    line: Annotated[
        str, typer.Option(metavar="[FILE:]LINE", help="Instead of an id: a line of a source, e.g. part_3.jsonl:17.")
    ] = "",
    text: Annotated[
        str, typer.Option(help="Instead of an id: find the records that hold this text. Case is ignored.")
    ] = "",
    source: Annotated[str, typer.Option(help="The source, if several have the id or the line.")] = "",
    limit: Annotated[int, typer.Option(help="With --text: end after so many matches.")] = 20,
    set_: Overrides = NO_OVERRIDES,
) -> None:
    """Explain why a record was kept or dropped, or a line rejected.

    Shows slots, masks, quality, threshold and ranks, and the budget at which the decision would change.
    """
    from mira import api  # noqa: PLC0415
    from mira.cli.tables import print_explanation, print_matches, print_rejected  # noqa: PLC0415
    from mira.config.loading import load_config  # noqa: PLC0415
    from mira.selection.explain.results import RejectedLine  # noqa: PLC0415

    if sum(map(bool, (id_, line, text))) != 1:
        raise ConfigError(
            "explain: expected one of ID, --line and --text",
            "For example: mira explain mira.yaml --text 'the first words of the record'",
        )
    settings, log = load_config(config, set_), Terminal()
    if text:
        print_matches(api.explain(settings, text=text, source=source, limit=limit, log=log))
    elif line:
        told = api.explain(settings, line=line, source=source, log=log)
        if isinstance(told, RejectedLine):
            print_rejected(told)
        else:
            print_explanation(told)
    else:
        print_explanation(api.explain(settings, id_, source=source, log=log))


@app.command(rich_help_panel=LOOK)
def view(
    run: Annotated[Path, RunArgument(metavar="RUN", help="The run folder, or the settings of a run.")],
    settings: Annotated[
        Path | None, typer.Option(metavar="CONFIG", help="The settings of a run folder that was moved.")
    ] = None,
    host: Annotated[str, typer.Option(help="Address to listen at.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen at. If it is taken, another one is used.")] = 8765,
    export: Annotated[
        Path | None, Place(metavar="FOLDER", help="Write a static copy of the pages into this folder instead.")
    ] = None,
    records: Annotated[
        int, typer.Option(help="With --export: records whose pages are in the copy, at most 2000.")
    ] = 500,
) -> None:
    """Look at a run in the browser.

    Serves pages on this machine, and prints their address (extra `view`). Nothing is written into the run folder.
    """
    from mira.viewer.serve import view as look  # noqa: PLC0415

    look(run, settings=settings, host=host, port=port, export=export, records=records, log=Terminal())


@app.command(rich_help_panel=LOOK)
def review(
    config: ConfigPath,
    slots: Annotated[bool, typer.Option("--slots", help="Ask for scores of the rubric's slots, too.")] = False,
    export: Annotated[
        Path | None, Place(metavar="FILE", help="Write forms to fill in, as .csv or .jsonl; serve nothing.")
    ] = None,
    import_: Annotated[
        list[Path] | None, Place("--import", metavar="FILE", help="Read filled forms; serve nothing.")
    ] = None,
    reviewer: Annotated[
        str,
        typer.Option(metavar="NAME", help="Of imported rows without a name; on export, whose judgements to fill in."),
    ] = "",
    report: Annotated[
        bool, typer.Option("--report", help="Print what the judgements say, and write review.json; serve nothing.")
    ] = False,
    precision: Annotated[
        str, typer.Option(metavar="SHARE", help="Find the budget whose precision is at least this, e.g. 90%.")
    ] = "",
    host: Annotated[str, typer.Option(help="Address to listen at.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen at. If it is taken, another one is used.")] = 8765,
    set_: Overrides = NO_OVERRIDES,
) -> None:
    """Judge a blind sample, and compare it with the selection.

    Serves records without their scores as cards to keep or drop (extra `view`). Forms work without a server.
    """
    from mira.cli.reviewed import print_review  # noqa: PLC0415
    from mira.config.loading import load_config  # noqa: PLC0415
    from mira.viewer.review import command as reviewing  # noqa: PLC0415

    settings = load_config(config, [*set_, *([f"review.precision={precision}"] if precision else [])])
    if not (export or import_ or report or precision):
        from mira.viewer.review.serve import serve_review  # noqa: PLC0415

        serve_review(settings, Terminal(), slots=slots, host=host, port=port)
        return
    result = reviewing.review(
        settings, export=export or "", imports=import_ or (), reviewer=reviewer, slots=slots, log=Terminal()
    )
    if report or precision or import_:
        print_review(result)


@app.command(rich_help_panel=LOOK)
def students(config: ConfigPath, set_: Overrides = NO_OVERRIDES) -> None:
    """Compare students with each other and with baselines.

    Shows every cell beside the teacher's own consistency, and estimates the gain from more labels.
    """
    from mira import api  # noqa: PLC0415
    from mira.cli.tables import print_students  # noqa: PLC0415
    from mira.config.loading import load_config  # noqa: PLC0415

    print_students(api.students(load_config(config, set_), log=Terminal()))


@app.command(rich_help_panel=LOOK)
def proxy(
    config: ConfigPath,
    methods: Annotated[str, typer.Option(help="Methods, or METHOD:SCOPE, separated by commas.")] = "raw,mira",
    seeds: Annotated[int, typer.Option(help="Models per method.")] = 3,
    size: Annotated[
        Literal["smoke", "gpu"], typer.Option(help="smoke: minutes on a CPU; gpu: 10M parameters.")
    ] = "smoke",
    set_: Overrides = NO_OVERRIDES,
) -> None:
    """Train tiny LMs on each method's selection.

    All of them see equal numbers of tokens. Held-out bits per byte are compared (extra `train`).
    """
    from mira import api  # noqa: PLC0415
    from mira.cli.tables import print_proxy  # noqa: PLC0415
    from mira.config.loading import load_config  # noqa: PLC0415

    settings = load_config(config, set_)
    print_proxy(api.proxy(settings, names_in(methods), seeds=seeds, size=size, log=Terminal()))
