"""The failure budget: how many records may stay unscored before a stage fails."""

from collections import Counter
from collections.abc import Mapping

from mira.errors import JudgeError
from mira.judging.judgement import Unscored
from mira.progress import Log

__all__ = ["UNANSWERED", "check_failures"]

UNANSWERED = frozenset({Unscored.ENDPOINT_ERROR, Unscored.NOT_RECORDED})
"""Reasons that tell of the endpoint, not of the record: another try may go well."""


def check_failures(unscored: Mapping[str, Counter[str]], total: int, budget: float, log: Log) -> None:
    """Print reason x source of what stayed unscored, and fail above the budget.

    Args:
        unscored: Source -> reason -> records without any score.
        total: Records that were judged.
        budget: Share of `total` that may stay unscored.
        log: Where the table goes.

    Raises:
        JudgeError: More than the budget stayed unscored. What was scored is kept.
    """
    failed = sum(count for counts in unscored.values() for count in counts.values())
    if not failed:
        return
    for source, counts in unscored.items():
        for reason, count in counts.most_common():
            log.note(f"  unscored: {count:>8,}  {reason:<16} {source}")
    if failed > budget * total:
        raise JudgeError(
            f"{failed:,} of {total:,} records stayed unscored ({failed / total:.1%}); "
            f"the failure budget is {budget:.1%}",
            "What was scored is kept; run again to retry what failed at the endpoint, or raise teacher.failure_budget.",
        )
