"""`mira students`: every student of every group compared, what more labels would buy, and where -> students.json."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from mira import corpus
from mira.arrays import Floats
from mira.config.settings import Config, ReliabilitySettings
from mira.corpus.record import Record
from mira.distillation.bundle import read_bundle
from mira.distillation.encoder.curve import learning_curve
from mira.distillation.encoder.kernel import FeatureBlocks
from mira.embedding import load_embedder
from mira.embedding.static import StaticTokens
from mira.errors import RunError
from mira.grouping.groups import Group, load_groups
from mira.progress import Log
from mira.reliability.ceiling import ceilings
from mira.reliability.cells import measure_group
from mira.reliability.evidence import GroupEvidence, Predictions, collect
from mira.reliability.masking import Reason, Verdict, verdicts
from mira.reliability.students.baselines import Known, known_students, naive_students
from mira.reliability.students.candidates import StudentCandidate, check_compared, find_students
from mira.reliability.students.compare import compare_students
from mira.reliability.students.decision import cascade_of, cascade_speed, decide
from mira.reliability.students.label_next import Need, label_next, need
from mira.reliability.students.notes import notes
from mira.reliability.students.results import GroupStudents, LabelCounts, StudentEntry, StudentsResult, Tables
from mira.reliability.students.speed import Speed, kept_speed, price_here, scored_stage, speed_here, speed_served
from mira.reliability.students.table import compare_figures
from mira.rubric.rubric import Rubric
from mira.rubric.slots import slot_columns, slot_name
from mira.run_folder.files import hash_file, hash_json
from mira.run_folder.paths import RunFolder
from mira.run_folder.results import write_result

__all__ = ["compare_group_students"]

_MOST_TEXTS = 20_000
"""Labelled records up to which their texts are read: beyond it, n-grams and the curve would take longer than all else,
and what they tell is known without them."""

_STATIC_TOKENS = 10_000
"""Tokens with a vector in the Model2Vec-style baseline: the most frequent ones, a third of all (ours)."""

Cells = NDArray[np.bool_]


def compare_group_students(config: Config, run: RunFolder, log: Log) -> StudentsResult:
    """Compare all students of all groups with one another and with naive means; write students.json.

    The held-out table rests on predictions of models that saw the training split alone, students and naive means
    alike, and its cells are chosen on the training split; the held-out labels are read for it once. The cross-fitted
    table has every labelled record, each predicted by models that have not seen it. Learning curves use the training
    split.

    Raises:
        RunError: A stage before has not run.
        InputError: An entry of `distill.compare` is not a bundle, or scores by another rubric.
    """
    there = load_groups(run) if run.groups.is_file() else []
    groups = [g for g in there if run.rubric(g.name).is_file() and run.labels(g.name).is_file()]
    if not groups:
        raise RunError(
            f"{run.path}: there is no student in this run, and no labels to compare students on",
            "Both need a teacher: with one in the settings, mira run makes them.",
        )
    check_compared(run, config.distill.compare)
    found = {}
    with log.task("students", total=len(groups)) as task:
        for group in groups:
            found[group.name] = _Compared(config, run, group).result(log)
            task.advance()
    result = StudentsResult(config.reliability.interval, found)
    write_result(run.students_report, result)
    return result


class _Compared:
    """One group: its labels, its students and naive means."""

    def __init__(self, config: Config, run: RunFolder, group: Group) -> None:
        self.config, self.run, self.group = config, run, group
        slots = slot_columns(pq.read_schema(run.labels(group.name)).names)
        columns = ["id", "source", "replicate", "overall", "recommendation", "split", "n_tokens", *slots]
        self.labels = pq.read_table(run.labels(group.name), columns=columns)
        self.names = [a.name for a in Rubric.load(run.rubric(group.name), group.name).anchors]
        self.students = find_students(run, group, slots, config.distill.compare)
        self.records = self._records()
        texts = {(r.source, r.id): r.text for r in self.records} if self.records else None
        self.naive = naive_students(self.labels, texts)
        self.known = known_students(self.labels, texts, _static) if texts else Known({}, {})
        self.cascades = self._cascades()
        self.evidence = self._collect(self.labels, next(iter(self.naive.values())))
        settings = config.reliability
        self.ceiling = ceilings(self.evidence, settings.min_pairs, bootstrap=settings.bootstrap, seed=config.seed)

    def result(self, log: Log) -> GroupStudents:
        settings, seed, ceiling = self.config.reliability, self.config.seed, self.ceiling.rho
        everyone = {s.name: s.predictions for s in self.students}
        comparison = compare_students(
            self.group.name, self.names, self.group.sources, self.labels, everyone, settings=settings, seed=seed
        )
        held_out, cross_fitted = self._tables()
        table = held_out or cross_fitted
        kinds = {s.name: "student" for s in self.students} | dict.fromkeys(self.cascades, "cascade")
        speeds = self._speeds(log)
        result = GroupStudents(
            students={
                s.name: StudentEntry(s.kind, str(s.folder), s.predictions.out_of_fold is not None)
                for s in self.students
            },
            labels=LabelCounts(
                records=sum(len(s.ids) for s in self.evidence.sources),
                held_out=self._split("held_out").group_by(["source", "id"]).aggregate([]).num_rows,
                doubly_judged=sum(len(s.retests) for s in self.evidence.sources),
                mean_ceiling=float(np.nanmean(ceiling)) if np.isfinite(ceiling).any() else float("nan"),
            ),
            held_out=held_out,
            cross_fitted=cross_fitted,
            decision=decide(table.unmasked, kinds, speeds, held_out=held_out is not None) if table else None,
            cells=comparison.cells,
            curve=self._curve(log),
            label_next=label_next(self._needs(), self._unlabelled()),
            notes=[],
        )
        return replace(result, notes=notes(result, [s.name for s in self.students], settings))

    def _collect(self, labels: pa.Table, predictions: Predictions) -> GroupEvidence:
        return collect(self.group.name, self.names, self.group.sources, labels, predictions)

    def _split(self, name: str) -> pa.Table:
        return self.labels.filter(pc.equal(self.labels["split"], name))

    def _records(self) -> list[Record] | None:
        """Return the labelled records, or None where they are too many."""
        if self.labels.num_rows > _MOST_TEXTS:
            return None
        return [
            record
            for source in self.group.sources
            for record in corpus.fetch(
                self.config.corpus, self.run, source,
                pc.unique(self.labels.filter(pc.equal(self.labels["source"], source))["id"]).to_pylist(),
                allow_missing=True,
            )
        ]  # fmt: skip

    def _cascades(self) -> dict[str, Predictions]:
        """Return what cascades of two students would say: the first one scores all, a later one near the middle."""
        share, first = self.config.distill.cascade.share, self.students[0]
        mixed = {
            f"cascade: {first.name}, {share:.0%} by {dear.name}": cascade_of(first.predictions, dear.predictions, share)
            for dear in self.students[1:]
        }
        return {name: p for name, p in mixed.items() if p.held_out is not None or p.out_of_fold is not None}

    def _speeds(self, log: Log) -> dict[str, Speed]:
        config, scored = self.config, scored_stage(self.run)
        found = {
            s.name: speed_served(scored, self.group.name)
            if s.folder == self.run.student(self.group.name) and s.kind in ("sft", "endpoint")
            else speed_here(s, self.records or [], self.run, config.distill, config.embedding, config.score, log)
            for s in self.students
        }
        share, first = config.distill.cascade.share, self.students[0].name
        for name, dear in zip(self.cascades, self.students[1:], strict=False):
            found[name] = cascade_speed(found[first], found[dear.name], share)
        labels = hash_file(self.run.labels(self.group.name))
        for name, measured in self.known.speeds.items():
            rate = kept_speed(self.run, hash_json([labels, name]), partial(float, measured))
            found[name] = Speed(rate, price_here(rate, config.score))
        return found

    def _tables(self) -> tuple[Tables | None, Tables | None]:
        """Return the table of held-out records and that of all, cross-fitted."""
        cells = self._cells()
        held_out, crossed = {}, {}
        own = {s.name: s.predictions for s in self.students}
        for name, p in {**own, **self.cascades, **self.naive, **self.known.predictions}.items():
            if p.held_out is not None:
                held_out[name] = Predictions(held_out=p.held_out)
            if p.out_of_fold is not None:
                crossed[name] = Predictions(out_of_fold=p.out_of_fold)
        return (
            self._table(self._split("held_out"), held_out, cells),
            self._table(self.labels, crossed, cells),
        )

    def _table(
        self, labels: pa.Table, predictions: Mapping[str, Predictions], cells: Mapping[str, Cells]
    ) -> Tables | None:
        if not labels.num_rows or not any(s.name in predictions for s in self.students):
            return None
        evidence = {name: self._collect(labels, p) for name, p in predictions.items()}
        settings, seed = self.config.reliability, self.config.seed
        unmasked, every = (
            compare_figures(evidence, self.ceiling, cells[which], settings=settings, seed=seed)
            for which in ("unmasked", "all")
        )
        return Tables(unmasked, every)

    def _cells(self) -> dict[str, Cells]:
        """Choose cells on the training split: those a cross-fitted student is trusted with, and those that vary.

        Students without cross-fitted predictions have been fitted on that split, so it cannot tell about them.
        """
        train = self._split("train")
        varied = self._verdicts(train, Predictions(out_of_fold=self.naive["length"].out_of_fold))
        every = np.array(
            [[v.level == "cell" and v.reason is not Reason.COLLAPSED for v in row] for row in varied], np.bool_
        ).reshape(self.ceiling.rho.shape)
        trusted = [
            np.array([[v.level == "cell" and not v.masked for v in row] for row in found], np.bool_)
            for s in self.students
            if s.predictions.out_of_fold is not None
            for found in [self._verdicts(train, Predictions(out_of_fold=s.predictions.out_of_fold))]
        ]
        return {"unmasked": np.any(trusted, axis=0) if trusted else every, "all": every}

    def _verdicts(self, labels: pa.Table, predictions: Predictions) -> tuple[tuple[Verdict, ...], ...]:
        return self._judged(labels, predictions)[1]

    def _judged(
        self, labels: pa.Table, predictions: Predictions
    ) -> tuple[list[list[int]], tuple[tuple[Verdict, ...], ...]]:
        settings: ReliabilitySettings = self.config.reliability
        measure = measure_group(
            self._collect(labels, predictions), bootstrap=settings.bootstrap, confidence=settings.interval,
            seed=self.config.seed,
        )  # fmt: skip
        return [[c.n for c in row] for row in measure.cells], verdicts(measure, settings)

    def _needs(self) -> dict[str, list[Need]]:
        """Return what each source's cells need under the student that needs least."""
        found: dict[tuple[int, int], list[Need | None]] = {}
        for student in self.students:
            n, decided = self._judged(self.labels, student.predictions)
            share = 1.0 if student.predictions.out_of_fold is not None else max(self.config.label.held_out, 0.01)
            for i, row in enumerate(decided):
                for j, verdict in enumerate(row):
                    wanted = need(slot_name(j), self.names[j], n[i][j], verdict, self.config.reliability, share)
                    found.setdefault((i, j), []).append(wanted)
        result: dict[str, list[Need]] = {source: [] for source in self.group.sources}
        for (i, _), needs in sorted(found.items()):
            least = _least(needs)
            if least is not None:
                result[self.group.sources[i]].append(least)
        return result

    def _unlabelled(self) -> dict[str, int]:
        valid = corpus.totals(self.config.corpus, self.run)
        labelled = {s.source: len(s.ids) for s in self.evidence.sources}
        return {source: max(valid[source]["valid"] - labelled[source], 0) for source in self.group.sources}

    def _curve(self, log: Log) -> dict[str, Any] | None:
        encoder = _encoder(self.students)
        if encoder is None or not self.records:
            return None
        facts = read_bundle(encoder.folder, "encoder")
        blocks = FeatureBlocks(**facts["blocks"])
        known = {(r.source, r.id) for r in self.records}
        there = [k in known for k in zip(*(self.labels[c].to_pylist() for c in ("source", "id")), strict=True)]
        return learning_curve(
            self.labels.filter(pa.array(there)), self.records, len(self.names), blocks, facts["target"],
            load_embedder(self.config.students.embedding) if blocks.embedding else None, self.config.distill.folds,
            self.config.seed, log,
        )  # fmt: skip


def _static(texts: Sequence[str]) -> Floats:
    return StaticTokens(tokens=_STATIC_TOKENS).embed(texts).astype(np.float64)


def _encoder(students: Sequence[StudentCandidate]) -> StudentCandidate | None:
    return next((s for s in students if s.kind == "encoder"), None)


def _least(needs: Sequence[Need | None]) -> Need | None:
    order = ("near", "masked", "too few to tell", "hopeless")
    if any(n is None for n in needs):
        return None
    return min((n for n in needs if n is not None), key=lambda n: (order.index(n.outlook), n.labels or 0))
