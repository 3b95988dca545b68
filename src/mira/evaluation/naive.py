"""Is a group's student worth more than naive means?"""

from dataclasses import asdict

import pyarrow.compute as pc
import pyarrow.parquet as pq

from mira.config.settings import CorpusSettings, ReliabilitySettings
from mira.corpus import fetch
from mira.evaluation.results import StudentResult
from mira.grouping.groups import Group
from mira.reliability.evidence import Predictions, read_predictions
from mira.reliability.students.baselines import naive_students
from mira.reliability.students.compare import compare_students
from mira.reliability.summary import plain
from mira.rubric.rubric import Rubric
from mira.rubric.slots import slot_columns
from mira.run_folder.paths import RunFolder
from mira.run_folder.results import from_plain

__all__ = ["against_naive"]

_MOST_TEXTS = 20_000
"""Labels up to which the n-gram baseline is fitted; beyond that it would take longer than all the rest."""


def against_naive(
    corpus: CorpusSettings, settings: ReliabilitySettings, seed: int, run: RunFolder, group: Group
) -> dict[str, StudentResult]:
    """Compare a group's student with a constant, the source mean, the length and n-grams, on the same labels.

    Returns:
        Name -> figures; "student" comes first, so `gain` is what a naive mean has more than
        the student. Empty where the group has no labels, or its student no predictions for them.
    """
    slots = slot_columns(pq.read_schema(run.labels(group.name)).names) if run.labels(group.name).is_file() else []
    folder = run.student(group.name)
    student = Predictions(
        out_of_fold=read_predictions(folder / "out_of_fold.parquet", slots) if slots else None,
        held_out=read_predictions(folder / "held_out.parquet", slots) if slots else None,
    )
    if student.out_of_fold is None and student.held_out is None:
        return {}
    columns = ["id", "source", "replicate", "overall", "recommendation", "split", "n_tokens", *slots]
    labels = pq.read_table(run.labels(group.name), columns=columns)
    texts = _texts(corpus, run, group) if labels.num_rows <= _MOST_TEXTS else None
    found = compare_students(
        group.name,
        [a.name for a in Rubric.load(run.rubric(group.name)).anchors],
        group.sources,
        labels,
        {"student": student, **naive_students(labels, texts)},
        settings=settings,
        seed=seed,
    )
    plain_figures = plain({name: asdict(figures) for name, figures in found.students.items()})
    return {name: from_plain(StudentResult, figures, run.evaluation) for name, figures in plain_figures.items()}


def _texts(corpus: CorpusSettings, run: RunFolder, group: Group) -> dict[tuple[str, str], str]:
    labels = pq.read_table(run.labels(group.name), columns=["id", "source"])
    texts: dict[tuple[str, str], str] = {}
    for source in group.sources:
        ids = pc.unique(labels.filter(pc.equal(labels["source"], source))["id"]).to_pylist()
        records = fetch(corpus, run, source, ids, allow_missing=True)
        texts |= {(source, record.id): record.text for record in records}
    return texts
