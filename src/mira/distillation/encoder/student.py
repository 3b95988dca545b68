"""The encoder student: cheap features and a ridge head, trained in seconds on a CPU.

Tried on all of the demo's labels, cross-fitted, and left out:

- isotonic calibration per source: Spearman .02 to .03 lower, MAE .03 higher;
- gradient boosting or extremely randomised trees on the structural features: Spearman .03 to .06 lower; the trees
  averaged with the ridge: .00 to .01 lower;
- principal components of the slots as targets, or word n-grams beside character n-grams: at most .005 higher;
- an ordinal head, expected score over cumulative thresholds: by ridge .001 to .003 higher, MAE .03 to .06 higher, ten
  times the time; by proportional odds .000 to .002 lower, five hundred times the time;
- labels of another group's slots of like names, at a weight chosen by cross-validation: .000 to .001 higher; where
  the group itself has 40 labels, .002 and .025.
"""

import shutil
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from mira.arrays import one_thread
from mira.config.settings import DistillSettings, WindowSettings
from mira.corpus.record import Record
from mira.distillation.bundle import install
from mira.distillation.encoder import cross_validation
from mira.distillation.encoder import head as heads
from mira.distillation.encoder.agreement import agreement
from mira.distillation.encoder.bundle import EncoderBundle, read_encoder, write_encoder
from mira.distillation.encoder.cross_validation import (
    BLOCKS,
    Choice,
    Labels,
    by_record,
    choose,
    cross_fit,
    target_maps,
    together,
)
from mira.distillation.encoder.features import FeatureStore, featurise
from mira.distillation.encoder.head import Head, NystroemBasis
from mira.distillation.encoder.kernel import FeatureBlocks
from mira.distillation.encoder.spool import Spool
from mira.distillation.scores import judged, predictions_table
from mira.distillation.unspaced import as_before
from mira.embedding.embedder import Embedder
from mira.errors import InputError
from mira.judging.judge import Judge, JudgeTask
from mira.judging.windows import windows_of
from mira.progress import Log
from mira.rubric.judgement import Judgement
from mira.rubric.rubric import Rubric
from mira.rubric.slots import slot_names
from mira.run_folder.files import write_parquet

__all__ = ["CHOICE_LABELS", "Effort", "EncoderStudent", "labels_of", "store_features", "train_encoder"]

Array = npt.NDArray[np.float64]
CHOICE_LABELS = 4096
"""Candidates are compared on at most this many training labels, those of lowest hash."""
BATCH = 256


@dataclass(frozen=True, slots=True)
class Effort:
    """How much training tries.

    Attributes:
        blocks: Candidates by rising cost of scoring.
        choice_labels: Training labels at most that candidates are compared on.
        choice_landmarks: Landmarks at most while candidates are compared.
        landmarks: Landmarks at most of the student.
    """

    blocks: tuple[FeatureBlocks, ...] = BLOCKS
    choice_labels: int = CHOICE_LABELS
    choice_landmarks: int = cross_validation.LANDMARKS
    landmarks: int = heads.LANDMARKS


def train_encoder(
    labels: pa.Table,
    records: Iterable[Record],
    rubric: Rubric,
    embedder: Embedder | None,
    settings: DistillSettings,
    seed: int,
    folder: Path,
    log: Log,
    effort: Effort = Effort(),
) -> dict[str, Any]:
    """Train a group's encoder student and write its scorer bundle.

    Features and target are chosen by cross-validation inside the training split. With that choice: `held_out.parquet`
    holds the held-out records' predictions by a model of the training split alone; `out_of_fold.parquet` those of
    every labelled record by models that have not seen it (cross-fitting); the weights are fitted on all labels.

    Args:
        labels: The group's labels. Replicates of a record are averaged; unscored ones are left out.
        records: At least the labelled records. Gone through twice where there are more than `effort.choice_labels`
            labels; an iterator is written to disk and read in order of (source, id). Same order, same bytes.
        rubric: The group's rubric.
        embedder: None leaves the candidates with embeddings out.
        settings: `folds`, `tolerance`, `detail` and `windows` are used.
        seed: Of folds and landmarks.
        folder: The bundle's folder; replaced as a whole.
        log: Where progress goes.
        effort: How much is tried.

    Returns:
        A summary: labels, chosen features, cross-validated and held-out agreement.

    Raises:
        InputError: There is no scored label in the training split, or a labelled record is not in `records`.
    """
    table = labels_of(labels, len(rubric.anchors), settings.folds, seed)
    # One thread: sums in BLAS depend on the number of threads in their last bits, and the weights must not.
    folder.parent.mkdir(parents=True, exist_ok=True)
    for left in folder.parent.glob(f".{folder.name}.scratch-*"):  # of a run that was killed
        shutil.rmtree(left, ignore_errors=True)
    in_run = tempfile.TemporaryDirectory(prefix=f".{folder.name}.scratch-", dir=folder.parent)
    with one_thread(), in_run as scratch:
        records = Spool(Path(scratch) / "records", records) if isinstance(records, Iterator) else records
        choice, store, table = _choose(table, records, embedder, settings, Path(scratch), log, effort)
        held_out, out_of_fold, head = _fit(store, table, choice, effort.landmarks)
    if settings.windows:
        first, (held_out, out_of_fold) = by_record(table, (held_out, out_of_fold), settings.windows)
        table = table.take(first)
    summary = _summary(table, choice, held_out, out_of_fold)
    used = embedder if choice.blocks.embedding else None
    staged = folder.with_name(f".{folder.name}.new")
    shutil.rmtree(staged, ignore_errors=True)
    try:
        write_parquet(
            staged / "out_of_fold.parquet", predictions_table(table, out_of_fold, np.ones_like(table.train), folds=True)
        )
        write_parquet(staged / "held_out.parquet", predictions_table(table, held_out, ~table.train, folds=False))
        extra = {
            **({"windows": settings.windows.model_dump(mode="json")} if settings.windows else {}),
            **summary,
            "seed": seed,
            "folds": settings.folds,
            "cross_validation": choice.table,
        }
        write_encoder(staged, head, rubric, used, choice.target, extra)
        install(staged, folder)
    finally:
        shutil.rmtree(staged, ignore_errors=True)
    log.note(
        f"  {rubric.group}: {summary['features']}, {summary['labels']} labels, Spearman {summary['rho']:.3f} "
        f"({summary['rho_within']:.3f} within sources), cross-fitted"
    )
    return summary


def labels_of(labels: pa.Table, n_slots: int, folds: int, seed: int) -> Labels:
    """Return a group's labels as arrays, one row a record, in order of (source, id).

    Replicates count as one label, their mean: the teacher's own noise is small beside the student's error.

    Raises:
        InputError: No record of the training split has a score.
    """
    columns = [*slot_names(n_slots), "overall"]
    scores = np.column_stack([labels[c].to_numpy(zero_copy_only=False).astype(np.float64) for c in columns])
    keys = list(zip(labels["source"].to_pylist(), labels["id"].to_pylist(), strict=True))
    scored = np.isfinite(scores[:, :-1]).any(axis=1)
    rows = {key: i for i, key in enumerate(sorted({k for k, s in zip(keys, scored, strict=True) if s}))}
    index = np.array([rows[k] for k, s in zip(keys, scored, strict=True) if s], dtype=np.int64)
    sums, counts = np.zeros((len(rows), len(columns))), np.zeros((len(rows), len(columns)))
    np.add.at(sums, index, np.nan_to_num(scores[scored]))
    np.add.at(counts, index, np.isfinite(scores[scored]))
    train = np.zeros(len(rows), dtype=bool)
    train[index] = (np.array(labels["split"].to_pylist(), dtype=object) == "train")[scored]
    if not train.any():
        raise InputError("the training split has no scored label", "Label more records, or look at the teacher.")
    return Labels(
        ids=tuple(id for _, id in rows),
        sources=tuple(source for source, _ in rows),
        scores=np.where(counts > 0, sums / np.maximum(counts, 1), np.nan),
        train=train,
        folds=np.array([_hash(seed, "fold", *key) % folds for key in rows], dtype=np.int64),
        priority=np.array([_hash(seed, "landmark", *key) for key in rows], dtype=np.uint64),
    )


def _hash(seed: int, purpose: str, source: str, id: str) -> int:
    return int.from_bytes(blake2b(f"{purpose}\0{seed}\0{source}\0{id}".encode(), digest_size=8).digest())


def _choose(
    table: Labels,
    records: Iterable[Record],
    embedder: Embedder | None,
    settings: DistillSettings,
    scratch: Path,
    log: Log,
    effort: Effort,
) -> tuple[Choice, FeatureStore, Labels]:
    """Return the choice, a store of every labelled record's features, and the labels in the store's order."""
    blocks = tuple(
        replace(b, detail=settings.detail and b.structure) for b in effort.blocks if embedder or not b.embedding
    )
    training = np.flatnonzero(table.train)
    few = len(table) <= effort.choice_labels
    sample = training[np.argsort(table.priority[training], kind="stable")[: effort.choice_labels]]
    rows = np.arange(len(table)) if few else np.sort(sample)
    store, part = store_features(
        scratch / "choice", table.take(rows), records, embedder, log, settings.detail, settings.windows
    )
    choice = choose(store, part, blocks, settings.tolerance, effort.choice_landmarks)
    if not few:
        used = embedder if choice.blocks.embedding else None
        store, part = store_features(scratch / "all", table, records, used, log, choice.blocks.detail, settings.windows)
    return choice, store if choice.blocks.embedding else store.without_embedding(), part


def store_features(
    folder: Path,
    table: Labels,
    records: Iterable[Record],
    embedder: Embedder | None,
    log: Log,
    detailed: bool = False,
    windows: WindowSettings | None = None,
) -> tuple[FeatureStore, Labels]:
    """Return the features of the labelled records, and the labels in the store's order, which is that of `records`.

    Args:
        folder: Where the features go; must not exist.
        table: Labels.
        records: At least the labelled records; others are passed over.
        embedder: See `featurise`.
        log: Where progress goes.
        detailed: See `featurise`.
        windows: Where given, a long record has one row a window, with its labels in each.

    Raises:
        InputError: A labelled record is not in `records`.
    """
    rows = {key: i for i, key in enumerate(zip(table.sources, table.ids, strict=True))}
    order: list[int] = []
    folder.mkdir()
    with log.task("features of labelled records", len(rows)) as task:

        def wanted() -> Iterator[Record]:
            for record in records:
                row = rows.pop((record.source, record.id), None)
                if row is not None:
                    pieces = windows_of(record, windows) if windows else (record,)
                    order.extend([row] * len(pieces))
                    task.advance()
                    yield from pieces

        store = FeatureStore(folder, wanted(), embedder, detailed=detailed)
    if rows:
        source, id = next(iter(rows))
        raise InputError(
            f"{len(rows)} labelled records are not in the corpus, e.g. {id} of {source}",
            "Label again: the corpus has changed since.",
        )
    return store, table.take(np.array(order, dtype=np.int64))


def _fit(store: FeatureStore, table: Labels, choice: Choice, landmarks: int) -> tuple[Array, Array, Head]:
    """Return the held-out predictions, the out-of-fold ones, and the student of all labels."""
    everything = np.ones(len(table), dtype=bool)
    held_out = np.full(table.scores.shape, np.nan)

    def final(span: NystroemBasis) -> tuple[Array, Array, Head]:
        head = span.head(span.fit(everything, table.scores, target_maps(choice.target, table.scores)))
        return held_out, cross_fit(span, table, everything, choice.target), head

    with NystroemBasis(store, table.train, choice.blocks, table.priority, landmarks, placed=everything) as span:
        fit = span.fit(table.train, table.scores, target_maps(choice.target, table.scores[table.train]))
        held_out[~table.train] = fit.predict(~table.train)
        if span.sampled:  # landmarks are a sample in any case: that of the training split serves
            return final(span)
    with NystroemBasis(store, everything, choice.blocks, table.priority, landmarks) as span:
        return final(span)


def _summary(table: Labels, choice: Choice, held_out: Array, out_of_fold: Array) -> dict[str, Any]:
    def measured(predicted: Array, rows: npt.NDArray[np.int64]) -> dict[str, float]:
        return agreement(predicted[rows, :-1], table.scores[rows, :-1], [table.sources[i] for i in rows])

    return {
        "labels": len(table),
        "labels_train": int(table.train.sum()),
        "features": choice.blocks.name,
        "target": choice.target,
        **measured(out_of_fold, np.arange(len(table))),
        "held_out": measured(held_out, np.flatnonzero(~table.train)),
    }


class EncoderStudent(Judge):
    """A trained encoder student as a judge.

    A record's judgement depends on the record only, to the last bit: not on its batch, shard or worker.

    Args:
        bundle: A loaded bundle; see `load`.
        embedder: The bundle's embedder, or None where it needs none.
    """

    def __init__(self, bundle: EncoderBundle, embedder: Embedder | None) -> None:
        self._head: Head = bundle.head
        self._reads_unspaced = bundle.reads_unspaced
        self._embedder, self._windows = embedder, bundle.windows
        self.windowed = bundle.windows is not None
        self.identity = bundle.identity
        self.n_slots = len(bundle.rubric.anchors)
        self.rubric = bundle.rubric

    @classmethod
    def load(cls, folder: Path, embedder: Embedder | None = None, threads: int = 1) -> "EncoderStudent":
        """Load a scorer bundle.

        Args:
            folder: The bundle.
            embedder: The embedder that it was trained with. Not needed by bundles that use none (`embedder` is null in
                bundle.json) or the built-in one.
            threads: Threads of the built-in embedder, where it is loaded here.

        Raises:
            InputError: The bundle is damaged, of another kind, or was trained with another embedder.
        """
        bundle = read_encoder(folder)
        return cls(bundle, bundle.embedder(embedder, threads))

    def predict(self, records: Sequence[Record]) -> npt.NDArray[np.float64]:
        """Return scores, (len(records), n_slots + 1): the slots in [0, 10], then `overall` in [0, 100].

        NaN where the student cannot say: a slot that had no label.
        """
        return self._scored(records)[0]

    def _scored(self, records: Sequence[Record]) -> tuple[Array, Array, npt.NDArray[np.int64]]:
        """Return scores, their spread over windows, and the number of windows of each record."""
        if not records:
            return np.zeros((0, self.n_slots + 1)), np.zeros((0, self.n_slots + 1)), np.zeros(0, np.int64)
        pieces = [windows_of(record, self._windows) if self._windows else (record,) for record in records]
        with as_before(on=not self._reads_unspaced):
            flat = [piece for found in pieces for piece in found]
            scores = self._head.predict(featurise(flat, self._embedder, self._head.blocks.detail))
        if self._windows is None:
            return scores, scores, np.zeros(len(records), np.int64)
        counts = np.array([len(found) for found in pieces], dtype=np.int64)
        return *together(scores, counts, self._windows), counts

    def judge(self, tasks: Iterable[JudgeTask]) -> Iterator[Judgement]:
        """Yield one judgement a task, in order; records are taken 256 at a time."""
        stream = iter(tasks)
        while batch := list(islice(stream, BATCH)):
            for task, row, spread, n in zip(batch, *self._scored([t.record for t in batch]), strict=True):
                found = judged(task, row, self.identity)
                if n:
                    given = tuple(float(v) if np.isfinite(v) else None for v in spread[:-1])
                    found = replace(found, windows=int(n), spread=given if n > 1 else None)
                yield found
