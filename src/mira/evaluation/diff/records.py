"""Records of two runs, joined by source and id in DuckDB: counts, ranks, and what made a record flip.

Quality is a mean over the slots that are used and not trimmed. With w = 1 / their number for these, 0 for the others,
slot j adds w_B (s_B - q_A) - w_A (s_A - q_A) to the change of a record's quality from q_A to q_B: the parts of all
slots add up to it, also where masks or trims differ. The threshold adds minus its own change. What moved a record most
in the direction of its flip is the reason that is given (ours).
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from mira.arrays import Floats
from mira.config.settings import SelectSettings
from mira.corpus.database import listed
from mira.errors import ConservationError, RunError
from mira.evaluation.diff.results import Flipped, SlotDiff, SourceDiff
from mira.rubric.slots import slot_columns
from mira.run_folder.paths import RunFolder
from mira.selection.quality import trim_count
from mira.selection.score_sidecars import CASCADE
from mira.stats import spearman

__all__ = ["Side", "source_diff"]

_SAMPLE = 50_000
_BATCH = 1 << 15
THRESHOLD, REST = "threshold", "rest"


@dataclass(frozen=True, slots=True)
class Side:
    """One run, as the comparison of its records needs it.

    Attributes:
        run: The run folder.
        select: How it selected.
        used: Source -> slots that its records were compared by.
        thresholds: Source -> the threshold; sources without one number are left out.
        records: Source -> its valid records, by thresholds.json.
        plain: Whether quality is a mean of the slots' own scores, which can be taken apart.
    """

    run: RunFolder
    select: SelectSettings
    used: Mapping[str, tuple[str, ...]]
    thresholds: Mapping[str, float]
    records: Mapping[str, int]
    plain: bool

    def selection(self, source: str) -> list[str]:
        """Return the selection sidecars of a source."""
        return sorted(str(path) for path in self.run.selection(source).glob("*.parquet"))

    def scores(self, source: str) -> list[str]:
        """Return its score sidecars."""
        folder = self.run.cascade(source) if self.select.scores == CASCADE else self.run.scores(source)
        return sorted(str(path) for path in folder.glob("*.parquet"))


@dataclass(slots=True)
class _Tally:
    """Flipped records of a source, counted."""

    by_threshold: int = 0
    by_slots: int = 0
    by_rest: int = 0
    by_reason: Counter[str] = field(default_factory=Counter)
    decided: Counter[str] = field(default_factory=Counter)
    added: dict[str, float] = field(default_factory=dict)
    measured: int = 0
    shown: list[Flipped] = field(default_factory=list)


def source_diff(
    con: duckdb.DuckDBPyConnection, a: Side, b: Side, source: str, most: int
) -> tuple[SourceDiff, list[Flipped]]:
    """Compare one source's records.

    Args:
        con: A database that spills to the disk.
        a: The first run.
        b: The second.
        source: The source; a run may lack it.
        most: Flipped records to return, those that flipped furthest.

    Raises:
        RunError: A run has selected nothing.
        ConservationError: Records do not add up.
    """
    for name, side in (("a", a), ("b", b)):
        _register(con, name, side.selection(source))
    counts = _counts(con)
    _check(a, b, source, counts)
    slots = _with_slots(con, a, b, source)
    tally = _Tally()
    if (a.plain and b.plain) or not slots:
        for batch in _flips(con, slots):
            _tally(tally, a, b, source, batch, slots, most)
    else:
        tally.by_rest = counts["gained"] + counts["lost"]
    rho, figures = _ranks(con, a, b, source, slots, tally, counts["both"])
    return (
        SourceDiff(
            **counts, rho=rho, by_threshold=tally.by_threshold, by_slots=tally.by_slots, by_rest=tally.by_rest,
            by_reason=dict(sorted(tally.by_reason.items())), slots=figures,
        ),
        tally.shown,
    )  # fmt: skip


def _register(con: duckdb.DuckDBPyConnection, name: str, paths: Sequence[str]) -> None:
    columns = "id, n_tokens, quality, kept, reason::VARCHAR AS reason"
    empty = "SELECT '' AS id, 0 AS n_tokens, 0.0::DOUBLE AS quality, false AS kept, '' AS reason WHERE false"
    query = f"SELECT {columns} FROM read_parquet([{listed(paths)}])" if paths else empty
    con.execute(f"CREATE OR REPLACE TEMP VIEW sel_{name} AS {query}")


def _counts(con: duckdb.DuckDBPyConnection) -> dict[str, int]:
    con.execute(
        """CREATE OR REPLACE TEMP TABLE joined AS SELECT coalesce(a.id, b.id) AS id, a.id IS NOT NULL AS in_a,
        b.id IS NOT NULL AS in_b, coalesce(a.kept, false) AS kept_a, coalesce(b.kept, false) AS kept_b,
        a.quality AS quality_a, b.quality AS quality_b, a.reason AS reason_a, b.reason AS reason_b,
        coalesce(b.n_tokens, a.n_tokens) AS n_tokens FROM sel_a a FULL JOIN sel_b b ON a.id = b.id"""
    )
    both = "in_a AND in_b AND"
    wanted = {
        "both": "in_a AND in_b", "only_a": "NOT in_b", "only_b": "NOT in_a", "kept_a": "kept_a", "kept_b": "kept_b",
        "kept_both": "kept_a AND kept_b", "gained": f"{both} kept_b AND NOT kept_a",
        "lost": f"{both} kept_a AND NOT kept_b", "kept_only_a": "kept_a AND NOT in_b",
        "kept_only_b": "kept_b AND NOT in_a",
    }  # fmt: skip
    parts = [f"count(*) FILTER ({condition})" for condition in wanted.values()]
    parts += [f"coalesce(sum(n_tokens) FILTER ({wanted[name]}), 0)" for name in ("gained", "lost")]
    row = con.execute(f"SELECT {', '.join(parts)} FROM joined").fetchall()[0]
    return {name: int(n) for name, n in zip([*wanted, "tokens_gained", "tokens_lost"], row, strict=True)}


def _check(a: Side, b: Side, source: str, counts: Mapping[str, int]) -> None:
    for side, only in ((a, "only_a"), (b, "only_b")):
        found, expected = counts["both"] + counts[only], side.records.get(source, 0)
        if found != expected:
            if not side.selection(source):
                raise RunError(f"{side.run.path}: nothing is selected of source '{source}'", "Run: mira select CONFIG")
            raise ConservationError(
                f"{side.run.path}: source '{source}' has {expected:,} valid records by thresholds.json, and "
                f"{found:,} in its selection sidecars",
                "Run `mira select` there again.",
            )


def _with_slots(con: duckdb.DuckDBPyConnection, a: Side, b: Side, source: str) -> list[str]:
    """Make the view `both` of the records of both runs with their scores; return the slots that both runs have."""
    paths = [side.scores(source) for side in (a, b)]
    known = [slot_columns(pq.read_schema(found[0]).names) if found else [] for found in paths]
    slots = [slot for slot in known[0] if slot in known[1]]
    if not slots:
        con.execute("CREATE OR REPLACE TEMP VIEW both_runs AS SELECT * FROM joined WHERE in_a AND in_b")
        return []
    columns = ", ".join(f"x.{slot} AS {slot}_a, y.{slot} AS {slot}_b" for slot in slots)
    con.execute(
        f"""CREATE OR REPLACE TEMP VIEW both_runs AS SELECT j.*, {columns} FROM joined j
        JOIN read_parquet([{listed(paths[0])}]) x ON j.id = x.id
        JOIN read_parquet([{listed(paths[1])}]) y ON j.id = y.id
        WHERE in_a AND in_b"""
    )
    return slots


def _flips(con: duckdb.DuckDBPyConnection, slots: Sequence[str]) -> Iterator[pa.RecordBatch]:
    columns = ["id", "kept_b", "quality_a", "quality_b", "reason_a", "reason_b"]
    columns += [f"{slot}_{side}" for slot in slots for side in "ab"]
    query = f"SELECT {', '.join(columns)} FROM both_runs WHERE kept_a <> kept_b ORDER BY id"
    con.execute("SET preserve_insertion_order = true")
    yield from con.sql(query).to_arrow_reader(_BATCH)


def _tally(
    tally: _Tally, a: Side, b: Side, source: str, batch: pa.RecordBatch, slots: Sequence[str], most: int
) -> None:
    ids = batch["id"].to_pylist()
    up = batch["kept_b"].to_numpy(zero_copy_only=False)
    qualities = [batch[f"quality_{side}"].to_numpy(zero_copy_only=False).astype(np.float64) for side in "ab"]
    before, after = (side.thresholds.get(source) for side in (a, b))
    causes = _causes(a, b, source, batch, slots, qualities)
    if before is not None and after is not None:
        causes[THRESHOLD] = np.full(len(ids), before - after)
    known = np.isfinite(qualities[0]) & np.isfinite(qualities[1])
    known &= before is not None and after is not None
    names = list(causes)
    moved = np.stack([np.nan_to_num(causes[name]) for name in names]) * np.where(up, 1.0, -1.0) if names else None
    winner = moved.argmax(axis=0) if moved is not None else np.zeros(len(ids), np.int64)
    reasons = [batch[f"reason_{side}"].to_pylist() for side in "ab"]
    tally.measured += int(known.sum())
    for name in slots:
        if name in causes:
            tally.added[name] = tally.added.get(name, 0.0) + float(np.nan_to_num(causes[name])[known].sum())
    rows: list[Flipped] = []
    for at, id in enumerate(ids):
        if known[at] and names:
            why = names[int(winner[at])]
            by: float | None = float(causes[why][at])
            if why == THRESHOLD:
                tally.by_threshold += 1
            elif why == REST:
                tally.by_rest += 1
            else:
                tally.by_slots += 1
                tally.decided[why] += 1
        else:
            why, by = str(reasons[0 if up[at] else 1][at] or "no threshold"), None
            tally.by_reason[why] += 1
        old, new = (float(part[at]) if np.isfinite(part[at]) else None for part in qualities)
        kept_in = "B" if up[at] else "A"
        rows.append(Flipped(source=source, id=id, kept_in=kept_in, quality_a=old, quality_b=new, why=why, by=by))
    tally.shown = sorted([*tally.shown, *rows], key=lambda one: (-abs(one.by or 0.0), one.id))[:most]


def _causes(
    a: Side, b: Side, source: str, batch: pa.RecordBatch, slots: Sequence[str], qualities: Sequence[Floats]
) -> dict[str, Floats]:
    """Return what each slot, and all else, adds to the change of quality."""
    if not slots:
        return {}
    weights, scores = [], []
    for side, suffix in ((a, "a"), (b, "b")):
        given = np.stack([batch[f"{s}_{suffix}"].to_numpy(zero_copy_only=False).astype(np.float64) for s in slots])
        inside = np.array([slot in side.used.get(source, ()) for slot in slots])
        weights.append(_weights(np.where(inside[:, None], given, np.nan), side.select))
        scores.append(np.nan_to_num(given))
    base = np.nan_to_num(qualities[0])
    parts = weights[1] * (scores[1] - base) - weights[0] * (scores[0] - base)
    causes = {slot: parts[at] for at, slot in enumerate(slots)}
    rest = qualities[1] - qualities[0] - parts.sum(axis=0)
    if np.nanmax(np.abs(rest), initial=0.0) > 1e-5:
        causes[REST] = rest
    return causes


def _weights(given: Floats, select: SelectSettings) -> Floats:
    """Return each slot's weight in a record's trimmed mean (slots, records); of equal scores, earlier ones go first."""
    scored = np.isfinite(given).sum(axis=0)
    order = np.argsort(np.where(np.isfinite(given), given, np.inf), axis=0, kind="stable")
    place = np.empty_like(order)
    np.put_along_axis(place, order, np.arange(len(given))[:, None], axis=0)
    cut = np.array([trim_count(select.trim, int(n)) for n in scored])
    inside = (place >= cut) & (place < scored - cut)
    return np.asarray(inside / np.maximum(scored - 2 * cut, 1), dtype=np.float64)


def _ranks(
    con: duckdb.DuckDBPyConnection,
    a: Side,
    b: Side,
    source: str,
    slots: Sequence[str],
    tally: _Tally,
    both: int,
) -> tuple[float | None, dict[str, SlotDiff]]:
    every = max(1, -(-both // _SAMPLE))
    columns = ["quality_a", "quality_b", *(f"{slot}_{side}" for slot in slots for side in "ab")]
    query = f"SELECT {', '.join(columns)} FROM both_runs WHERE md5_number_lower(id) % {every} = 0 ORDER BY id"
    table = con.sql(query).to_arrow_table()

    def pair(name: str) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        x, y = (table[f"{name}_{side}"].to_numpy().astype(np.float64) for side in "ab")
        return x, y

    figures = {}
    for slot in slots:
        x, y = pair(slot)
        known = np.isfinite(x) & np.isfinite(y)
        figures[slot] = SlotDiff(
            rho=_known(spearman(x, y)),
            shift=_known(float((y - x)[known].mean())) if known.any() else None,
            used_a=slot in a.used.get(source, ()),
            used_b=slot in b.used.get(source, ()),
            decided=tally.decided[slot],
            contribution=tally.added[slot] / tally.measured if tally.measured and slot in tally.added else None,
        )
    return _known(spearman(*pair("quality"))), figures


def _known(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
