"""The result of `mira proxy`: the content of proxy.json."""

from dataclasses import dataclass, field

from mira.html import block, paragraph, table

__all__ = ["ArmResult", "Difference", "GoldResult", "ModelSize", "ProxyResult", "SeedFigures"]


@dataclass(frozen=True, slots=True)
class SeedFigures:
    """One value per seed, and what they come to.

    Attributes:
        seeds: The values, in the order of the seeds.
        mean: Their mean.
        sd: Standard deviation (n - 1); None for a single seed.
        low: Lower end of Student's interval of the mean; None for a single seed.
        high: Upper end.
    """

    seeds: list[float]
    mean: float
    sd: float | None = None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True)
class Difference(SeedFigures):
    """Differences to the baseline, paired by seed, in bits per byte. Below 0 the arm predicts gold better.

    Attributes:
        records_low: Lower end of the percentile interval of the mean over gold texts drawn anew, with the models as
            they are; None if a gold set has fewer than 2 texts. It leaves out how much two trainings differ, so it
            excludes 0 too easily: judge by low and high.
        records_high: Upper end.
    """

    records_low: float | None = None
    records_high: float | None = None


@dataclass(frozen=True, slots=True)
class GoldResult:
    """A gold set.

    Attributes:
        kind: "keep", "drop" (the control) or "given".
        texts: Number of texts.
        bytes: Bytes that are measured.
    """

    kind: str
    texts: int
    bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ArmResult:
    """What models learned that were trained on one method's selection.

    Attributes:
        method: Selection method.
        scope: Where records competed.
        records: Kept records outside the gold sets.
        tokens: Their tokens.
        gold_removed: Kept records that are gold.
        overlap_removed: Records that were drawn but share too much with gold.
        sources: Source -> mean share of the training tokens.
        loss: Training loss at the end in bits per token, one per seed.
        bits_per_byte: Gold set -> figures; also "keep" and "drop", the unweighted means over groups.
        difference: The same, less the baseline's; empty for the baseline.
    """

    method: str
    scope: str
    records: int
    tokens: int
    gold_removed: int
    overlap_removed: int
    sources: dict[str, float]
    loss: list[float]
    bits_per_byte: dict[str, SeedFigures]
    difference: dict[str, Difference] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ModelSize:
    """The model and its training: see `Size` in model.py."""

    width: int
    layers: int
    heads: int
    feed_forward: int
    context: int
    batch: int
    steps: int
    learning_rate: float
    gold_bytes: int
    record_bytes: int
    parameters: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ProxyResult:
    """Tiny models trained on each method's selection, side by side.

    Attributes:
        caveat: What such figures do not show.
        size: "smoke" or "gpu".
        model: The model and its training.
        device: "cuda" or "cpu".
        seeds: The seeds.
        baseline: The arm that the others are compared with.
        confidence: Of the intervals.
        train_tokens: Training tokens per model.
        data_tokens: Tokens of the text that they go through.
        passes: How often they go through it.
        gold: Gold set -> what it holds.
        arms: Arm -> its figures.
    """

    caveat: str
    size: str
    model: ModelSize
    device: str
    seeds: list[int]
    baseline: str
    confidence: float
    train_tokens: int
    data_tokens: int
    passes: float
    gold: dict[str, GoldResult]
    arms: dict[str, ArmResult]

    def _repr_html_(self) -> str:
        """Return bits per byte with the differences to the baseline, and the caveat, for notebooks."""
        gold = list(next(iter(self.arms.values())).bits_per_byte)
        rows = []
        for name, arm in self.arms.items():
            rows.append((name, *(f"{arm.bits_per_byte[g].mean:.3f}" for g in gold)))
            if arm.difference:
                rows.append((f"less {self.baseline}", *(_interval(arm.difference[g]) for g in gold)))
        return block(
            paragraph(f"Held-out bits per byte, {len(self.seeds)} seeds, size {self.size}", strong=True),
            table(("arm", *gold), rows),
            paragraph(self.caveat[: self.caveat.find(".") + 1]),
        )


def _interval(figures: Difference) -> str:
    if figures.low is None or figures.high is None:
        return f"{figures.mean:+.3f}"
    return f"{figures.mean:+.3f} [{figures.low:+.3f}, {figures.high:+.3f}]"
