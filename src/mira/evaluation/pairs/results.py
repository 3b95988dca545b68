"""The result of `mira evaluate --pairs`: the content of pairs.json."""

from dataclasses import dataclass, field

from mira.evaluation.agreement_figures import GateCatch
from mira.evaluation.verdicts.verdict import sees
from mira.html import block, paragraph, table

__all__ = ["PairsPlan", "PairsResult", "ScorerPairs", "Tally"]


@dataclass(frozen=True, slots=True)
class Tally:
    """How one scorer orders some pairs; None where none is compared.

    Attributes:
        pairs: Pairs: those that are compared, and those that are not.
        compared: Pairs in which both records have a value.
        ties: Pairs with equal values; each counts as half.
        unscored: Why others are not compared -> pairs.
        share: Share of the compared pairs in which the better record has the higher value.
        low: Lower end of its interval.
        high: Upper end.
    """

    pairs: int = 0
    compared: int = 0
    ties: int = 0
    unscored: dict[str, int] = field(default_factory=dict)
    share: float | None = None
    low: float | None = None
    high: float | None = None

    @property
    def words(self) -> str:
        """What the interval says; see `mira.evaluation.verdicts.verdict.Share.words`."""
        return "not scored" if self.low is None or self.high is None else sees(self.low, self.high)

    def __str__(self) -> str:
        """Return the figures in words."""
        if self.share is None:
            return "no pair can be scored"
        ties = f", {self.ties} ties" if self.ties else ""
        return f"{self.share:.0%} [{self.low:.0%}, {self.high:.0%}] of {self.compared} pairs{ties}"


@dataclass(frozen=True, slots=True)
class ScorerPairs:
    """How one scorer orders the pairs.

    Attributes:
        all: All pairs.
        kinds: By kind.
        sources: By source.
        verdict: What it sees and does not see, in words.
    """

    all: Tally
    kinds: dict[str, Tally] = field(default_factory=dict)
    sources: dict[str, Tally] = field(default_factory=dict)
    verdict: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PairsResult:
    """Pairs of a better and a worse record, ordered by every scorer.

    Attributes:
        file: The file's name.
        lines: Its lines: pairs, and lines that are not pairs.
        pairs: Pairs.
        rejected: Why lines are not pairs -> lines.
        problems: The first of them, with file, line and field.
        assumed: Source -> pairs that name no source and are taken as its records.
        scorers: Scorer -> its figures; "mira" stands for the students, "teacher" for the teacher's scores of the same
            slots, "teacher_overall" for its overall score.
        findings: What the figures come to, in words.
        gates: Gate of `select.gates` -> kind of pair -> what it drops.
    """

    file: str
    lines: int
    pairs: int
    rejected: dict[str, int] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    assumed: dict[str, int] = field(default_factory=dict)
    scorers: dict[str, ScorerPairs] = field(default_factory=dict)
    findings: list[str] = field(default_factory=list)
    gates: dict[str, dict[str, GateCatch]] = field(default_factory=dict)

    def _repr_html_(self) -> str:
        """Return the figures of all scorers, for notebooks."""
        rows = [
            (name, about, str(tally), tally.words)
            for name, found in self.scorers.items()
            for about, tally in (("all", found.all), *found.kinds.items(), *found.sources.items())
        ]
        return block(
            paragraph(f"{self.pairs:,} pairs of {self.file}", strong=True),
            table(("scorer", "pairs", "better one higher", ""), rows),
            *map(paragraph, self.findings),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class PairsPlan:
    """What judging the pairs would ask of an endpoint; nothing was sent.

    Attributes:
        pairs: Pairs.
        rejected: Why lines are not pairs -> lines.
        calls: Requests without a reply in the journal.
        answered: Requests with one.
        tokens_in: Prompt tokens of the former.
        tokens_out: Their reply tokens, estimated.
        cost: In the currency of the endpoint's prices; None where no price is set and there are calls.
    """

    pairs: int
    rejected: dict[str, int] = field(default_factory=dict)
    calls: int = 0
    answered: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    cost: float | None = 0.0
