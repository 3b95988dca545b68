"""The program `mira` in this process: what a user types, sees and gets as exit status."""

import contextlib
import io
import os
import signal
import subprocess
import sys
import traceback
from pathlib import Path
from unittest.mock import patch

from mira.cli.app import main


def mira_here(*arguments: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run a command as `python -m mira` does, without the second that starting Python and its imports takes."""
    out, err, before = io.StringIO(), io.StringIO(), signal.getsignal(signal.SIGTERM)
    words = ["mira", *map(str, arguments)]
    status = 0
    with (
        contextlib.chdir(cwd or os.curdir),
        patch.object(sys, "argv", words),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        try:
            main()
        except SystemExit as end:
            status = int(end.code or 0)
        except Exception:
            traceback.print_exc()
            status = 1
        finally:
            signal.signal(signal.SIGTERM, before)
    return subprocess.CompletedProcess(words, status, out.getvalue(), err.getvalue())
