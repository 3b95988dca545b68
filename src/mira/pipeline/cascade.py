"""Verb `cascade`: the served student's calls, the selection where it ranks by them, and what they changed."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mira.config.loading import load_config
from mira.pipeline.runner import run_extra, run_stages
from mira.progress import Log
from mira.rescoring.report import report_cascade
from mira.rescoring.served import run_cascade

__all__ = ["cascade"]


def cascade(path: Path, overrides: Sequence[str], log: Log) -> dict[str, Any]:
    """Have a served student judge again what is near the thresholds; write cascade/ and cascade.json.

    With `select.scores: cascade` the run's selection is brought up to date, too.

    Args:
        path: The settings file.
        overrides: As in `load_config`.
        log: Where progress goes.

    Returns:
        Per source, what `mira.rescoring.cascade.cascade` tells.

    Raises:
        MiraError: There is no run yet, no student is served, or it does not answer.
    """
    summary = run_extra(path, overrides, run_cascade, log)
    config = load_config(path, overrides)
    selects = config.select.scores == "cascade"
    if selects:
        run_stages(config, ["select"], log)
    run_extra(path, overrides, report_cascade, log)
    if selects:
        run_stages(config, ["report"], log)
    return summary
