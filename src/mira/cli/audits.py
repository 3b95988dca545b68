"""Commands that say what a scorer, or a change, is worth: audit, diff."""

from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console

from mira.cli.fitted import print_fitted, wide_console
from mira.cli.options import NO_OVERRIDES, Overrides, Place, RunArgument
from mira.cli.program import LOOK, app, say
from mira.errors import ConfigError
from mira.evaluation.audit.results import Agreed, AuditResult, ScorerAudit
from mira.evaluation.diff.results import DiffResult, SlotDiff
from mira.evaluation.results import Estimate
from mira.progress import Terminal, printable
from mira.run_folder.probe import probe

__all__ = ["print_audit", "print_diff"]

NONE: list[str] = []


@app.command(rich_help_panel=LOOK)
def audit(
    config: Annotated[Path | None, typer.Argument(metavar="[CONFIG]", help="The settings of a run.")] = None,
    scorer: Annotated[
        list[str], typer.Option("--scorer", help="quality, or a name of `scores`. May be repeated. Default: all.")
    ] = NONE,
    by: Annotated[
        list[str],
        typer.Option("--by", help="Field of the records, such as meta.lang: judged unequally? Repeatable."),
    ] = NONE,
    against: Annotated[
        str, typer.Option(help="Another scorer (with --scores: column or Parquet file), to measure drift against.")
    ] = "",
    reference: Annotated[
        str, typer.Option(help="A scorer (with --scores: column or Parquet file) that stands in for the teacher.")
    ] = "",
    scores: Annotated[
        list[str], typer.Option("--scores", help="Without a run: Parquet files with ids and scores. May be repeated.")
    ] = NONE,
    column: Annotated[str, typer.Option(help="With --scores: column with the scores.")] = "",
    input_: Annotated[
        list[str], typer.Option("--input", help="With --scores: files with the records, or globs. May be repeated.")
    ] = NONE,
    id_: Annotated[str, typer.Option("--id", help="With --scores: column of the files with the ids.")] = "id",
    id_field: Annotated[str, typer.Option(help="With --scores: field of the records with the id.")] = "id",
    text_field: Annotated[str, typer.Option(help="With --scores: field of the records with the text.")] = "text",
    source_field: Annotated[
        str, typer.Option(help="With --scores: field of the records with their source. Default: the file's name.")
    ] = "",
    family: Annotated[str, typer.Option(help="With --scores: text, qa, qa_with_think or agent.")] = "text",
    better: Annotated[Literal["higher", "lower"], typer.Option(help="With --scores: which way is better.")] = "higher",
    json_: Annotated[Path | None, Place("--json", metavar="FILE", help="Also write the figures here.")] = None,
    set_: Overrides = NO_OVERRIDES,
) -> None:
    """Audit a scorer: can it be believed, and where not?

    Takes a run's student and foreign scores, or a file of scores without any run. Shows agreement, what the source
    alone explains, length, ties, strata at equal quality, planted faults and drift.
    """
    from mira.auditing import verbs  # noqa: PLC0415
    from mira.config.loading import load_config  # noqa: PLC0415
    from mira.evaluation.audit.bare import BareFiles  # noqa: PLC0415
    from mira.run_folder.results import write_result  # noqa: PLC0415

    if json_ is not None:
        probe(json_, "--json")
    if (config is None) == (not scores):
        raise ConfigError(
            "audit: expected the settings of a run, or --scores",
            "For example: mira audit mira.yaml, or: mira audit --scores scores.parquet --column quality --input "
            "'data/*.jsonl'",
        )
    if config is not None:
        bare = {
            "--column": column != "", "--input": bool(input_), "--id": id_ != "id", "--id-field": id_field != "id",
            "--text-field": text_field != "text", "--source-field": source_field != "", "--family": family != "text",
            "--better": better != "higher",
        }  # fmt: skip
        if any(bare.values()):
            given = ", ".join(option for option, is_given in bare.items() if is_given)
            raise ConfigError(f"audit: {given}: only with --scores", "Name a run's scores with --scorer.")
        settings = load_config(config, set_)
        result = verbs.audit(settings, scorer, by=by, against=against, reference=reference, log=Terminal())
    else:
        files = BareFiles(
            scores=scores, column=column, input=input_, id=id_, id_field=id_field, text_field=text_field,
            source_field=source_field,
            family=family, better=better, against=against, reference=reference,
        )  # fmt: skip
        result = verbs.audit(by=by, files=files, log=Terminal())
    print_audit(result)
    if json_ is not None:
        write_result(json_, result)
        say(f"Wrote {json_}")


@app.command(rich_help_panel=LOOK)
def diff(
    run_a: Annotated[Path, RunArgument(metavar="RUN_A", help="A run folder, or the settings of a run.")],
    run_b: Annotated[Path, RunArgument(metavar="RUN_B", help="The run to compare it with.")],
    flips: Annotated[int, typer.Option(min=0, help="Flipped records to show per source.")] = 3,
    json_: Annotated[Path | None, Place("--json", metavar="FILE", help="Also write all figures here.")] = None,
) -> None:
    """Say what changed between two runs, and why.

    Settings, rubrics, labels, students, masks, thresholds; ranks by source and slot; records that flipped, with what
    moved them. Nothing is written into the runs.
    """
    from mira.auditing import verbs  # noqa: PLC0415
    from mira.run_folder.results import write_result  # noqa: PLC0415

    if json_ is not None:
        probe(json_, "--json")
    result = verbs.diff(run_a, run_b, flips=flips, log=Terminal())
    print_diff(result)
    if json_ is not None:
        write_result(json_, result)
        say(f"Wrote {json_}")


def print_diff(result: DiffResult, console: Console | None = None) -> None:
    """Print what changed between two runs: the findings, a table of sources, one of slots, and flipped records."""
    console = console or wide_console()
    for line in (f"A: {result.a}", f"B: {result.b}", *(f"  - {one}." for one in result.summary)):
        console.print(printable(line), soft_wrap=True, markup=False, highlight=False)
    columns = ("both", "only A", "only B", "kept A", "kept B", "gained", "lost", "rho", "by threshold", "by slots")
    rows = []
    for source, one in result.sources.items():
        counts = (one.both, one.only_a, one.only_b, one.kept_a, one.kept_b, one.gained, one.lost)
        decided = (f"{one.by_threshold:,}", f"{one.by_slots:,}")
        rows.append((source, *(f"{n:,}" for n in counts), _number(one.rho), *decided))
    print_fitted(console, "Records", ("source", *columns), rows)
    slots = [
        (f"{source} {slot}", _number(one.rho), f"{one.shift or 0:+.2f}", _used(one), f"{one.decided:,}")
        for source, found in result.sources.items()
        for slot, one in found.slots.items()
        if one.decided or one.used_a != one.used_b or (one.rho is not None and one.rho < 0.95)
    ]
    if slots:
        print_fitted(console, "Slots that changed", ("slot", "rho", "shift", "used in", "records decided"), slots)
    if result.flips:
        flips = [
            (
                f"{one.source}/{one.id}",
                one.kept_in,
                _number(one.quality_a),
                _number(one.quality_b),
                one.why,
                _number(one.by),
            )
            for one in result.flips
        ]
        print_fitted(console, "Records that flipped", ("record", "kept in", "A", "B", "moved by", "how far"), flips)
    for note in result.notes:
        console.print(printable(f"Note: {note}."), soft_wrap=True, markup=False, highlight=False)


def _used(one: SlotDiff) -> str:
    return {(True, True): "both", (True, False): "A", (False, True): "B"}.get((one.used_a, one.used_b), "none")


def print_audit(result: AuditResult, console: Console | None = None) -> None:
    """Print what an audit found: a table with a column per scorer, a table per source, and the verdicts."""
    console = console or wide_console()
    names = list(result.scorers)
    audits = list(result.scorers.values())
    rows = [(what, *cells) for what, cells in _rows(audits) if any(cell != "-" for cell in cells)]
    title = f"Audit of {result.records:,} records; rank figures over {result.sampled:,} of them"
    print_fitted(console, title, ("", *names), rows)
    sources = list(dict.fromkeys(source for one in audits for source in one.sources))
    if len(sources) <= 50:
        cells = [(source, *(_of_source(one, source) for one in audits)) for source in sources]
        print_fitted(console, "Mean by source, and rho with the teacher or reference", ("source", *names), cells)
    for name, one in result.scorers.items():
        console.print(printable(f"{name}:"), markup=False, highlight=False)
        for verdict in one.verdicts:
            console.print(printable(f"  - {verdict}."), soft_wrap=True, markup=False, highlight=False)
    for note in result.notes:
        console.print(printable(f"Not measured: {note}."), soft_wrap=True, markup=False, highlight=False)


def _rows(audits: list[ScorerAudit]) -> list[tuple[str, list[str]]]:
    return [
        ("records with a score", [f"{a.scored:,} of {a.records:,}" for a in audits]),
        ("distinct scores", [f"{a.distinct:,}" for a in audits]),
        ("records at the median score", [_percent(a.at_median) for a in audits]),
        ("mean and standard deviation", [f"{_number(a.mean)} and {_number(a.spread)}" for a in audits]),
        ("AUC of the source alone", [_number(a.source_auc) for a in audits]),
        ("variance between sources", [_percent(a.source_share) for a in audits]),
        ("rho with length, within sources", [_number(a.length_rho) for a in audits]),
        ("rho with teacher or reference, within", [_interval(a.teacher, "within") for a in audits]),
        ("rho with teacher or reference, across", [_interval(a.teacher, "across") for a in audits]),
        ("rho with humans, within", [_interval(a.humans, "within") for a in audits]),
        ("planted faults seen", [_percent(a.planted.accuracy if a.planted else None) for a in audits]),
        ("rho with the other set", [_number(a.drift.rho if a.drift else None) for a in audits]),
        ("records in both sets", [f"{a.drift.both:,}" if a.drift else "-" for a in audits]),
    ]


def _of_source(audit: ScorerAudit, source: str) -> str:
    found = audit.sources.get(source)
    if found is None:
        return "-"
    rho = audit.teacher.sources.get(source) if audit.teacher else None
    return f"{_number(found.mean)}{f', rho {_shown(rho)}' if rho and rho.value is not None else ''}"


def _interval(found: Agreed | None, which: Literal["within", "across"]) -> str:
    return _shown(getattr(found, which)) if found else "-"


def _shown(estimate: Estimate) -> str:
    if estimate.value is None:
        return "-"
    return f"{estimate.value:.2f} [{_number(estimate.low)}, {_number(estimate.high)}]"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.1%}"
