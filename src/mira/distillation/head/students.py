"""Heads of a run: tuned where their labels, rubric, records or settings changed, kept where they did not."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mira._version import __version__
from mira.config.settings import CorpusSettings, DistillSettings
from mira.corpus import shards, source_key
from mira.distillation.head.train import train_head
from mira.distillation.kept import keep_student, kept_student, remove_other_states
from mira.grouping.groups import Group
from mira.labelling.labels import labelled_records, load_labels
from mira.progress import Log
from mira.rubric.mask_file import read_mask
from mira.rubric.rubric import Rubric
from mira.rubric.slots import slot_names
from mira.run_folder.files import hash_file, hash_json, hash_path
from mira.run_folder.paths import RunFolder

__all__ = ["train_heads"]

_VERSION = 1  # raised when the same labels, rubric, records and settings would give another student


def train_heads(
    corpus: CorpusSettings,
    settings: DistillSettings,
    mask: str,
    seed: int,
    run: RunFolder,
    groups: Sequence[Group],
    log: Log,
) -> dict[str, Any]:
    """Tune the head of every group; one that would come out the same is kept.

    Args:
        corpus: How the corpus is read.
        settings: `head` and `folds` are used.
        mask: `reliability.mask`: the labels of its cells are not learnt.
        seed: The run's.
        run: The run folder.
        groups: Its groups.
        log: Where progress goes.

    Returns:
        Per group, what its tuning reports.

    Raises:
        MiraError: A group has too few labels, or its records or the base model cannot be used.
    """
    found, head = shards(corpus), settings.head
    model = hash_path(Path(head.model)) if Path(head.model).exists() else head.model
    how = [head.model_dump(mode="json", exclude={"model", "scoring"}), model, settings.folds, seed]
    summary: dict[str, Any] = {}
    for group in groups:
        rubric = Rubric.load(run.rubric(group.name), group.name)
        masked = read_mask(Path(mask), group.sources, slot_names(len(rubric.anchors))) if mask else {}
        table = load_labels(run, group.name, without=("rationales", "brief"))
        records = {s: source_key(corpus, run, s, found[s]) for s in sorted(set(table["source"].to_pylist()))}
        labels = hash_file(run.labels(group.name))
        key = hash_json([_VERSION, __version__, group.name, rubric.hash, labels, records, how, sorted(masked)])
        kept = kept_student(run, group.name, key)
        if kept is None:
            labelled = labelled_records(corpus, run, table)
            folder = run.student(group.name)
            kept = train_head(table, labelled, rubric, head, settings.folds, seed, masked, folder, log)
            keep_student(run, group.name, key, kept)
        else:
            log.note(f"  {group.name}: the student is kept: its labels, rubric, records and settings are the same")
        summary[group.name] = {"kind": "head", **kept}
    remove_other_states(run, [group.name for group in groups])
    return summary
