"""One self-contained HTML page about a run."""

from mira.report.stage import report

__all__ = ["report"]
