"""What the current selection is worth: agreement with held-out labels, and planted faults -> evaluation.json."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from mira import corpus
from mira.config.settings import Config
from mira.corpus.record import Record
from mira.distillation.bundle import SUMS
from mira.distillation.student import open_student
from mira.errors import JudgeError, RunError
from mira.evaluation.agreement import Held, agreement
from mira.evaluation.agreement_figures import GatesResult
from mira.evaluation.checked import check_field
from mira.evaluation.findings import planted_findings, verdicts
from mira.evaluation.gates import gates_result
from mira.evaluation.naive import against_naive
from mira.evaluation.planted import (
    Pair,
    Planted,
    Scorer,
    by_length,
    judge_scorer,
    measure_planted,
    plant,
    plant_subtle,
)
from mira.evaluation.planted_methods import planted_methods
from mira.evaluation.results import (
    AgreementFigures,
    Estimate,
    EvaluationResult,
    FieldCheck,
    PlantedFigures,
    PlantedResult,
    VariantsResult,
)
from mira.evaluation.yardsticks import compare_variants
from mira.grouping.groups import Group, load_groups
from mira.progress import Log
from mira.run_folder.files import hash_file, read_json
from mira.run_folder.paths import RunFolder
from mira.run_folder.results import write_result
from mira.selection.stage import selection_inputs
from mira.selection.values import GATED
from mira.selection.yardstick.cut import Cut, cuts_of
from mira.selection.yardstick.held_out import held_out_quality
from mira.selection.yardstick.yardsticks import load_yardsticks

__all__ = ["evaluate", "held_out_records"]


def evaluate(config: Config, run: RunFolder, log: Log) -> EvaluationResult:
    """Evaluate the current selection and write evaluation.json.

    Agreement takes the labels' held-out split only. Planted faults are scored by each group's student, whatever the
    method of the selection; recall at the threshold is counted where that method is mira without noise, since
    thresholds of other methods are not on the scale of quality. The methods of `evaluate.methods` stand beside it.

    Raises:
        RunError: An earlier stage has not run.
    """
    if not run.thresholds.is_file():
        raise RunError(f"{run.thresholds} is not there yet", "Run `mira select` first.")
    if not run.reliability.is_file():
        raise RunError(
            f"{run.path}: there are no labels and no student in this run; a selection is tested on both",
            "Run with a teacher: mira run. Without one, set selections side by side: "
            "mira compare CONFIG --methods random,ppl",
        )
    selected = read_json(run.thresholds)
    groups, cuts = load_groups(run), cuts_of(selected)
    group_of = {source: group.name for group in groups for source in group.sources}
    quality = held_out_quality(config.select, run, group_of) if selected["method"] == "mira" else None
    held = [r for group in groups for r in held_out_records(run, group, quality, cuts)]
    students = {
        group.name: against_naive(config.corpus, config.reliability, config.seed, run, group) for group in groups
    }
    planted, subtle, by_group, pairs = _planted(config, run, log, groups, selected)
    bundles = {group.name: hash_file(sums) for group in groups if (sums := run.student(group.name) / SUMS).is_file()}
    result = EvaluationResult(
        method=selected["method"],
        scope=selected["scope"],
        kept_by_held_out_model=quality is None or bool(cuts),
        agreement=agreement(held, config.evaluate.interval),
        planted=planted,
        subtle=subtle,
        verdicts=verdicts(students, by_group, bundles),
        check=check_field(selection_inputs(config, run, log), config.evaluate, groups),
        students=students,
        variants=_variants(config, run, groups, selected),
        gates=gates_result(selection_inputs(config, run, log), config.evaluate.interval, pairs),
    )
    write_result(run.evaluation, result)
    _tell(result, log)
    return result


def _variants(
    config: Config, run: RunFolder, groups: Sequence[Group], selected: Mapping[str, Any]
) -> VariantsResult | None:
    if selected["method"] != "mira":
        return None
    return compare_variants(config.select, run, groups, selected, config.evaluate.interval, config.seed)


def held_out_records(
    run: RunFolder,
    group: Group,
    quality: Mapping[tuple[str, str], float] | None,
    cuts: Mapping[str, Cut],
) -> list[Held]:
    """Return a group's held-out labels with what selection does with such records.

    Where the selection rests on a student that may know the labels, quality is that of the held-out predictions (see
    `held_out_quality`), and a record counts as kept when that reaches its source's threshold.

    Args:
        run: The run folder.
        group: The group; no records where it has no labels.
        quality: (source, id) -> quality by held-out predictions, or None: take what selection wrote.
        cuts: Source -> its thresholds. For other sources, what selection kept is taken as it is.

    Returns:
        Each record's first judgement. Labels of records that are no longer in the corpus are left out.
    """
    if not run.labels(group.name).is_file():
        return []
    columns = ["id", "source", "replicate", "overall", "recommendation", "split"]
    labels = pq.read_table(run.labels(group.name), columns=columns)
    labels = labels.filter(pc.equal(labels["split"], "held_out"))
    labels = labels.sort_by([("id", "ascending"), ("replicate", "descending")])
    found = []
    for source in group.sources:
        first = {row["id"]: row for row in labels.filter(pc.equal(labels["source"], source)).to_pylist()}
        for row in _selection(run, source, list(first)):
            label = first[row["id"]]
            value = row["quality"] if quality is None else quality.get((source, row["id"]))
            gated = (row["reason"] or "").startswith(GATED)
            decides = source in cuts and not gated
            kept = cuts[source].keeps(value, row["n_tokens"], row["kept"]) if decides else row["kept"]
            found.append(Held(source, kept, value, label["overall"], label["recommendation"]))
    return found


def _selection(run: RunFolder, source: str, ids: Sequence[str]) -> list[dict[str, Any]]:
    paths = sorted(run.selection(source).glob("*.parquet"))
    if not paths:
        raise RunError(f"{run.selection(source)}: there is no selection", "Run `mira select` first.")
    wanted = ds.field("id").isin(pa.array(ids, pa.string()))
    rows = ds.dataset(paths).to_table(columns=["id", "n_tokens", "kept", "quality", "reason"], filter=wanted)
    return list(rows.sort_by("id").to_pylist())


def _thresholds(selected: Mapping[str, Any]) -> dict[str, float]:
    """Return source -> threshold, where copies of any length can be set beside it."""
    if selected["method"] != "mira" or selected.get("temperature") or selected.get("length"):
        return {}
    cuts = {source: counts.get("threshold") for source, counts in selected["sources"].items()}
    return {source: float(cut) for source, cut in cuts.items() if cut is not None}


def _planted(
    config: Config, run: RunFolder, log: Log, groups: Sequence[Group], selected: Mapping[str, Any]
) -> tuple[PlantedResult, PlantedResult, dict[str, list[PlantedFigures]], list[Pair]]:
    """Measure planted faults, and those that look like good text.

    Returns:
        Both, the students' figures by fault of each group's pairs of either kind ("all": of all pairs), and the pairs.
    """
    if not (config.evaluate.planted or config.evaluate.subtle):
        return PlantedResult(), PlantedResult(), {}, []
    try:
        plain, subtle, values = _judged_pairs(config, run, log, groups)
    except JudgeError as error:
        log.note(f"planted faults: left out: {error}")
        return PlantedResult(), PlantedResult(), {}, []
    yardsticks = load_yardsticks(config.select, run)
    usable = {
        s: t  # without foreign scores, which spoiled copies have none of, quality is not on the threshold's scale
        for s, t in _thresholds(selected).items()
        if s in yardsticks and yardsticks[s].slots and not yardsticks[s].foreign
    }
    known = _known(values)
    measure = partial(measure_planted, confidence=config.evaluate.interval, seed=config.seed)

    def measured(planted: Planted) -> PlantedResult:
        pairs = planted.pairs
        methods = {
            "mira": measure(pairs, known, usable),
            "length": measure(pairs, by_length),
            **planted_methods(selection_inputs(config, run, log), config.evaluate, pairs),
        }
        sources = {
            source: measure([p for p in pairs if p.original.source == source], known, usable)[-1]
            for source in sorted({p.original.source for p in pairs})
        }
        records = len({(p.original.source, p.original.id) for p in pairs})
        return PlantedResult(records, methods, sources, planted_findings(methods, sources), planted.skipped)

    every = [*plain.pairs, *subtle.pairs]
    by_group = {g.name: measure([p for p in every if p.original.source in g.sources], known) for g in groups}
    return (
        measured(plain) if config.evaluate.planted else PlantedResult(),
        measured(subtle) if config.evaluate.subtle else PlantedResult(),
        by_group | {"all": measure(every, known)},
        every,
    )


def _judged_pairs(
    config: Config, run: RunFolder, log: Log, groups: Sequence[Group]
) -> tuple[Planted, Planted, dict[tuple[str, str], float]]:
    """Spoil records of every group, and have its student judge originals and copies.

    Returns:
        The pairs, those whose copies look like good text, and (source, id) -> quality.

    Raises:
        JudgeError: A served student cannot be asked, or gave too few replies.
    """
    yardsticks, budget = load_yardsticks(config.select, run), config.teacher.failure_budget
    plain, subtle = Planted([], {}), Planted([], {})
    values: dict[tuple[str, str], float] = {}
    with log.task("planted faults", total=len(groups)) as task:
        for group in groups:
            ranked = [s for s in group.sources if s in yardsticks and yardsticks[s].of_rubric]
            some = [r for s in ranked for r in _unlabelled(config, run, group, s, config.evaluate.planted)]
            own = plant(some, seed=config.seed)
            others = [r for s in ranked for r in _unlabelled(config, run, group, s, config.evaluate.subtle)]
            looking_good = plant_subtle(others, seed=config.seed)
            pairs = [*own, *looking_good.pairs]
            originals = list({(p.original.source, p.original.id): p.original for p in pairs}.values())
            copies = [*originals, *(p.degraded for p in pairs)]
            with open_student(config.students, run, group.name, log) as judge:
                scored = judge_scorer(judge, yardsticks, config.select, budget, log)(copies)
            values |= {(r.source, r.id): float(v) for r, v in zip(copies, scored, strict=True)}
            plain.pairs.extend(own)
            subtle = subtle.joined(looking_good)
            task.advance()
    return plain, subtle, values


def _known(values: Mapping[tuple[str, str], float]) -> Scorer:
    return lambda records: np.array([values[r.source, r.id] for r in records], dtype=np.float64)


def _unlabelled(config: Config, run: RunFolder, group: Group, source: str, n: int) -> list[Record]:
    """Return a seeded sample of n records that the student was not trained on."""
    if not n:
        return []
    labelled: set[str] = set()
    if run.labels(group.name).is_file():
        labels = pq.read_table(run.labels(group.name), columns=["id", "source"])
        labelled = set(labels.filter(pc.equal(labels["source"], source))["id"].to_pylist())
    ids = corpus.sample_ids(run, source, n + len(labelled), config.seed, "planted")
    fresh = [i for i in ids if i not in labelled][:n]
    return corpus.fetch(config.corpus, run, source, fresh)


def _tell(result: EvaluationResult, log: Log) -> None:
    for group, students in result.students.items():
        known = [f"{name} {f.rho.value:.2f}" for name, f in students.items() if f.rho.value is not None]
        if known:
            log.note(f"{group}: mean rho of {', '.join(known)}")
    held = result.agreement.all
    if held.precision is not None:
        log.note(
            f"the teacher would keep {held.precision:.0%} "
            f"[{held.precision_low:.0%}, {held.precision_high:.0%}] of the {held.kept} held-out records kept, "
            f"{held.base_rate:.0%} of all {held.n}{_like_random(held)}"
        )
    for kind, planted in (("planted", result.planted), ("looks like good text", result.subtle)):
        _tell_planted(kind, planted, log)
    if result.variants:
        _tell_variants(result.variants, log)
    if result.check:
        _tell_check(result.check, log)
    if result.gates:
        _tell_gates(result.gates, log)
    for group, found in result.verdicts.items():
        log.note(f"verdict, {group}: {found.text}")


def _tell_gates(gates: GatesResult, log: Log) -> None:
    for words, agreed in (("with gates", gates.with_gates), ("without gates", gates.without)):
        if agreed.precision is not None:
            log.note(
                f"{words}: the teacher would keep {agreed.precision:.0%} "
                f"[{agreed.precision_low:.0%}, {agreed.precision_high:.0%}] of the {agreed.kept} held-out records kept"
            )
    for gate, kinds in gates.faults.items():
        for kind, found in kinds.items():
            if found.worse is not None and found.better is not None:
                log.note(
                    f"gate {gate}, {kind}: drops {found.worse:.0%} of the spoiled copies and {found.better:.0%} of the "
                    f"originals of {found.pairs} pairs"
                )


def _tell_planted(kind: str, planted: PlantedResult, log: Log) -> None:
    for name, faults in planted.methods.items():
        for figures in faults if name == "mira" else faults[-1:]:
            about = figures.fault if name == "mira" else name
            if figures.accuracy is not None:
                log.note(
                    f"{kind}, {about}: the original scores higher in {figures.accuracy:.0%} "
                    f"[{figures.accuracy_low:.0%}, {figures.accuracy_high:.0%}] of {figures.compared} pairs"
                    f"{': too few pairs to tell' if figures.too_few else ''}"
                )
    for fault, why in planted.skipped.items():
        counts = ", ".join(f"{reason.replace('_', ' ')} {n}" for reason, n in why.items())
        log.note(f"{kind}, {fault}: not planted in {sum(why.values())} records: {counts}")
    for finding in planted.findings:
        log.note(finding)


def _like_random(held: AgreementFigures) -> str:
    """Say so where the interval of the precision holds what a random selection reaches."""
    low, high, base = held.precision_low, held.precision_high, held.base_rate
    if low is None or high is None or base is None or not low <= base <= high:
        return ""
    return ": too few to tell this selection from a random one, as the interval holds both"


def _tell_variants(variants: VariantsResult, log: Log) -> None:
    for setting, found in (("compare_by", variants.compare_by), ("length.control", variants.length)):
        for name, figures in found.items():
            log.note(
                f"select.{setting}: {name}: rho with the verdicts of {variants.records} labels "
                f"{_shown(figures.within)} within sources, {_shown(figures.across)} across; the teacher would keep "
                f"{_shown(figures.precision)} of the kept tokens"
            )


def _shown(estimate: Estimate) -> str:
    if estimate.value is None:
        return "-"
    return f"{estimate.value:.2f} [{estimate.low:.2f}, {estimate.high:.2f}]"


def _tell_check(check: FieldCheck, log: Log) -> None:
    for source, found in check.sources.items():
        for figures, who in ((found.student, "the student's quality"), (found.teacher, "the teacher's overall")):
            if figures.auc is not None:
                log.note(
                    f"{source}, {check.field}: {who} tells {figures.clean} clean from "
                    f"{figures.spoiled} other records with an AUC of {figures.auc:.2f} "
                    f"[{figures.low:.2f}, {figures.high:.2f}] (a weak label: some of it does no harm)"
                    f"{': too few records to tell' if figures.too_few else ''}"
                )
