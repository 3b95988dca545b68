"""What the command line prints after a selection."""

from rich.console import Console
from rich.table import Table

from mira.files import read_json
from mira.run import RunFolder

__all__ = ["print_summary"]

COUNTS = ("rows", "kept", "dropped", "unscored", "rejected", "tokens_in", "tokens_kept")


def print_summary(run: RunFolder, console: Console | None = None) -> None:
    """Print what was kept of each source, and where the results are."""
    console = console or Console()
    thresholds = read_json(run.thresholds)
    table = Table(title=f"Kept by {thresholds['method']}, scope {thresholds['scope']}", title_justify="left")
    table.add_column("source")
    for column in ("in", "kept", "dropped", "unscored", "rejected", "tokens in", "tokens kept", "share"):
        table.add_column(column, justify="right")
    rows = thresholds["sources"]
    for name, counts in rows.items():
        table.add_row(name, *_cells(counts))
    totals = {key: sum(counts[key] for counts in rows.values()) for key in COUNTS}
    table.add_section()
    table.add_row("all", *_cells(totals))
    console.print(table)
    console.print(f"Kept records: {run.path / 'selected'}", soft_wrap=True)
    console.print(f"Report:       {run.report}", soft_wrap=True)


def _cells(counts: dict[str, int]) -> list[str]:
    numbers = [counts[key] for key in COUNTS]
    share = counts["tokens_kept"] / counts["tokens_in"] if counts["tokens_in"] else 0.0
    return [f"{n:,}" for n in numbers] + [f"{share:.1%}"]
