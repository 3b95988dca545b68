"""One table that decides: every way to score that a run has, from cheap to dear, and the cheapest that is not worse."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mira.reliability.evidence import Predictions, matrix
from mira.reliability.students.compare import Interval
from mira.reliability.students.speed import Speed
from mira.reliability.students.table import Table
from mira.rubric.slots import slot_columns
from mira.run_folder.results import Figure

__all__ = ["Decision", "Rung", "cascade_of", "cascade_speed", "decide", "in_words"]


@dataclass(frozen=True, slots=True)
class Rung:
    """One way to score.

    Attributes:
        name: The student, "cascade: ...", or a baseline.
        kind: "student", "cascade" or "baseline". Baselines do not score a corpus; they say what the others buy.
        records_per_second: On one core here, or by the server; NaN where not measured.
        cost: Of a million records; NaN where no price is set.
        rho: Mean over cells of Spearman's rho, each within its source.
        of_ceiling: The same divided by the teacher's ceiling.
        mae: Mean absolute error, on the 0-10 scale.
        behind: The best student's rho minus this one's, over the same resamples.
        worse: Whether that whole interval is above 0.
    """

    name: str
    kind: str
    records_per_second: Figure
    cost: Figure
    rho: Interval
    of_ceiling: Interval
    mae: Interval
    behind: Interval
    worse: bool


@dataclass(frozen=True, slots=True)
class Decision:
    """All rungs on the same records.

    Attributes:
        rungs: From cheap to dear; those whose speed is not known come last.
        best: The student or cascade with the highest rho.
        cheapest: The fastest student or cascade that is not worse than it.
        records: Records that they are compared on.
        cells: Cells that the means are over.
        held_out: Whether these are held-out records, or cross-fitted ones.
    """

    rungs: tuple[Rung, ...]
    best: str
    cheapest: str
    records: int
    cells: int
    held_out: bool


def decide(table: Table, kinds: Mapping[str, str], speeds: Mapping[str, Speed], *, held_out: bool) -> Decision | None:
    """Put what a table of figures says in order of cost.

    Args:
        table: Figures of students, cascades and baselines on the same records.
        kinds: Name -> "student" or "cascade"; all others are baselines.
        speeds: Name -> speed, where known.
        held_out: What the table rests on.

    Returns:
        None where no cell can be compared.
    """
    own = [name for name in table.students if name in kinds and isfinite(table.students[name].rho.value)]
    if not own or not table.cells:
        return None
    best = max(own, key=lambda name: table.students[name].rho.value)
    rungs = []
    for name, figures in table.students.items():
        speed = speeds.get(name, Speed())
        behind = Interval(0.0, 0.0, 0.0) if name == best else table.differences[best][name].rho
        kind = kinds.get(name, "baseline")
        rungs.append(
            Rung(
                name, kind, speed.records_per_second, speed.cost, figures.rho, figures.of_ceiling, figures.mae, behind,
                worse=behind.low > 0,
            )
        )  # fmt: skip
    # A price that somebody asks says more than speed; without one, faster is cheaper.
    rungs.sort(key=lambda r: (not isfinite(r.records_per_second), -_or_zero(r.records_per_second)))
    cheapest = next(r.name for r in rungs if r.kind != "baseline" and not r.worse)
    return Decision(tuple(rungs), best, cheapest, table.records, table.cells, held_out)


def _or_zero(value: float) -> float:
    return value if isfinite(value) else 0.0


def cascade_of(cheap: Predictions, dear: Predictions, share: float) -> Predictions:
    """Return what a cascade of two students says: the dear one's word on the records that the cheap one puts mid-way.

    Within every source, these are the `share` of records whose mean predicted score is nearest to the source's median,
    where a threshold that keeps half would lie (ours).
    """
    return Predictions(
        out_of_fold=_mixed(cheap.out_of_fold, dear.out_of_fold, share),
        held_out=_mixed(cheap.held_out, dear.held_out, share),
    )


def _mixed(cheap: pa.Table | None, dear: pa.Table | None, share: float) -> pa.Table | None:
    if cheap is None or dear is None:
        return None
    slots = slot_columns(cheap.schema.names)
    keys = [pc.binary_join_element_wise(t["source"], t["id"], "\x1f").to_pylist() for t in (cheap, dear)]
    at = {key: i for i, key in enumerate(keys[1])}
    both = np.array([i for i, key in enumerate(keys[0]) if key in at], dtype=np.int64)
    if not len(both):
        return None
    other = np.array([at[keys[0][i]] for i in both], dtype=np.int64)
    table, values, better = cheap.take(both), matrix(cheap, slots)[both], matrix(dear, slots)[other]
    scored = np.asarray(np.isfinite(values).any(axis=1))
    mean = np.nan_to_num(np.nanmean(np.where(scored[:, None], values, 0.0), axis=1))
    sources = np.array(table["source"].to_pylist(), dtype=object)
    asked = np.zeros(len(mean), bool)
    for source in sorted(set(sources)):
        rows = np.flatnonzero(sources == source)
        distance = np.abs(mean[rows] - np.median(mean[rows]))
        asked[rows[np.argsort(distance, kind="stable")[: round(share * len(rows))]]] = True
    mixed = np.where(asked[:, None], better, values)
    columns = {slot: pa.array(mixed[:, j], from_pandas=True) for j, slot in enumerate(slots)}
    return pa.table({"id": table["id"], "source": table["source"], **columns})


def cascade_speed(cheap: Speed, dear: Speed, share: float) -> Speed:
    """Return the speed and cost of scoring all with one student and a share once more with another."""
    seconds = 1 / cheap.records_per_second + share / dear.records_per_second
    return Speed(round(1 / seconds, 1) if isfinite(seconds) else float("nan"), cheap.cost + share * dear.cost)


def in_words(decision: Decision | None) -> Sequence[str]:
    """Return the findings as lines for people."""
    if decision is None:
        return []
    rungs = {rung.name: rung for rung in decision.rungs}
    best, chosen = rungs[decision.best], rungs[decision.cheapest]
    where = f"{decision.records} {'held-out records' if decision.held_out else 'records, cross-fitted'}"
    said = [
        f"cheapest that is not worse than the best: {chosen.name}"
        + ("" if chosen is best else f"; {best.name} is {_show(chosen.behind)} ahead in rho")
        + f", on {where}"
    ]
    kept_up = [r.name for r in decision.rungs if r.kind == "baseline" and not r.worse]
    if kept_up:
        said.append(f"not shown to be worse than the best student, either: {', '.join(kept_up)}")
    return said


def _show(interval: Interval) -> str:
    return f"{interval.value:.2f} [{interval.low:+.2f}, {interval.high:+.2f}]"
