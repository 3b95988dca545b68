"""A few records behind a figure: rejected lines, records without a score, cells where student and teacher differ most.

Every list is short and every text is clipped, so that the page stays small.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mira.corpus import database
from mira.errors import MiraError
from mira.grouping.groups import Group
from mira.labelling.labels import HELD_OUT
from mira.reliability.evidence import SourceEvidence
from mira.reliability.stage import load_evidence
from mira.report.overview import SourceRow
from mira.report.quality import selection_view
from mira.rubric.judgement import Recommendation
from mira.rubric.slots import slot_index, slot_name
from mira.run_folder.paths import RunFolder

__all__ = [
    "Disagreement",
    "Line",
    "Verdict",
    "clip",
    "disagreements",
    "lines",
    "rationale_of",
    "rationales",
    "verdicts",
]

_EACH = 3  # records per figure
_PER_CELL = 2
_LONGEST = 160  # characters of a text

Cell = tuple[str, str]


def clip(text: str, longest: int = _LONGEST) -> str:
    """Return the start of a text, in one line."""
    flat = " ".join(text[: 4 * longest].split())
    return flat if len(flat) <= longest and len(text) <= 4 * longest else f"{flat[:longest].rstrip()} …"


@dataclass(frozen=True, slots=True)
class Line:
    """A line that was rejected, or a record without a score: where it is, and what is known of it."""

    where: str
    text: str


def lines(
    con: duckdb.DuckDBPyConnection, run: RunFolder, sources: Sequence[SourceRow]
) -> dict[tuple[str, str], tuple[Line, ...]]:
    """Return (source, reason) -> the first lines that were rejected or not scored for it."""
    found: dict[tuple[str, str], tuple[Line, ...]] = {}
    for source in sources:
        for reason in source.reasons:
            kind, _, why = reason.name.partition(":")
            if kind == "rejected":
                rows = _rejected(con, run, source.name, why)
            elif reason.name not in ("kept", "below_threshold"):
                selection_view(con, run, source.name)
                rows = con.execute(
                    "SELECT id, '' FROM selection WHERE reason = ? ORDER BY id LIMIT ?", [reason.name, _EACH]
                ).fetchall()
            else:
                continue
            found[source.name, reason.name] = tuple(Line(str(where), clip(text or "")) for where, text in rows)
    return found


def _rejected(con: duckdb.DuckDBPyConnection, run: RunFolder, source: str, why: str) -> list[tuple[str, str]]:
    paths = [p for p in sorted(run.index(source).glob("*.parquet")) if p.name != "duplicates.parquet"]
    if not paths:
        return []
    return con.execute(
        f"""SELECT parse_filename(filename, true) || ', row ' || "row", detail
        FROM read_parquet([{database.listed(paths)}], filename = true) WHERE reason_rejected = ? ORDER BY 1 LIMIT ?""",
        [why, _EACH],
    ).fetchall()


@dataclass(frozen=True, slots=True)
class Disagreement:
    """A labelled record of a cell: its id, the teacher's score and rationale, and the student's prediction."""

    id: str
    teacher: float
    student: float
    rationale: str


def disagreements(run: RunFolder, groups: Sequence[Group]) -> dict[Cell, tuple[Disagreement, ...]]:
    """Return (source, slot) -> the labelled records on which the student is furthest from the teacher.

    The predictions are those that reliability rests on: by models that have not seen the record.
    """
    found: dict[Cell, tuple[Disagreement, ...]] = {}
    for group in groups:
        if not run.labels(group.name).is_file():
            continue
        try:
            evidence = load_evidence(run, group)
        except MiraError:  # reliability has said what is wrong; without predictions there is nothing to show
            continue
        worst = {
            (source.source, slot_name(j)): _furthest(source, j)
            for source in evidence.sources
            for j in range(len(evidence.names))
        }
        said = rationales(run, group.name, {(cell[0], id) for cell, ids in worst.items() for id, *_ in ids})
        for (name, slot), rows in worst.items():
            found[name, slot] = tuple(
                Disagreement(id, teacher, student, clip(rationale_of(said.get((name, id), ()), slot)))
                for id, teacher, student in rows
            )
    return found


def _furthest(source: SourceEvidence, j: int) -> list[tuple[str, float, float]]:
    teacher, student = source.teacher[:, j], source.student[:, j]
    apart = np.nan_to_num(np.abs(teacher - student), nan=-1.0)
    order = np.argsort(-apart, kind="stable")[:_PER_CELL]
    return [(source.ids[i], float(teacher[i]), float(student[i])) for i in order if apart[i] >= 0]


def rationales(run: RunFolder, group: str, wanted: set[Cell]) -> Mapping[Cell, Sequence[str]]:
    """Return (source, id) -> the rationales of the first scored judgement of a record."""
    table = pq.read_table(
        run.labels(group),
        columns=["source", "id", "replicate", "reason_unscored", "rationales"],
        filters=[("id", "in", sorted({id for _, id in wanted}))] if wanted else None,
    )
    table = table.filter(pc.is_null(table["reason_unscored"])).sort_by([("replicate", "descending")])
    return {(row["source"], row["id"]): row["rationales"] or () for row in table.to_pylist()}


def rationale_of(said: Sequence[str], slot: str) -> str:
    """Return what a judgement says of a slot; "" if it says nothing."""
    at = slot_index(slot)
    return said[at] or "" if at < len(said) else ""


@dataclass(frozen=True, slots=True)
class Verdict:
    """A held-out record on which teacher and selection differ: its id, whether it was kept, and the teacher's words."""

    id: str
    kept: bool
    overall: float | None
    recommendation: str
    brief: str


def verdicts(
    con: duckdb.DuckDBPyConnection, run: RunFolder, sources: Sequence[SourceRow]
) -> dict[str, tuple[Verdict, ...]]:
    """Return source -> held-out records that were kept though the teacher would drop them, and the other way round."""
    found: dict[str, tuple[Verdict, ...]] = {}
    for source in sources:
        path = run.labels(source.group)
        if not source.group or not path.is_file():
            continue
        labels = pq.read_table(
            path,
            columns=["id", "overall", "recommendation", "brief"],
            filters=[("source", "=", source.name), ("replicate", "=", 0), ("split", "=", HELD_OUT)],
        )
        selection_view(con, run, source.name)
        con.register("held_out", labels if len(labels) else pa.table({n: pa.array([], pa.string()) for n in _LABELS}))
        rows = [
            row
            for kept, said, order in ((True, Recommendation.DROP, "ASC"), (False, Recommendation.KEEP, "DESC"))
            for row in con.execute(
                f"""SELECT id, kept, overall, recommendation, brief FROM held_out JOIN selection USING (id)
                WHERE kept = ? AND recommendation = ? ORDER BY overall {order}, id LIMIT ?""",
                [kept, str(said), _EACH],
            ).fetchall()
        ]
        con.unregister("held_out")
        found[source.name] = tuple(
            Verdict(id, kept, overall, said or "", clip(brief or "")) for id, kept, overall, said, brief in rows
        )
    return found


_LABELS = ("id", "overall", "recommendation", "brief")
