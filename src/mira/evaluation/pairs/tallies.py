"""From values of pairs to figures and words."""

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from mira.arrays import Floats
from mira.evaluation.pairs.pairs_file import RecordPair
from mira.evaluation.pairs.results import ScorerPairs, Tally
from mira.evaluation.planted import share_of_wins

__all__ = ["findings", "tallies"]

_WORDS = {
    "sees": "sees",
    "does not see": "does not see",
    "prefers the worse": "ranks higher the worse of",
    "too few pairs": "too few pairs to tell about",
    "not scored": "cannot score",
}
_STUDENT, _TEACHER, _OVERALL = "mira", "teacher", "teacher_overall"


def tallies(
    pairs: Sequence[RecordPair],
    better: Floats,
    worse: Floats,
    why: Sequence[str],
    confidence: float = 0.95,
    seed: int = 0,
) -> ScorerPairs:
    """Count how one scorer orders the pairs.

    Args:
        pairs: The pairs.
        better: Value of each better record; NaN if missing.
        worse: Value of each worse record.
        why: For each pair, why it cannot be compared, if it cannot.
        confidence: Of the intervals, in (0, 1).
        seed: Of the bootstrap, where pairs share an id.
    """
    ids = np.unique([f"{p.better.source}\x1f{p.id}" for p in pairs], return_inverse=True)[1].astype(np.int64)
    kinds = np.array([p.kind for p in pairs], dtype=object)
    sources = np.array([p.better.source for p in pairs], dtype=object)
    reasons = np.array(why, dtype=object)

    def of(rows: npt.NDArray[np.bool_]) -> Tally:
        good, bad = better[rows], worse[rows]
        both = np.isfinite(good) & np.isfinite(bad)
        wins = ((good > bad) + (good == bad) / 2)[both]
        share, low, high = share_of_wins(wins, ids[rows][both], confidence, seed)
        unscored = Counter(str(reason) for reason in reasons[rows][~both])
        ties = int((good == bad)[both].sum())
        return Tally(len(good), int(both.sum()), ties, dict(sorted(unscored.items())), share, low, high)

    by_kind = {str(kind): of(kinds == kind) for kind in sorted({*kinds} - {""})}
    by_source = {str(source): of(sources == source) for source in sorted({*sources})}
    every = of(np.ones(len(pairs), np.bool_))
    return ScorerPairs(every, by_kind, by_source, _verdict(every, by_kind or by_source))


def _verdict(every: Tally, parts: Mapping[str, Tally]) -> str:
    """Say what is seen, part by part; of a single part, only that."""
    by_words: dict[str, list[str]] = {}
    for name, tally in (parts if len(parts) > 1 else {"the difference": every}).items():
        by_words.setdefault(tally.words, []).append(f"{name} ({tally})")
    return "; ".join(f"{_WORDS[words]} {', '.join(by_words[words])}" for words in _WORDS if words in by_words)


def findings(scorers: Mapping[str, ScorerPairs]) -> list[str]:
    """Say who sees what the students do not: the teacher, so that a student may learn it, or another method."""
    own = scorers.get(_STUDENT)
    if own is None:
        return []
    parts = _parts(own)
    blind = [name for name, tally in parts.items() if tally.words in ("does not see", "prefers the worse")]
    told = []
    judged = [_parts(scorers[name]) for name in (_TEACHER, _OVERALL) if name in scorers]
    if judged and blind:
        seen = [n for n in blind if any(view[n].words == "sees" for view in judged)]
        unseen = [n for n in blind if n not in seen and any(view[n].words != "not scored" for view in judged)]
        if seen:
            told.append(
                f"The teacher sees {_listed(seen)}, the students do not: they are blind, not the teacher. More labels "
                "of such records, or a stronger student, may help."
            )
        if unseen:
            told.append(
                f"The teacher does not see {_listed(unseen)} either: no student can learn it from this teacher on this "
                "rubric."
            )
    for name, found in scorers.items():
        view = _parts(found)
        better = [n for n in blind if view[n].words == "sees"]
        if better and name not in (_STUDENT, _TEACHER, _OVERALL, "length", "random"):
            told.append(
                f"{name} sees {_listed(better)}, the students do not. A gate may use that (select.gates: "
                f"[{{value: {name}, drop: 10%}}]), but a floor for all records is harder than the order of two: with "
                "the gate in the settings, this command shows what it drops."
            )
    return told


def _parts(found: ScorerPairs) -> dict[str, Tally]:
    return found.kinds if len(found.kinds) > 1 else {next(iter(found.kinds), "the difference"): found.all}


def _listed(names: Sequence[str]) -> str:
    return " and ".join([*([", ".join(names[:-1])] if names[1:] else []), names[-1]])
