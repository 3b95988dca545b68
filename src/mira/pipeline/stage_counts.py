"""Reads the summary of a finished stage: whether it keeps the failure budget, and whether it waits for replies."""

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from mira.config.settings import Config
from mira.errors import RunError
from mira.llm.failures import check_failures
from mira.progress import Quiet
from mira.run_folder.files import hash_json
from mira.run_folder.paths import RunFolder
from mira.selection.methods.method import find_method
from mira.unscored import Unscored

__all__ = ["awaits_replies", "check_budget", "journal_state"]

_UNSCORED = "unscored:"  # how a selection names such reasons


def check_budget(config: Config, stage: str, summary: Mapping[str, Any]) -> None:
    """Check a finished stage's counts against the failure budget of today.

    Args:
        config: The settings.
        stage: The stage's name; only those that judge have a budget.
        summary: What the manifest says of its last run.

    Raises:
        JudgeError: More records are unscored than the budget allows.
        RunError: The summary has another form than mira writes.
    """
    try:
        judged = list(_judged(config, stage, summary))
    except (KeyError, TypeError, AttributeError, ValueError):
        raise RunError(
            f"manifest.json: stages.{stage}.summary has another form than mira writes",
            f"Run the stage again: mira {stage} CONFIG --force",
        ) from None
    for unscored, total in judged:
        check_failures(unscored, total, config.teacher.failure_budget, Quiet())


def _judged(config: Config, stage: str, summary: Mapping[str, Any]) -> Iterator[tuple[dict[str, Counter[str]], int]]:
    groups = summary.get("groups") or {}
    if stage == "discover":
        yield from ((_counts(g["unscored"]), g["asked"]) for g in groups.values() if "asked" in g)
    elif stage == "label":
        merged = {source: Counter(c) for group in groups.values() for source, c in group["unscored"].items()}
        yield merged, sum(group["judgements"] for group in groups.values())
    elif stage == "score":
        yield _counts(summary["unscored"]), sum(summary["rows"].values())
    elif stage == "select" and summary["method"] == (method := config.select.method):
        if find_method(method).endpoint(config.select) is None:
            return
        sources = summary["sources"]
        unscored = {source: _rated(counts["reasons"]) for source, counts in sources.items()}
        yield unscored, sum(counts["records_in"] for counts in sources.values())


def _rated(reasons: Mapping[str, int]) -> Counter[str]:
    """Return the reasons that the endpoint, or what it said, is at fault for."""
    named = {why.removeprefix(_UNSCORED): n for why, n in reasons.items() if why.startswith(_UNSCORED)}
    return Counter({why: n for why, n in named.items() if why in set(Unscored)})


def _counts(given: Mapping[str, Mapping[str, int]]) -> dict[str, Counter[str]]:
    return {source: Counter(counts) for source, counts in given.items()}


def awaits_replies(summary: Any) -> bool:
    """Return whether a stage lacked replies that were never requested: they may have been imported since."""
    if not isinstance(summary, Mapping):
        return False
    names = (Unscored.NOT_RECORDED, f"{_UNSCORED}{Unscored.NOT_RECORDED}")
    return any((name in names and value) or awaits_replies(value) for name, value in summary.items())


def journal_state(run: RunFolder) -> str:
    """Return the hash of the names and sizes of the journal's files, which only grow."""
    return hash_json([[path.name, path.stat().st_size] for path in sorted(run.journal.glob("*.jsonl.zst"))])
