"""Tuning a head: labels in, a scorer bundle out that scores here, without torch, or behind a server.

Of the labels, the training split alone is learnt from. A validation part of it decides when to stop, and whether int8
weights will do; the held-out labels are read once, to say on the model card how well the student agrees with them.
"""

import shutil
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from mira._version import __version__
from mira.config.settings import HeadSettings
from mira.corpus.record import Part, Record
from mira.distillation.bundle import install, seal
from mira.distillation.encoder.agreement import agreement
from mira.distillation.encoder.cross_validation import Labels
from mira.distillation.encoder.head import TargetMap
from mira.distillation.encoder.student import labels_of
from mira.distillation.head.bundle import FORMAT, KIND, RUBRIC, write_scale
from mira.distillation.head.model import (
    has_bias,
    last_layer,
    load_model,
    load_tokenizer,
    outputs,
    require,
    saved_folder,
)
from mira.distillation.head.onnx_file import write_onnx
from mira.distillation.head.probe import Probe, fit_probe
from mira.distillation.head.reading import Reader
from mira.distillation.head.student import HeadStudent
from mira.distillation.head.targets import forward, scales, unmasked, validation_rows
from mira.distillation.head.tokens import TokenFile
from mira.distillation.head.trainer import Examples, Trained, tune
from mira.distillation.model_card import write_head_card
from mira.distillation.scores import predictions_table
from mira.progress import Log
from mira.rubric.rubric import Rubric
from mira.run_folder.files import hash_file, hash_json, write_json, write_parquet

__all__ = ["train_head"]

Array = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

_CHECK_TEXT = "A short text, the same for every bundle, to check that a server gives what the bundle gives."
_PROBE_LABELS = 8192
"""Training labels at most that the probe is fitted on."""
_PROBE_TOKENS = 8192


@dataclass(frozen=True, slots=True)
class _Data:
    """The labels as they are learnt: training and validation records, and those that are held out."""

    labels: Labels
    scores: Array
    tokens: TokenFile
    learnt: Ints
    validation: Ints
    held_out: Ints

    def sources(self, rows: Ints) -> tuple[str, ...]:
        return tuple(self.labels.sources[i] for i in rows)

    def examples(self, rows: Ints, maps: tuple[TargetMap, ...]) -> Examples:
        """Return some records as examples."""
        return Examples(
            lambda some: self.tokens.ids(rows[some]), forward(maps, self.scores[rows]), self.scores[rows],
            self.sources(rows),
        )  # fmt: skip


def train_head(
    labels: pa.Table, records: Iterable[Record], rubric: Rubric, settings: HeadSettings, folds: int, seed: int,
    masked: Mapping[tuple[str, str], str], folder: Path, log: Log,
) -> dict[str, Any]:  # fmt: skip
    """Tune a group's head and write its scorer bundle.

    What is unfinished lies in a hidden folder beside the bundle; a run that was interrupted goes on from its last
    checkpoint.

    Args:
        labels: The group's labels. Replicates of a record are averaged; unscored ones are left out.
        records: At least the labelled records.
        rubric: The group's rubric.
        settings: How it is tuned.
        folds: Folds of the cross-validation that chooses the scale of the labels.
        seed: Of folds, validation part and training.
        masked: (source, slot) of cells that are known to be unreliable: the loss does not count them.
        folder: The bundle's folder; replaced as a whole.
        log: Where progress goes.

    Returns:
        A summary: labels, scale, agreement on the validation part and on the held-out labels.

    Raises:
        MiraError: There are too few labels, the base model cannot be used, or a package is missing.
    """
    require("torch", "transformers", "accelerate", *(("peft",) if settings.lora_rank else ()))
    work = folder.with_name(f".{folder.name}.head")
    work.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    n_slots = len(rubric.anchors)
    tokenizer = load_tokenizer(settings.model)
    pad = int(tokenizer.pad_token_id)
    load = partial(load_model, settings, n_slots, pad, seed)
    model = load()
    tokenizer.save_pretrained(work / "tokenizer")
    reader = Reader(work / "tokenizer" / "tokenizer.json", settings.max_length)
    data = _data(labels_of(labels, n_slots, folds, seed), records, settings, seed, masked, reader, work, log)
    probe = _probe(model, data, settings, pad, log)
    del model
    maps = scales(probe.target, data.scores[data.learnt])
    learnt, validation = data.examples(data.learnt, maps), data.examples(data.validation, maps)
    fingerprint = hash_json([_what_tunes(settings), seed, hash_file(data.tokens.path), learnt.fitted.tolist()])
    trained = tune(
        load, probe, settings, seed, learnt, validation, pad, work / "trainer", fingerprint, log
    )  # fmt: skip
    staged = work / "bundle"
    shutil.rmtree(staged, ignore_errors=True)
    saved_folder(staged, trained.model, tokenizer, settings.max_length)
    check = outputs(trained.model, [reader.read(Record("", "", "", (Part("", _CHECK_TEXT),))).ids], pad)[0][0]
    write_scale(staged, maps, _CHECK_TEXT, check)
    rubric.save(staged / RUBRIC)
    write_json(staged / "trainer_state.json", trained.state)
    facts = _facts(rubric, settings, seed, pad, data, probe, trained)
    facts["onnx"] = (
        write_onnx(trained.model, staged, validation, pad, log)
        if settings.onnx
        else {"weights": None, "why": "distill.head.onnx is off"}
    )
    write_json(staged / "bundle.json", facts)
    seal(staged)  # the hashes are part of the student's identity
    facts |= _held_out(staged, data, settings)
    facts["training"]["seconds_with_data"] = round(time.monotonic() - started, 1)
    write_json(staged / "bundle.json", facts)
    write_head_card(staged, rubric, facts, trained.state)
    seal(staged)
    install(staged, folder)
    shutil.rmtree(work)
    told = facts["held_out"]
    log.note(
        f"  {rubric.group}: head on {facts['base_model']}, {facts['target']}, {len(data.learnt)} labels learnt from; "
        f"Spearman on {len(data.held_out)} held-out labels {told['rho']:.3f} ({told['rho_within']:.3f} within sources)"
    )
    return {k: facts[k] for k in ("labels", "labels_train", "labels_validation", "target", "validation", "held_out")}


def _what_tunes(settings: HeadSettings) -> dict[str, Any]:
    return settings.model_dump(mode="json", exclude={"onnx", "scoring"})


def _data(
    labels: Labels, records: Iterable[Record], settings: HeadSettings, seed: int,
    masked: Mapping[tuple[str, str], str], reader: Reader, work: Path, log: Log,
) -> _Data:  # fmt: skip
    validation = validation_rows(labels, settings.validation, seed)
    tokens = TokenFile.write(work / "tokens.arrow", labels, records, reader, log)
    rows = (labels.train & ~validation, validation, ~labels.train)
    return _Data(labels, unmasked(labels, masked), tokens, *map(np.flatnonzero, rows))


def _probe(model: Any, data: _Data, settings: HeadSettings, pad: int, log: Log) -> Probe:
    rows = data.learnt[np.argsort(data.labels.priority[data.learnt], kind="stable")[:_PROBE_LABELS]]
    features = np.zeros((len(rows), last_layer(model).in_features))
    with log.task("features of the base model", len(rows)) as task:
        for start in range(0, len(rows), 256):
            part = slice(start, start + 256)
            features[part] = outputs(model, data.tokens.ids(rows[part]), pad, _PROBE_TOKENS)[1]
            task.advance(len(rows[part]))
    return fit_probe(
        features, data.scores[rows], data.sources(rows), data.labels.folds[rows], settings.target,
        has_bias=has_bias(model),
    )  # fmt: skip


def _facts(
    rubric: Rubric, settings: HeadSettings, seed: int, pad: int, data: _Data, probe: Probe, trained: Trained
) -> dict[str, Any]:
    by_source = {s: data.sources(data.learnt).count(s) for s in sorted(set(data.sources(data.learnt)))}
    return {
        "kind": KIND,
        "format": FORMAT,
        "mira": __version__,
        "group": rubric.group,
        "rubric": rubric.hash,
        "prompt": None,
        "base_model": Path(settings.model).name if Path(settings.model).exists() else settings.model,
        "max_length": settings.max_length,
        "pad": pad,
        "sources": sorted(by_source),
        "settings": settings.model_dump(mode="json", exclude={"model"}),
        "seed": seed,
        "target": probe.target,
        "cross_validation": probe.table,
        "labels": len(data.labels),
        "labels_train": int(data.labels.train.sum()),
        "labels_validation": len(data.validation),
        "learnt_by_source": by_source,
        "cut": data.tokens.cut,
        "tokens": int(data.tokens.lengths[data.learnt].sum()),
        "validation": {"rho_within": trained.best_rho, "rho_within_before_tuning": trained.start_rho},
        "training": trained.facts,
    }


def _held_out(staged: Path, data: _Data, settings: HeadSettings) -> dict[str, Any]:
    """Have the bundle itself score the held-out records, in the way in which it scores here."""
    student = HeadStudent(staged, settings.scoring)
    rows = data.held_out
    predicted = np.full(data.scores.shape, np.nan)
    predicted[rows] = student.scores(student.raw(data.tokens.ids(rows)))
    write_parquet(staged / "held_out.parquet", predictions_table(data.labels, predicted, ~data.labels.train, False))
    wanted = data.labels.scores[rows, :-1]
    return {"held_out": agreement(predicted[rows, :-1], wanted, data.sources(rows)), "scored_by": student.way}
