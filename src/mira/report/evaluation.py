"""What evaluation.json says of the selection: agreement with held-out labels, planted faults, naive students."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mira.run_folder.files import read_json
from mira.run_folder.paths import RunFolder

__all__ = ["AgreementRow", "CheckRow", "Evaluation", "FaultRow", "Range", "StudentRow", "evaluation_view"]


@dataclass(frozen=True, slots=True)
class Range:
    """A figure and its interval; None where unknown."""

    value: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True, slots=True)
class AgreementRow:
    """Held-out labels of one source, or of "all", against what was kept.

    Attributes:
        source: The source.
        n: Labels with a verdict.
        kept: How many of these records were kept.
        precision: Share of the kept that the teacher would keep.
        base_rate: The same share of all, which a random selection reaches.
        dropworthy: Share of the kept that the teacher would drop.
        dropworthy_base_rate: The same share of all.
        rho: Spearman of quality and the teacher's overall.
    """

    source: str
    n: int
    kept: int
    precision: Range
    base_rate: float | None
    dropworthy: float | None
    dropworthy_base_rate: float | None
    rho: float | None


@dataclass(frozen=True, slots=True)
class FaultRow:
    """One planted fault.

    Attributes:
        fault: The fault, or "all".
        pairs: Records beside their spoiled copy.
        accuracy: Share of pairs whose original has the higher quality.
        dropped: Share of spoiled copies below the cutoff.
        originals_dropped: The same share of the originals.
        others: Accuracy of other scorers, in the order of `Evaluation.others`.
    """

    fault: str
    pairs: int
    accuracy: Range
    dropped: float | None
    originals_dropped: float | None
    others: tuple[float | None, ...]


@dataclass(frozen=True, slots=True)
class StudentRow:
    """The student of a group, or a naive one: mean Spearman over cells, share of the ceiling, gain on the student."""

    name: str
    rho: Range
    of_ceiling: Range
    gain: Range


@dataclass(frozen=True, slots=True)
class CheckRow:
    """Clean records of a source against others, by one judge: their numbers, and the AUC of its scores."""

    source: str
    judge: str
    clean: int
    spoiled: int
    auc: Range


@dataclass(frozen=True, slots=True)
class Evaluation:
    """evaluation.json.

    Attributes:
        agreement: Source by source, then "all".
        trusted: What was kept does not rest on a student that has seen the labels.
        planted: Records that were spoiled.
        scorer: Who scored the pairs.
        others: Other scorers of the same pairs.
        faults: One row a fault.
        findings: What the faults come to, in words.
        students: Group -> its student and the naive ones.
        check_field: The field that says what was done to a record; "" where none is set.
        checks: How well the student, and the teacher, tell such records from clean ones.
    """

    agreement: tuple[AgreementRow, ...]
    trusted: bool
    planted: int
    scorer: str
    others: tuple[str, ...]
    faults: tuple[FaultRow, ...]
    findings: tuple[str, ...]
    students: tuple[tuple[str, tuple[StudentRow, ...]], ...]
    check_field: str = ""
    checks: tuple[CheckRow, ...] = ()


def evaluation_view(run: RunFolder) -> Evaluation | None:
    """Read evaluation.json; None where there is none."""
    if not run.evaluation.is_file():
        return None
    found: Mapping[str, Any] = read_json(run.evaluation)
    agreement, planted, students, check = (
        found.get(key) or {} for key in ("agreement", "planted", "students", "check")
    )
    rows = [*(agreement.get("sources") or {}).items(), *([("all", agreement["all"])] if agreement.get("all") else [])]
    methods = {name: rows for name, rows in (planted.get("methods") or {}).items() if rows}
    scorer, *others = methods or [""]
    return Evaluation(
        agreement=tuple(_agreement(name, row) for name, row in rows),
        trusted=bool(found.get("kept_by_held_out_model", True)),
        planted=planted.get("records") or 0,
        scorer=scorer,
        others=tuple(others),
        faults=_faults(methods.get(scorer, []), [methods[name] for name in others]),
        findings=tuple(planted.get("findings") or ()),
        students=tuple((g, tuple(_student(n, f) for n, f in fs.items())) for g, fs in students.items() if fs),
        check_field=check.get("field") or "",
        checks=tuple(
            CheckRow(source, who, row["clean"], row["spoiled"], Range(row["auc"], row["low"], row["high"]))
            for source, rows in (check.get("sources") or {}).items()
            for who, row in (("student, quality", rows["student"]), ("teacher, overall", rows["teacher"]))
        ),
    )


def _range(row: Mapping[str, Any], name: str) -> Range:
    return Range(row.get(name), row.get(f"{name}_low"), row.get(f"{name}_high"))


def _agreement(source: str, row: Mapping[str, Any]) -> AgreementRow:
    return AgreementRow(
        source=source,
        n=row.get("n") or 0,
        kept=row.get("kept") or 0,
        precision=_range(row, "precision"),
        base_rate=row.get("base_rate"),
        dropworthy=row.get("dropworthy"),
        dropworthy_base_rate=row.get("dropworthy_base_rate"),
        rho=row.get("rho"),
    )


def _faults(rows: list[Mapping[str, Any]], others: list[list[Mapping[str, Any]]]) -> tuple[FaultRow, ...]:
    by_fault = [{row["fault"]: row.get("accuracy") for row in own} for own in others]
    return tuple(
        FaultRow(
            fault=str(row["fault"]),
            pairs=row.get("pairs") or 0,
            accuracy=_range(row, "accuracy"),
            dropped=row.get("recall"),
            originals_dropped=row.get("originals_dropped"),
            others=tuple(own.get(row["fault"]) for own in by_fault),
        )
        for row in rows
    )


def _student(name: str, figures: Mapping[str, Any]) -> StudentRow:
    parts = [figures.get(key) or {} for key in ("rho", "of_ceiling", "gain")]
    return StudentRow(name, *(Range(p.get("value"), p.get("low"), p.get("high")) for p in parts))
