"""The failure budget: how many records may stay unscored before a stage fails, and when that is certain."""

from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

from mira.errors import JudgeError
from mira.llm.responses.excerpt import excerpt
from mira.llm.responses.reply import Reply
from mira.progress import Log
from mira.unscored import Unscored

__all__ = ["UNANSWERED", "Failures", "check_failures"]

UNANSWERED = frozenset({Unscored.ENDPOINT_ERROR, Unscored.NOT_RECORDED})
"""Reasons that tell of the endpoint, not of the record: another try may go well."""

_LEAST = 20  # records judged before a stage may stop early [ours]
_QUOTED = 200
_WAYS_OUT = {
    Unscored.ENDPOINT_ERROR: (
        "Run again to retry what failed at the endpoint; what the server rejects, mend by its words above."
    ),
    Unscored.NOT_RECORDED: (
        "With teacher.offline nothing is sent: write the requests with --export FILE (mira discover, label or score), "
        "run them, and read the results with --import FILE."
    ),
    Unscored.OVERFLOW: "Some records do not fit: look at max_model_len and max_tokens.",
    Unscored.REFUSED: "The endpoint's filter or the model declines: another teacher may not.",
    Unscored.TRUNCATED: "Replies end too soon: raise max_tokens, or turn the model's thinking mode off (extra_body).",
}
_UNREADABLE = (
    "Look at the replies: can the model follow the form? Is max_tokens enough? Does a thinking mode get in the way?"
)


class Failures:
    """Counts what stays unscored while a stage goes on, and stops it once the failure budget is certain to be exceeded.

    What nothing was sent for (NOT_RECORDED) does not stop it: it costs nothing, and the whole number is worth knowing.

    Args:
        total: Records that the stage is to judge.
        budget: Share of them that may stay unscored.
        journal: The journal's folder, for the message.

    Attributes:
        reply: The first reply that brought no score, in a few words, or "".
    """

    def __init__(self, total: int, budget: float, journal: Path) -> None:
        self.reply = ""
        self._total, self._budget, self._journal = total, budget, journal
        self._seen = 0
        self._reasons: Counter[str] = Counter()

    def add(self, reason: str | None, reply: Reply | None = None) -> None:
        """Count a record.

        Args:
            reason: Why it is unscored; None where it is scored.
            reply: The reply, where there was one.

        Raises:
            JudgeError: More than the budget stay unscored, whatever comes now.
        """
        self._seen += 1
        if reason is None:
            return
        self._reasons[str(reason)] += 1
        if reply is not None and not self.reply:
            self.reply = _told(reply)
        failed = self._reasons.total() - self._reasons[Unscored.NOT_RECORDED]
        if reason != Unscored.NOT_RECORDED and self._seen >= _LEAST and failed > self._budget * self._total:
            raise JudgeError(
                f"stopped early: of the first {self._seen:,} records {failed:,} stayed unscored "
                f"({_counted(self._reasons)}); the failure budget is {self._budget:.1%} of {self._total:,}"
                + self.evidence,
                _way_out(self._reasons),
            )

    @property
    def evidence(self) -> str:
        """The first bad reply, and where all of them are, as the end of a message; "" where there is none."""
        if not self.reply:
            return ""
        return f". A reply: {self.reply}. All replies: zstd -dc {self._journal}/*.jsonl.zst"


def check_failures(
    unscored: Mapping[str, Counter[str]], total: int, budget: float, log: Log, evidence: str = ""
) -> None:
    """Print reason x source of what stayed unscored, and fail above the budget.

    Args:
        unscored: Source -> reason -> records without any score.
        total: Records that were judged.
        budget: Share of `total` that may stay unscored.
        log: Where the table goes.
        evidence: Ends the message: `Failures.evidence`.

    Raises:
        JudgeError: More than the budget stayed unscored. What was scored is kept.
    """
    reasons: Counter[str] = sum(unscored.values(), Counter())
    failed = reasons.total()
    if not failed:
        return
    for source, counts in unscored.items():
        for reason, count in counts.most_common():
            log.note(f"  unscored: {count:>8,}  {reason:<16} {source}")
    if failed > budget * total:
        raise JudgeError(
            f"{failed:,} of {total:,} records stayed unscored ({failed / total:.1%}: {_counted(reasons)}); "
            f"the failure budget is {budget:.1%}{evidence}",
            f"What was scored is kept. {_way_out(reasons)}",
        )


def _way_out(reasons: Iterable[str]) -> str:
    """Return what can be done about the reasons, the first one first."""
    ways = dict.fromkeys(_WAYS_OUT.get(Unscored(reason), _UNREADABLE) for reason in reasons)
    return " ".join([*ways, "Or raise teacher.failure_budget."])


def _counted(reasons: Counter[str]) -> str:
    return ", ".join(f"{count:,} {reason}" for reason, count in reasons.most_common())


def _told(reply: Reply) -> str:
    said = reply.text or reply.refusal
    thinking = f", after {len(reply.reasoning):,} characters of thinking" if reply.reasoning else ""
    return excerpt(said, _QUOTED) + thinking
