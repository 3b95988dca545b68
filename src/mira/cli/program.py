"""The program `mira`: its name, its groups of commands in the help, and how it speaks."""

import typer
from typer.core import TyperGroup

from mira._version import __version__
from mira.progress import printable

__all__ = ["CLUSTER", "LOOK", "RUN", "SCORERS", "STAGES", "START", "app", "say"]

START = "Start"
RUN = "Run"
STAGES = "Stages, one by one"
CLUSTER = "On a cluster"
LOOK = "Look at a run"
SCORERS = "Scorers"


class _Grouped(TyperGroup):
    """Lists commands by use, each with one line."""

    def format_commands(self, ctx: typer.Context, formatter: object) -> None:  # type: ignore[override]
        """Write the commands of each group under its heading."""
        for panel in (START, RUN, STAGES, CLUSTER, LOOK, SCORERS):
            commands = [(name, self.commands[name]) for name in self.list_commands(ctx)]
            rows = [
                (name, command.get_short_help_str(limit=90))
                for name, command in commands
                if not command.hidden and getattr(command, "rich_help_panel", None) == panel
            ]
            with formatter.section(panel):  # type: ignore[attr-defined]
                formatter.write_dl(rows)  # type: ignore[attr-defined]

    def parse_args(self, ctx: typer.Context, args: list[str]) -> list[str]:  # type: ignore[override]
        """Read the arguments; forms of earlier versions keep working."""
        return super().parse_args(ctx, _as_today(args))

    def list_commands(self, ctx: typer.Context) -> list[str]:  # type: ignore[override]
        """Return the commands in the order in which they are declared."""
        return list(self.commands)


app = typer.Typer(
    name="mira",
    cls=_Grouped,
    help="Choose the training data of language models' mid-training by quality, source by source.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


def _as_today(args: list[str]) -> list[str]:
    """Return the arguments in today's form: `score --bundle X` and `score --judge URL` have commands of their own."""
    if args[:1] != ["score"]:
        return args
    rest = args[1:]
    for at, arg in enumerate(rest):
        if arg == "--bundle" or arg.startswith("--bundle="):
            inline = arg.partition("=")[2]
            given = [inline] if inline else rest[at + 1 : at + 2]
            typer.echo("mira score --bundle BUNDLE is now: mira score-bundle BUNDLE", err=True)
            return ["score-bundle", *given, *rest[:at], *rest[at + (1 if inline else 2) :]]
    if any(arg == "--judge" or arg.startswith("--judge=") for arg in rest):
        typer.echo("mira score --judge URL is now: mira score-endpoint --judge URL", err=True)
        return ["score-endpoint", *rest]
    return args


def say(text: object) -> None:
    """Print a line; control characters that a corpus may hold do not reach the terminal."""
    typer.echo(printable(f"{text}"))


def _version(value: bool) -> None:
    if value:
        typer.echo("mira " + __version__)
        raise typer.Exit


@app.callback()
def options(
    version: bool = typer.Option(
        False, "--version", callback=_version, is_eager=True, help="Show the version and exit."
    ),
) -> None:
    """Choose the training data of language models' mid-training by quality, source by source."""
