"""Encoder students of a run: trained where their labels, rubric or records changed, kept where they did not."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mira._version import __version__
from mira.config.settings import CorpusSettings, DistillSettings, EmbeddingSettings
from mira.corpus import shards, source_key
from mira.distillation.bundle import SUMS, verify
from mira.distillation.encoder.student import train_encoder
from mira.embedding import load_embedder
from mira.embedding.kept import keeping_vectors
from mira.errors import InputError
from mira.grouping.groups import Group
from mira.labelling.labels import labelled_records, load_labels
from mira.progress import Log
from mira.rubric.rubric import Rubric
from mira.run_folder.files import hash_file, hash_json, read_sealed, remove_others, write_sealed
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
        folder, state, labels = run.student(group.name), _state(run, group), run.labels(group.name)
        rubric = Rubric.load(run.rubric(group.name), group.name)
        table = load_labels(run, group.name, without=("rationales", "brief"))
        sources = sorted(set(table["source"].to_pylist()))
        records = {source: source_key(corpus, run, source, found[source]) for source in sources}
        how = [settings.folds, settings.tolerance, seed, embedder.identity]
        key = hash_json([_VERSION, __version__, group.name, rubric.hash, hash_file(labels), records, how])
        kept = _kept(state, folder, key)
        if kept is None:
            with keeping_vectors(embedder, _vectors(run, group)) as vectors:
                labelled = labelled_records(corpus, run, table)
                kept = train_encoder(table, labelled, rubric, vectors, settings, seed, folder, log)
            write_sealed(state, {"key": key, "bundle": hash_file(folder / SUMS), "summary": kept})
        else:
            log.note(f"  {group.name}: the student is kept: its labels, rubric and records are the same")
        summary[group.name] = kept
    remove_others((run.path / "students").glob(".*.json"), {_state(run, group) for group in groups})
    remove_others((run.cache / "embeddings").glob("*"), {_vectors(run, group) for group in groups})
    return summary


def kept_files(run: RunFolder) -> list[Path]:
    """Return what tells that a student need not be trained again, and the vectors of labelled records."""
    return [*(run.path / "students").glob(".*.json"), run.cache / "embeddings"]


def _state(run: RunFolder, group: Group) -> Path:
    return run.path / "students" / f".{group.name}.json"


def _vectors(run: RunFolder, group: Group) -> Path:
    return run.cache / "embeddings" / group.name


def _kept(state: Path, folder: Path, key: str) -> dict[str, Any] | None:
    """Return the summary of a student that is there, whole and of this key; else None."""
    known = read_sealed(state)
    try:
        if known.get("key") != key or known["bundle"] != hash_file(folder / SUMS):
            return None
        verify(folder)
        summary: dict[str, Any] = known["summary"]
        return summary
    except (OSError, ValueError, KeyError, TypeError, InputError):
        return None
