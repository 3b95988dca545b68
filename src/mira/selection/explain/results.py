"""What `mira explain` finds out: about a record, about a rejected line, and where a text is."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import floor
from typing import NamedTuple

from mira.html import block, paragraph, table

__all__ = [
    "Explanation",
    "Flip",
    "GateEffect",
    "LengthEffect",
    "OtherMethod",
    "Rank",
    "RejectedLine",
    "SlotScore",
    "TextMatch",
    "TextMatches",
]


@dataclass(frozen=True, slots=True)
class SlotScore:
    """A record's score on one slot.

    Attributes:
        slot: The slot, such as "A3".
        name: Name of its dimension.
        score: The score, 0 to 10; None if it is missing.
        masked: Whether the slot is masked for the record's source.
        why: Why it is masked.
        trimmed: Whether the mean leaves it out as one of the lowest or highest; only with method mira.
        used: Whether records of the source are compared by it (`select.compare_by`); only with method mira.
    """

    slot: str
    name: str | None
    score: float | None
    masked: bool
    why: str | None = None
    trimmed: bool = False
    used: bool = True

    @property
    def note(self) -> str:
        """Why the score does not count towards the quality, if it does not."""
        masked = f"masked: {self.why}" if self.why else "masked"
        counts = "trimmed" if self.trimmed else ""
        unused = "not used: a competing source does not trust it"
        return masked if self.masked else counts if self.used else unused


class Rank(NamedTuple):
    """A place in an order, from 1, and the number of records in it."""

    rank: int
    of: int


@dataclass(frozen=True, slots=True)
class Flip:
    """The budget at which the decision changes, floors and caps aside.

    Attributes:
        tokens_needed: Tokens of all records that rank before the record, and its own. With `select.fit: skip` this
            budget is sure to keep it, and a smaller one may.
        scope_budget: Budget of its scope.
        scope_tokens: Tokens of its scope.
        share: tokens_needed as a share of scope_tokens.
    """

    tokens_needed: int
    scope_budget: int
    scope_tokens: int
    share: float


@dataclass(frozen=True, slots=True)
class LengthEffect:
    """What `select.length` does to the record.

    Attributes:
        control: residual or strata.
        predicted: What length predicts of its value, above its source's mean; only with residual.
        rest: Its value less that, which it ranks by; only with residual.
        shortest: Tokens of the shortest records that it competes with; only with strata.
        longest: Tokens of the longest.
    """

    control: str
    predicted: float | None = None
    rest: float | None = None
    shortest: int | None = None
    longest: int | None = None

    def __str__(self) -> str:
        """Return it in words."""
        if self.rest is not None:
            return f"length predicts {self.predicted:+.2f} of it; it ranks by the rest, {self.rest:.2f}"
        return f"competes with records of {self.shortest:,} to {self.longest:,} tokens"


@dataclass(frozen=True, slots=True)
class GateEffect:
    """What a gate makes of the record.

    Attributes:
        measures: What it measures, such as ppl.
        value: The record's value; None if it has none.
        dropped: Whether the gate drops it, unless an earlier one does.
        floor: The highest value that the gate drops in the source, or its `min`; None if it drops none.
        share: Share of the source's tokens that rank as low as the record or lower: a smaller `drop` lets it through.
            None if it has no value.
    """

    measures: str
    value: float | None
    dropped: bool
    floor: float | None
    share: float | None

    def __str__(self) -> str:
        """Return it in words."""
        if self.value is None:
            return f"gate {self.measures}: no value; {'missing: keep lets it through' if self.dropped else 'passes'}"
        share = f"{self.share:.1%} of its source's tokens are as low or lower" if self.share is not None else ""
        if not self.dropped:
            return f"gate {self.measures}: passes with {self.value:.3g}; {share}"
        return (
            f"gate {self.measures}: dropped with {self.value:.3g}, the floor is {self.floor:.3g}; {share}: it passes "
            f"with a drop below that, or with a min of at most {floor(self.value * 1e4) / 1e4:g}"
        )


@dataclass(frozen=True, slots=True)
class OtherMethod:
    """What another method in the run folder makes of the record.

    Attributes:
        value: Its value; None if it has none.
        reason: Why not.
        share_before: Share of the source's tokens that rank before it.
    """

    value: float | None
    reason: str | None
    share_before: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """Why a record was kept or not.

    Attributes:
        id: The record's id.
        source: Its source.
        group: The source's group; None without groups.
        where: Its file and line.
        shard: Its shard.
        row: Its row in the shard, from 0.
        n_tokens: Its tokens.
        method: Method of the selection.
        value: Its value by that method; None if it has none.
        kept: Whether it was kept.
        reason: Why, as in the selection's files.
        quality: Its quality; None if it has none.
        slots: Its scores; empty if it has none.
        scope: Where it competed; None if nothing of its source competes.
        threshold: The last value that is kept there; None if nothing is cut off.
        tie_hash: Hash at the threshold, which decides between equal values.
        ranks: "source", "group" and "scope" -> its rank there.
        flip: The budget at which the decision changes; None if it does not compete.
        methods: Other methods in the run folder -> what they make of it.
        compare_by: What sources are compared by; "" if the method is not mira.
        mask_moves: Share of its source's tokens that the masks alone move; None if unknown.
        length: What `select.length` does; None if length is not controlled.
        gates: What the gates of its source make of it, in order.
        ungated: What it would rank by if gates let it through; None if none drops it.
    """

    id: str
    source: str
    group: str | None
    where: str
    shard: str
    row: int
    n_tokens: int
    method: str
    value: float | None
    kept: bool
    reason: str
    quality: float | None
    slots: Sequence[SlotScore] = ()
    scope: str | None = None
    threshold: float | None = None
    tie_hash: str | None = None
    ranks: Mapping[str, Rank] = field(default_factory=dict)
    flip: Flip | None = None
    methods: Mapping[str, OtherMethod] = field(default_factory=dict)
    compare_by: str = ""
    mask_moves: float | None = None
    length: LengthEffect | None = None
    gates: Sequence[GateEffect] = ()
    ungated: float | None = None

    def _repr_html_(self) -> str:
        """Return the verdict, the ranks and the scores, for notebooks."""
        verdict = "kept" if self.kept else f"not kept ({self.reason})"
        value = "none" if self.value is None else f"{self.value:.2f}"
        threshold = "none" if self.threshold is None else f"{self.threshold:.2f}"
        name = "quality" if self.method == "mira" else f"value by {self.method}"
        ranks = "; ".join(f"rank in its {place}: {rank.rank:,} of {rank.of:,}" for place, rank in self.ranks.items())
        rows = [(s.slot, s.name or "", s.score, s.note) for s in self.slots]
        return block(
            paragraph(f"{self.source}/{self.id}: {verdict}", strong=True),
            paragraph(f"{name} {value}, threshold {threshold} of scope {self.scope or 'none'}; {self.where}"),
            paragraph(ranks) if ranks else "",
            *(paragraph(str(gate)) for gate in self.gates),
            table(("slot", "dimension", "score", ""), rows) if rows else "",
        )


@dataclass(frozen=True, slots=True)
class RejectedLine:
    """A line or row that is not a record, and why.

    Attributes:
        source: Its source.
        where: Its file and line.
        reason: Why it was rejected, such as "bad_json".
        detail: What is wrong with it, in the words that `mira index` used.
    """

    source: str
    where: str
    reason: str
    detail: str

    def _repr_html_(self) -> str:
        """Return what is wrong, for notebooks."""
        return block(
            paragraph(f"{self.source}: {self.where} is not a record ({self.reason})", strong=True),
            paragraph(self.detail),
        )


@dataclass(frozen=True, slots=True)
class TextMatch:
    """A record or rejected line that holds the text.

    Attributes:
        source: Its source.
        id: The record's id; "" for a rejected line.
        where: Its file and line.
        state: "kept", "not kept: ...", "rejected: ..." or "not selected yet".
        excerpt: The text with what stands around it, in one line.
    """

    source: str
    id: str
    where: str
    state: str
    excerpt: str


@dataclass(frozen=True, slots=True)
class TextMatches:
    """Records that hold a text.

    Attributes:
        text: What was looked for.
        matches: Where it is, in order of sources, files and lines.
        complete: Whether everything was searched; False if the search ended at its limit.
    """

    text: str
    matches: Sequence[TextMatch]
    complete: bool

    def _repr_html_(self) -> str:
        """Return the matches as a table, for notebooks."""
        ended = "" if self.complete else "; the search ended there, so there may be more"
        rows = [(m.source, m.id, m.where, m.state, m.excerpt) for m in self.matches]
        return block(
            paragraph(f"{len(rows):,} matches{ended}", strong=True),
            table(("source", "id", "line", "state", "text"), rows) if rows else "",
        )
