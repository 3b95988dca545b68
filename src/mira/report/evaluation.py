"""What evaluation.json says of the selection: agreement with held-out labels, planted faults, naive students."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mira.evaluation.agreement_figures import GatesResult
from mira.evaluation.results import (
    AgreementFigures,
    EvaluationResult,
    PlantedFigures,
    StudentResult,
    VariantFigures,
    VariantsResult,
)
from mira.run_folder.paths import RunFolder
from mira.run_folder.results import read_result

__all__ = ["AgreementRow", "CheckRow", "Evaluation", "FaultRow", "Range", "StudentRow", "VariantRow", "evaluation_view"]


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
class VariantRow:
    """A way of ranking beside the teacher's verdicts; see `VariantFigures`."""

    name: str
    within: Range
    across: Range
    precision: Range
    precision_gain: Range


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
        students: Group -> its student and the baselines.
        verdicts: Group, or "all" -> what the figures come to, in words.
        subtle: Records that were spoiled so that they look like good text.
        subtle_faults: One row a fault of that kind; the scorers are the same.
        subtle_findings: What these faults come to, in words.
        skipped: Fault -> why so many records cannot have it, in words.
        gates: What gates beside quality bring and cost.
        check_field: The field that says what was done to a record; "" where none is set.
        checks: How well the student, and the teacher, tell such records from clean ones.
        variants: Setting -> its values, the method's first.
        variant_records: Labels that they were measured on.
    """

    agreement: tuple[AgreementRow, ...]
    trusted: bool
    planted: int
    scorer: str
    others: tuple[str, ...]
    faults: tuple[FaultRow, ...]
    findings: tuple[str, ...]
    students: tuple[tuple[str, tuple[StudentRow, ...]], ...]
    verdicts: tuple[tuple[str, str], ...] = ()
    subtle: int = 0
    subtle_faults: tuple[FaultRow, ...] = ()
    subtle_findings: tuple[str, ...] = ()
    skipped: tuple[tuple[str, str], ...] = ()
    gates: GatesResult | None = None
    check_field: str = ""
    checks: tuple[CheckRow, ...] = ()
    variants: tuple[tuple[str, tuple[VariantRow, ...]], ...] = ()
    variant_records: int = 0


def evaluation_view(run: RunFolder) -> Evaluation | None:
    """Read evaluation.json; None if it is missing."""
    if not run.evaluation.is_file():
        return None
    result = read_result(EvaluationResult, run.evaluation)
    agreement, planted, check = result.agreement, result.planted, result.check
    methods = {name: rows for name, rows in (planted.methods or result.subtle.methods).items() if rows}
    scorer, *others = methods or [""]
    return Evaluation(
        agreement=tuple(_agreement(name, row) for name, row in [*agreement.sources.items(), ("all", agreement.all)]),
        trusted=result.kept_by_held_out_model,
        planted=planted.records,
        scorer=scorer,
        others=tuple(others),
        faults=_faults(planted.methods.get(scorer, []), [planted.methods.get(name, []) for name in others]),
        findings=tuple(planted.findings),
        students=tuple((g, tuple(_student(n, f) for n, f in fs.items())) for g, fs in result.students.items() if fs),
        verdicts=tuple((group, found.text) for group, found in result.verdicts.items()),
        subtle=result.subtle.records,
        subtle_faults=_faults(
            result.subtle.methods.get(scorer, []), [result.subtle.methods.get(name, []) for name in others]
        ),
        subtle_findings=tuple(result.subtle.findings),
        skipped=tuple((fault, _reasons(why)) for fault, why in result.subtle.skipped.items()),
        gates=result.gates,
        check_field=check.field if check else "",
        variants=_variants(result.variants) if result.variants else (),
        variant_records=result.variants.records if result.variants else 0,
        checks=tuple(
            CheckRow(source, who, row.clean, row.spoiled, Range(row.auc, row.low, row.high))
            for source, found in (check.sources.items() if check else ())
            for who, row in (("student, quality", found.student), ("teacher, overall", found.teacher))
        ),
    )


def _reasons(why: Mapping[str, int]) -> str:
    return ", ".join(f"{n:,} {reason.replace('_', ' ')}" for reason, n in why.items())


def _variants(found: VariantsResult) -> tuple[tuple[str, tuple[VariantRow, ...]], ...]:
    settings = (("select.compare_by", found.compare_by), ("select.length.control", found.length))
    return tuple((name, tuple(_variant(value, row) for value, row in rows.items())) for name, rows in settings)


def _variant(name: str, row: VariantFigures) -> VariantRow:
    parts = (row.within, row.across, row.precision, row.precision_gain)
    return VariantRow(name, *(Range(part.value, part.low, part.high) for part in parts))


def _agreement(source: str, row: AgreementFigures) -> AgreementRow:
    return AgreementRow(
        source=source,
        n=row.n,
        kept=row.kept,
        precision=Range(row.precision, row.precision_low, row.precision_high),
        base_rate=row.base_rate,
        dropworthy=row.dropworthy,
        dropworthy_base_rate=row.dropworthy_base_rate,
        rho=row.rho,
    )


def _faults(rows: Sequence[PlantedFigures], others: Sequence[Sequence[PlantedFigures]]) -> tuple[FaultRow, ...]:
    by_fault = [{row.fault: row.accuracy for row in own} for own in others]
    return tuple(
        FaultRow(
            fault=row.fault,
            pairs=row.pairs,
            accuracy=Range(row.accuracy, row.accuracy_low, row.accuracy_high),
            dropped=row.recall,
            originals_dropped=row.originals_dropped,
            others=tuple(own.get(row.fault) for own in by_fault),
        )
        for row in rows
    )


def _student(name: str, figures: StudentResult) -> StudentRow:
    parts = (figures.rho, figures.of_ceiling, figures.gain)
    return StudentRow(name, *(Range(p.value, p.low, p.high) for p in parts))
