"""Encoder students of a run: trained where their labels, rubric or records changed, kept where they did not."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mira._version import __version__
from mira.config.settings import CorpusSettings, DistillSettings, EmbeddingSettings
from mira.corpus import shards, source_key
from mira.distillation.encoder.student import train_encoder
from mira.distillation.kept import keep_student, kept_student, remove_other_states, states
from mira.embedding import load_embedder
from mira.embedding.kept import keeping_vectors
from mira.grouping.groups import Group
from mira.labelling.labels import labelled_records, load_labels
from mira.progress import Log
from mira.rubric.rubric import Rubric
from mira.run_folder.files import hash_file, hash_json, remove_others
from mira.run_folder.paths import RunFolder

__all__ = ["kept_files", "train_students"]

_VERSION = 1  # raised when the same labels, rubric and records would give another student


def train_students(
    corpus: CorpusSettings,
    embedding: EmbeddingSettings,
    settings: DistillSettings,
    seed: int,
    run: RunFolder,
    groups: Sequence[Group],
    log: Log,
) -> dict[str, Any]:
    """Make the encoder student of every group; one that would come out the same is kept.

    Returns:
        Per group, what its training reports.

    Raises:
        MiraError: A group has too few labels, or its records or the embedder cannot be used.
    """
    embedder, found = load_embedder(embedding), shards(corpus)
    summary: dict[str, Any] = {}
    for group in groups:
        folder, labels = run.student(group.name), run.labels(group.name)
        rubric = Rubric.load(run.rubric(group.name), group.name)
        table = load_labels(run, group.name, without=("rationales", "brief"))
        sources = sorted(set(table["source"].to_pylist()))
        records = {source: source_key(corpus, run, source, found[source]) for source in sources}
        how = [settings.folds, settings.tolerance, seed, embedder.identity, *_beside(settings)]
        key = hash_json([_VERSION, __version__, group.name, rubric.hash, hash_file(labels), records, how])
        kept = kept_student(run, group.name, key)
        if kept is None:
            with keeping_vectors(embedder, _vectors(run, group)) as vectors:
                labelled = labelled_records(corpus, run, table)
                kept = train_encoder(table, labelled, rubric, vectors, settings, seed, folder, log)
            keep_student(run, group.name, key, kept)
        else:
            log.note(f"  {group.name}: the student is kept: its labels, rubric and records are the same")
        summary[group.name] = kept
    remove_other_states(run, [group.name for group in groups])
    remove_others((run.cache / "embeddings").glob("*"), {_vectors(run, group) for group in groups})
    return summary


def _beside(settings: DistillSettings) -> list[Any]:
    """Return the settings that change a student where they are not left at their defaults."""
    windows = settings.windows.model_dump(mode="json") if settings.windows else None
    return [settings.detail, windows] if settings.detail or windows else []


def kept_files(run: RunFolder) -> list[Path]:
    """Return what tells that a student need not be trained again, and the vectors of labelled records."""
    return [*states(run), run.cache / "embeddings"]


def _vectors(run: RunFolder, group: Group) -> Path:
    return run.cache / "embeddings" / group.name
