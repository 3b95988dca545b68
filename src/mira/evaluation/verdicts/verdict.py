"""A verdict on a student, in one line: how far it orders like the teacher, and what it does not see."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

__all__ = ["NOT_EVALUATED", "Interval", "Share", "Verdict", "sees", "verdict", "verdict_of_all"]

Interval = tuple[float, float, float]
"""A figure, and the lower and upper end of its interval."""

NOT_EVALUATED = "not evaluated: run mira evaluate"
_LIKE, _MUCH = 0.9, 0.5
_GUESSING, _SEEN = 0.5, 0.75


@dataclass(frozen=True, slots=True)
class Share:
    """Share of pairs in which the better record has the higher value (ties count half), and its interval."""

    value: float
    low: float
    high: float
    pairs: int

    @property
    def words(self) -> str:
        """What the interval says: "sees", "does not see", "prefers the worse" or "too few pairs".

        Seen: all of it lies above 1/2. The worse are preferred: all of it lies below. Too few pairs: it holds 1/2 and
        3/4. The rules are ours.
        """
        return sees(self.low, self.high)


def sees(low: float, high: float) -> str:
    """Return what the interval of a share says; see `Share.words`."""
    if low > _GUESSING:
        return "sees"
    if high < _GUESSING:
        return "prefers the worse"
    return "too few pairs" if high >= _SEEN else "does not see"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the figures of an evaluation come to, for one student or for all.

    Attributes:
        text: The verdict in words.
        student: Hash of the bundle's list of sums; "" where the verdict is on several students.
        rho: Spearman's rho with the teacher over held-out labels, within sources, and its interval; None if unknown.
        of_ceiling: Its share of the agreement that the teacher has with itself, and its interval; None if unknown.
        faults: Planted fault -> share of pairs in which the original has the higher quality.
    """

    text: str = NOT_EVALUATED
    student: str = ""
    rho: Interval | None = None
    of_ceiling: Interval | None = None
    faults: dict[str, Share] = field(default_factory=dict)

    @property
    def order(self) -> str:
        """How far the student orders like the teacher, in words.

        "orders like the teacher" if the interval of its share of the teacher's agreement with itself lies above 90%,
        "much like" above 50%, "somewhat like" if its rho lies above 0. The rules are ours.
        """
        if self.rho is None:
            return "was not compared with the teacher"
        if self.rho[1] <= 0:
            return "does not order like the teacher"
        low = self.of_ceiling[1] if self.of_ceiling else 0.0
        return f"orders {'' if low > _LIKE else 'much ' if low > _MUCH else 'somewhat '}like the teacher"


def verdict(
    rho: Interval | None, of_ceiling: Interval | None, faults: Mapping[str, Share], student: str = ""
) -> Verdict:
    """Put the figures of one student in words; see `Verdict` for the arguments."""
    silent = Verdict("", student, rho, of_ceiling, dict(faults))
    figures = f" (rho {rho[0]:.2f} [{rho[1]:.2f}, {rho[2]:.2f}]" if rho else ""
    if rho and of_ceiling:
        figures += f", {of_ceiling[0]:.0%} [{of_ceiling[1]:.0%}, {of_ceiling[2]:.0%}] of the teacher's own agreement"
    return replace(silent, text="; ".join([f"{silent.order}{figures}{')' if figures else ''}", *_told(faults)]))


def verdict_of_all(groups: Mapping[str, Verdict], faults: Mapping[str, Share]) -> Verdict:
    """Put the figures of all groups in words: how each orders, and what all of them together do not see."""
    by_order: dict[str, list[str]] = {}
    for group, found in groups.items():
        share = f" ({found.of_ceiling[0]:.0%} of the teacher's own agreement)" if found.of_ceiling else ""
        by_order.setdefault(found.order, []).append(f"{group}{share}")
    told = [f"{order} in {', '.join(named)}" for order, named in by_order.items()]
    return Verdict("; ".join([*told, *_told(faults)]) or NOT_EVALUATED, faults=dict(faults))


def _told(faults: Mapping[str, Share]) -> list[str]:
    """Say what is not seen; where everything is, say that."""
    by_words: dict[str, list[str]] = {}
    for fault, share in faults.items():
        by_words.setdefault(share.words, []).append(f"{fault.replace('_', ' ')} ({share.value:.0%})")
    told = [f"{_WORDS[words]} {', '.join(by_words[words])}" for words in _WORDS if words in by_words]
    return told or ([f"sees every planted fault: {', '.join(by_words['sees'])}"] if faults else [])


_WORDS = {
    "does not see": "does not see",
    "prefers the worse": "ranks higher",
    "too few pairs": "too few pairs to tell about",
}
