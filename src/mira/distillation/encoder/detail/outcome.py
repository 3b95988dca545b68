"""How an agent's trace goes and ends: steps, failures by where they are, edits without a test, the last word."""

import re
from collections.abc import Sequence

import numpy as np

from mira.corpus.record import Part
from mira.distillation.encoder.trace import Call, is_error, read_trace

__all__ = ["OUTCOME", "outcome"]

OUTCOME = (
    "steps", "steps_a_turn", "failed", "failed_share", "failed_late", "failed_again", "longest_failing_run",
    "repeated_calls", "edits", "edit_share", "edits_untested", "edits_untested_share", "tests_run", "tests_failed",
    "test_after_last_edit", "last_test_failed", "reads_before_edit",
    "last_call_failed", "last_result_unanswered", "last_word_chars", "last_word_success", "last_word_failure",
    "last_word_question", "last_word_apology",
)  # fmt: skip
"""Names of the features, in order."""

_EDIT = re.compile(
    r"edit|write|patch|replace|insert|create|append|save|overwrite|update_file|sed -i|\btee\b|>>? ?[\w./]+|"
    r"open\([^)]*['\"][wa]",
    re.IGNORECASE,
)
_TEST = re.compile(
    r"pytest|unittest|\btox\b|\btests?\b|run_tests|\bassert\b|npm test|cargo test|go test", re.IGNORECASE
)
_READ = re.compile(r"read|cat |open|view|\bls\b|list|grep|find|search|show|get", re.IGNORECASE)
_SUCCESS = re.compile(
    r"\b(?:done|success\w*|complet\w+|finish\w+|fixed|resolved|passes|passed|works|updated|added|created)\b", re.I
)
_FAILURE = re.compile(
    r"\b(?:fail\w*|unable|cannot|could not|couldn't|error|not found|unfortunately|impossible)\b", re.I
)
_APOLOGY = re.compile(r"\b(?:sorry|apolog\w+)\b", re.IGNORECASE)


def outcome(parts: Sequence[Part]) -> list[float]:
    """Return the features of an agent record, all finite: flags, shares, and logs of counts."""
    trace = read_trace(parts)
    failed = [call.result is not None and is_error(call.result) for call in trace.calls]
    found = {**_failures(trace.calls, failed), **_edits(trace.calls, failed)}
    last = trace.answers[-1].strip() if trace.answers else ""
    found |= {
        "steps": _log(len(trace.roles)),
        "steps_a_turn": _log(len(trace.roles) / max(len(trace.requests), 1)),
        "last_result_unanswered": float(bool(trace.roles) and trace.roles[-1] == "tool"),
        "last_word_chars": _log(len(last)),
        "last_word_success": float(bool(_SUCCESS.search(last))),
        "last_word_failure": float(bool(_FAILURE.search(last))),
        "last_word_question": float(last.endswith("?")),
        "last_word_apology": float(bool(_APOLOGY.search(last))),
    }
    return [found[name] for name in OUTCOME]


def _log(count: float) -> float:
    return float(np.log1p(count))


def _share(part: float, whole: float) -> float:
    return part / whole if whole else 0.0


def _failures(calls: Sequence[Call], failed: Sequence[bool]) -> dict[str, float]:
    late = failed[len(failed) * 2 // 3 :]
    keys = [(call.name, call.arguments) for call in calls]
    seen: set[tuple[str, str]] = set()
    again = run = longest = 0
    for key, bad in zip(keys, failed, strict=True):
        again += bad and key in seen
        run = run + 1 if bad else 0
        longest = max(longest, run)
        if bad:
            seen.add(key)
    return {
        "failed": _log(sum(failed)),
        "failed_share": _share(sum(failed), len(failed)),
        "failed_late": _share(sum(late), len(late)),
        "failed_again": _log(again),
        "longest_failing_run": _log(longest),
        "repeated_calls": _log(len(keys) - len(set(keys))),
        "last_call_failed": float(bool(failed) and failed[-1]),
    }


def _edits(calls: Sequence[Call], failed: Sequence[bool]) -> dict[str, float]:
    said = [f"{call.name} {call.arguments}" for call in calls]
    tests = [i for i, text in enumerate(said) if _TEST.search(text)]
    edits = [i for i, text in enumerate(said) if _EDIT.search(text) and i not in tests]
    untested = [i for i in edits if not any(t > i for t in tests)]
    reads = [i for i, text in enumerate(said) if _READ.search(text)]
    return {
        "edits": _log(len(edits)),
        "edit_share": _share(len(edits), len(calls)),
        "edits_untested": _log(len(untested)),
        "edits_untested_share": _share(len(untested), len(edits)),
        "tests_run": _log(len(tests)),
        "tests_failed": _share(sum(failed[i] for i in tests), len(tests)),
        "test_after_last_edit": float(bool(edits) and not untested),
        "last_test_failed": float(bool(tests) and failed[tests[-1]]),
        "reads_before_edit": _share(sum(any(r < i for r in reads) for i in edits), len(edits)),
    }
