"""Shapes of the page's charts, in percent of their width: plain numbers that the templates draw as SVG."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["HEAT_STEPS", "Bar", "Segment", "Tick", "bars", "heat_step", "place", "stack", "ticks"]

HEAT_STEPS = 9
_Counts = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Segment:
    """A piece of a stacked bar: what it stands for, its value, its left edge and width in percent."""

    kind: str
    value: int
    x: float
    width: float


@dataclass(frozen=True, slots=True)
class Bar:
    """A bar of a histogram: left edge and width in percent of the width, height in percent of the tallest bar."""

    kind: str
    x: float
    width: float
    y: float
    height: float


@dataclass(frozen=True, slots=True)
class Tick:
    """A tick: its place in percent, its label and how the label is anchored (start, middle, end)."""

    x: float
    label: str
    anchor: str


def stack(parts: Sequence[tuple[str, int]]) -> tuple[Segment, ...]:
    """Return the pieces of a bar that is full; parts of 0 are left out."""
    total = sum(value for _, value in parts)
    segments, at = [], 0
    for kind, value in parts:
        if value > 0:
            segments.append(Segment(kind, value, _percent(at, total), _percent(value, total)))
        at += value
    return tuple(segments)


def bars(kept: _Counts, dropped: _Counts) -> tuple[Bar, ...]:
    """Return a histogram's bars, kept at the bottom, dropped on top of it.

    Args:
        kept: (bins,) amounts.
        dropped: (bins,) amounts.
    """
    tallest = int((kept + dropped).max(initial=0))
    width = 100 / max(len(kept), 1)
    found = []
    for i, (low, high) in enumerate(zip(kept.tolist(), dropped.tolist(), strict=True)):
        x = round(i * width, 3)
        for kind, value, below in (("kept", low, 0), ("dropped", high, low)):
            if value:
                y = 100 - _percent(below + value, tallest)
                found.append(Bar(kind, x, round(width, 3), round(y, 3), _percent(value, tallest)))
    return tuple(found)


def ticks(low: float, high: float, wanted: int = 6) -> tuple[Tick, ...]:
    """Return round ticks inside [low, high], about as many as `wanted`."""
    step = _round_step((high - low) / max(wanted, 1))
    first, last = int(np.ceil(low / step - 1e-9)), int(np.floor(high / step + 1e-9))
    digits = max(0, -int(np.floor(np.log10(step) + 1e-9)))
    found = []
    for value in (n * step for n in range(first, last + 1)):
        x = place(value, low, high)
        anchor = "start" if x < 2 else "end" if x > 98 else "middle"
        found.append(Tick(x, f"{value:.{digits}f}", anchor))
    return tuple(found)


def _round_step(rough: float) -> float:
    if not rough > 0:
        return 1.0
    size = 10.0 ** np.floor(np.log10(rough))
    return float(size * next(m for m in (1, 2, 5, 10) if rough <= m * size * (1 + 1e-9)))


def place(value: float, low: float, high: float) -> float:
    """Return where a value lies between low and high, in percent, kept inside."""
    if not high > low:
        return 50.0
    return round(100 * min(max((value - low) / (high - low), 0.0), 1.0), 3)


def heat_step(share: float | None) -> int | None:
    """Return the colour step 0..HEAT_STEPS-1 of a share in [0, 1]; None where it is unknown."""
    if share is None:
        return None
    return min(max(int(share * HEAT_STEPS), 0), HEAT_STEPS - 1)


def _percent(value: int, total: int) -> float:
    return round(100 * value / total, 3) if total else 0.0
