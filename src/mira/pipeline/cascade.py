"""Verb `cascade`: the served student's calls, the selection where it ranks by them, and what they changed."""

from dataclasses import dataclass

from mira.config.settings import Config
from mira.pipeline.runner import refresh_report, run_extra, run_stages
from mira.progress import Log
from mira.rescoring.report import report_cascade
from mira.rescoring.served import run_cascade

__all__ = ["CascadedSource", "cascade"]


@dataclass(frozen=True, slots=True, kw_only=True)
class CascadedSource:
    """What the served student judged of one source.

    Attributes:
        records: Scored records of the source.
        near: Records that were judged because they are near the threshold.
        audit: Records that were judged because they are in the random audit slice.
        calls: Judged records: near and audit, each counted once.
        saved: Records that were not judged.
        unscored: Reason -> calls without an answer; the cheap scores stay there.
        reach: How far from the threshold records were judged, in the cheap student's errors; None for none.
        audited: Records of the audit slice that both students scored.
        audit_difference: Mean absolute difference of both students' mean scores there; None without such records.
        audit_rho: Spearman's rho of the two; None if it is undefined.
    """

    records: int
    near: int
    audit: int
    calls: int
    saved: int
    unscored: dict[str, int]
    reach: float | None
    audited: int
    audit_difference: float | None
    audit_rho: float | None


def cascade(config: Config, log: Log) -> dict[str, CascadedSource]:
    """Have a served student judge again what is near the thresholds; write cascade/ and cascade.json.

    With `select.scores: cascade` the run's selection is brought up to date, too.

    Args:
        config: The settings.
        log: Where progress goes.

    Returns:
        Source -> what was judged of it.

    Raises:
        MiraError: There is no run yet, no student is served, or it does not answer.
    """
    summary = run_extra(config, run_cascade, log)
    selects = config.select.scores == "cascade"
    if selects:
        run_stages(config, ["select"], log)
    run_extra(config, report_cascade, log)
    if selects:
        refresh_report(config, log)
    return {source: CascadedSource(**told) for source, told in summary.items()}
