"""A free external check: does quality tell records that their source calls spoiled from those that it calls clean?

Some sources say in a field what was done to a record (`evaluate.check_field`), though no judge and no student reads
it. It is a weak label: a record may be spoiled in a way that does no harm, and a clean one may be bad.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from mira import corpus
from mira.arrays import Floats
from mira.config.settings import EvaluateSettings, SelectSettings
from mira.evaluation.results import CheckFigures, FieldCheck, KindFigures, SourceCheck
from mira.foreign.sidecars import with_foreign
from mira.grouping.groups import Group
from mira.run_folder.paths import RunFolder
from mira.selection.values import SelectionInputs
from mira.selection.yardstick.yardsticks import Yardstick, load_yardsticks
from mira.stats import auc, generator, percentile_interval

__all__ = ["CLEAN", "check_field"]

CLEAN = frozenset({"none", "clean", "", "false", "0"})
"""Values of the field that say that nothing was done."""
_MOST_KINDS = 20
_RESAMPLES = 500


def check_field(inputs: SelectionInputs, settings: EvaluateSettings, groups: Sequence[Group]) -> FieldCheck | None:
    """Measure students, and the teacher, on the records that `evaluate.check_field` speaks of.

    Students are measured on records without a label: these they have not been trained on. The teacher is measured by
    `overall` on the labelled ones.

    Returns:
        The figures of each source that has both clean and spoiled records; None if the field is not set.
    """
    field, run = settings.check_field, inputs.run
    if not field:
        return None
    sources = {}
    for group in groups:
        for source in group.sources:
            given = corpus.field_values(inputs.corpus, run, source, field)
            values = {i: str(v).strip().lower() for i, v in given.items()}
            if set(values.values()) & CLEAN and set(values.values()) - CLEAN:
                sources[source] = _source(inputs, settings.interval, group, source, values)
    if not sources:
        inputs.log.note(f"evaluate.check_field: no source has both clean and other records by field '{field}'")
    return FieldCheck(field, sources)


def _source(
    inputs: SelectionInputs, interval: float, group: Group, source: str, values: Mapping[str, str]
) -> SourceCheck:
    labelled = _labels(inputs.run, group, source)
    ids, quality, overall = _scores(inputs.select, inputs.run, source)
    figures = partial(_figures, interval=interval, seed=inputs.seed)
    fresh = np.array([i in values and i not in labelled for i in ids], dtype=np.bool_)
    kinds = [values[i] for i, is_one in zip(ids, fresh, strict=True) if is_one]
    judged = [i for i in labelled if i in values]
    return SourceCheck(
        student=figures(kinds, quality[fresh]),
        overall=figures(kinds, overall[fresh]),
        teacher=figures([values[i] for i in judged], np.array([labelled[i] for i in judged])),
    )


def _labels(run: RunFolder, group: Group, source: str) -> dict[str, float]:
    """Return id -> the teacher's mean overall of every record that the student may have been trained on."""
    if not run.labels(group.name).is_file():
        return {}
    table = pq.read_table(run.labels(group.name), columns=["id", "source", "overall"])
    means: dict[str, list[float]] = {}
    for row in table.to_pylist():
        if row["source"] == source:
            means.setdefault(row["id"], []).append(np.nan if row["overall"] is None else row["overall"])
    return {i: float(np.mean(found)) for i, found in means.items()}


def _scores(select: SelectSettings, run: RunFolder, source: str) -> tuple[list[str], Floats, Floats]:
    """Return ids, quality and the student's overall of a source's scored records."""
    yardstick = load_yardsticks(select, run).get(source, Yardstick())
    slots = yardstick.slots
    paths = sorted(run.scores(source).glob("*.parquet"))
    if not paths:
        return [], np.zeros(0), np.zeros(0)
    table = ds.dataset(paths).to_table(columns=["id", "overall", *yardstick.of_rubric]).sort_by("id")
    table = with_foreign(run, source, table, slots)

    def column(name: str) -> Floats:
        return np.asarray(table[name].cast(pa.float64()).to_numpy(zero_copy_only=False))

    quality = np.full(len(table), np.nan)
    if slots:
        columns = [column(slot).astype(np.float32) for slot in slots]
        quality = yardstick.quality(columns, select)[0]
    return table["id"].to_pylist(), quality, column("overall")


def _figures(kinds: Sequence[str], scores: Floats, *, interval: float, seed: int) -> CheckFigures:
    kind = np.array(kinds, dtype=object)
    known = np.isfinite(scores)
    kind, scores = kind[known], scores[known]
    clean = np.array([k in CLEAN for k in kind], dtype=np.bool_)
    commonest = [k for k, _ in Counter(kind[~clean]).most_common(_MOST_KINDS)]
    samples = np.array(list(_resampled(scores, clean, seed)))
    low, high = percentile_interval(samples, interval) if len(samples) else (np.nan, np.nan)
    return CheckFigures(
        clean=int(clean.sum()),
        spoiled=int((~clean).sum()),
        auc=_known(auc(scores, clean)),
        low=_known(low),
        high=_known(high),
        kinds={
            k: KindFigures(int((kind == k).sum()), _known(auc(scores[both], clean[both])))
            for k in sorted(commonest)
            for both in [clean | (kind == k)]
        },
    )


def _resampled(scores: Floats, clean: np.ndarray[Any, np.dtype[np.bool_]], seed: int) -> Iterator[float]:
    """Yield the AUC of resamples; clean and other records are drawn apart."""
    good, bad = np.flatnonzero(clean), np.flatnonzero(~clean)
    rng = generator(seed, "check_field")
    for _ in range(_RESAMPLES if len(good) and len(bad) else 0):
        rows = np.concatenate([rng.choice(good, len(good)), rng.choice(bad, len(bad))])
        yield auc(scores[rows], clean[rows])


def _known(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
