"""Agreement with held-out labels, and what gates do to it: parts of the results of `compare` and `evaluate`."""

from dataclasses import dataclass, field

__all__ = ["Agreement", "AgreementFigures", "GateCatch", "GatesResult"]


@dataclass(frozen=True, slots=True)
class AgreementFigures:
    """Held-out labels beside what was kept. None: nothing to count, or the method gives no quality.

    Attributes:
        n: Records with a verdict.
        kept: How many of them were kept.
        precision: Share of the kept that the teacher would keep.
        precision_low: Lower end of Wilson's interval.
        precision_high: Upper end.
        base_rate: Share of all that the teacher would keep, which a random selection reaches.
        recall: Share of the teacher's keeps that were kept.
        dropworthy: Share of the kept that the teacher would drop.
        dropworthy_base_rate: The same share of all.
        ndcg: Normalised discounted cumulative gain of the order by quality. The gain is the teacher's overall, linear;
            ties are averaged, and records without quality come last.
        ndcg_random: Its mean over random orders.
        rho: Spearman's rho of quality and overall.
    """

    n: int = 0
    kept: int = 0
    precision: float | None = None
    precision_low: float | None = None
    precision_high: float | None = None
    base_rate: float | None = None
    recall: float | None = None
    dropworthy: float | None = None
    dropworthy_base_rate: float | None = None
    ndcg: float | None = None
    ndcg_random: float | None = None
    rho: float | None = None


@dataclass(frozen=True, slots=True)
class Agreement:
    """Agreement with the teacher over all held-out records, and by source."""

    all: AgreementFigures
    sources: dict[str, AgreementFigures] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class GateCatch:
    """What a gate drops of some pairs.

    Attributes:
        pairs: Pairs of sources that have the gate, in which both records have the value.
        worse: Share of the worse records, or spoiled copies, that it drops.
        better: Share of the better ones, or originals: `worse` means something only beside it.
    """

    pairs: int
    worse: float | None
    better: float | None


@dataclass(frozen=True, slots=True)
class GatesResult:
    """What gates bring and cost.

    Attributes:
        with_gates: Agreement with the teacher's held-out labels.
        without: The same of the same selection without gates.
        faults: Gate -> fault -> what it drops.
    """

    with_gates: AgreementFigures
    without: AgreementFigures
    faults: dict[str, dict[str, GateCatch]] = field(default_factory=dict)
