"""Run the command line: commands, exit codes, signals, and messages instead of tracebacks."""

import os
import signal
import sys
import threading

import typer
from rich.console import Console

from mira.cli import audits, cluster, look, scorers, stages
from mira.cli.program import app
from mira.errors import ConfigError, MiraError, refused_by_system
from mira.progress import printable

__all__ = ["app", "main"]

COMMANDS = (stages, cluster, look, audits, scorers)
"""The modules whose commands the program has; importing them adds the commands."""

INTERRUPTED = 130  # what typer returns for Ctrl-C
TERMINATED = 143  # 128 + SIGTERM, as shells say it


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
            problem = str(error).strip().partition("\n")[0]
            console.print(f"error: a file of the run folder cannot be read: {problem}", markup=False, style="red")
            console.print("  Check its permissions; or remove it, and run its stage again with --force.", style="red")
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
