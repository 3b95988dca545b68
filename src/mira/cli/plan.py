"""The table that `mira plan` prints."""

from rich.console import Console
from rich.table import Table

from mira.cli.fitted import wide_console
from mira.pipeline.plan import PlannedStage
from mira.progress import printable

__all__ = ["print_plan"]


def print_plan(planned: list[PlannedStage], console: Console | None = None) -> None:
    """Print the plan as a table."""
    table = Table(title="What a run would do", title_justify="left")
    for column in ("stage", "state"):
        table.add_column(column)
    for column in ("records", "LLM calls", "tokens in", "tokens out", "cost"):
        table.add_column(column, justify="right")
    for stage in planned:
        paid = f"; {stage.answered:,} replies are there already" if stage.answered else ""
        table.add_row(stage.name, stage.state + paid, *_cells(stage))
    table.add_section()
    table.add_row("all", "of a run", *_cells(_total([stage for stage in planned if stage.in_run])))
    console = console or wide_console()
    console.print(table)
    for stage in planned:
        for note in stage.notes:
            console.print(printable(f"{stage.name}: {note}"), markup=False, highlight=False)
        if stage.sources:
            console.print("New labels:")
        for source, asked in stage.sources.items():
            most = "at most " if asked.at_most else ""
            console.print(printable(f"  {source}: {most}{asked.calls:,} calls; {asked.why}"), markup=False)
        if any(asked.at_most for asked in stage.sources.values()):
            console.print("To keep the groups and rubrics of the last run, and the labels on them: mira freeze CONFIG")


def _cells(stage: PlannedStage) -> list[str]:
    numbers = [f"{n:,}" if n else "" for n in (stage.records, stage.calls, stage.tokens_in, stage.tokens_out)]
    if stage.at_most and stage.calls:
        numbers[1] = f"at most {numbers[1]}"
    return [*numbers, "no price set" if stage.cost is None else f"{stage.cost:,.2f}" if stage.calls else ""]


def _total(planned: list[PlannedStage]) -> PlannedStage:
    costs = [stage.cost for stage in planned if stage.calls]
    cost = None if None in costs else sum(c for c in costs if c is not None)
    calls, tokens_in, tokens_out = (
        sum(getattr(stage, name) for stage in planned) for name in ("calls", "tokens_in", "tokens_out")
    )
    at_most = any(stage.at_most for stage in planned)
    return PlannedStage("all", "", 0, calls, tokens_in, tokens_out, cost, at_most=at_most)
