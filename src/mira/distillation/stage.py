"""Stage `distill`: one student a group, as a scorer bundle."""

import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mira import corpus
from mira.config.settings import Config, CorpusSettings, StudentSettings
from mira.distillation.bundle import pull, read_bundle, seal, verify
from mira.distillation.encoder.students import kept_files, train_students
from mira.distillation.head.estimate import estimate, read_shape, training_speed
from mira.distillation.head.students import train_heads
from mira.distillation.sft.examples import Tuning, student_prompt
from mira.distillation.sft.train import distill_sft
from mira.distillation.student import open_student, write_endpoint_bundle
from mira.errors import ConfigError, InputError, RunError
from mira.grouping.groups import Group, load_groups
from mira.judging.judge import JudgeTask
from mira.labelling.labels import HELD_OUT, TRAIN, labelled_records, load_labels
from mira.progress import Log
from mira.rubric.judgement import judgements_table
from mira.rubric.rubric import Rubric
from mira.rubric.slots import slot_names
from mira.run_folder.files import hash_file, hash_json, read_json, remove_folder, write_json, write_parquet
from mira.run_folder.paths import RunFolder
from mira.stage import Stage, Work, needs, reads

__all__ = ["STAGE", "distill"]


def distill(config: Config, run: RunFolder, log: Log) -> dict[str, Any]:
    """Make each group's student; write students/<group>/.

    An encoder is trained on the labels, and a head is tuned on them. So is a causal LM, which must then be served. A
    released scorer that is served elsewhere, or a bundle that is there already, needs no training. All but encoders
    that are trained here judge the held-out labels, so that `reliability` can compare.

    Returns:
        Per group, what its training reports.

    Raises:
        MiraError: A group has too few labels, or its student cannot be made.
    """
    groups = load_groups(run)
    if config.distill.student == "sft":
        summary = _tune(config, run, groups, log)
    elif config.distill.student == "encoder":
        summary = train_students(
            config.corpus, config.students.embedding, config.distill, config.seed, run, groups, log
        )
    elif config.distill.student == "head":
        mask = config.reliability.mask
        summary = train_heads(config.corpus, config.distill, mask, config.seed, run, groups, log)
    else:
        make = {"endpoint": _serve, "bundle": _use}[config.distill.student]
        summary = {group.name: make(config, run, group, log) for group in groups}
    wanted = {run.student(g.name) for g in groups}
    for folder in (run.path / "students").glob("*"):
        if folder.is_dir() and folder not in wanted:
            remove_folder(folder)
    return {"groups": summary}


_HELD_OUT_FILE = "held_out.parquet"


def _serve(config: Config, run: RunFolder, group: Group, log: Log) -> dict[str, Any]:
    folder = run.student(group.name)
    if folder.is_dir():
        remove_folder(folder)
    rubric = Rubric.load(run.rubric(group.name), group.name)
    write_endpoint_bundle(folder, rubric, config.distill.endpoint_of(group.name))
    return {"kind": "endpoint", **_judge_labelled(config.students, config.corpus, run, group, log)}


def _use(config: Config, run: RunFolder, group: Group, log: Log) -> dict[str, Any]:
    """Take a bundle that is there already."""
    source, folder = config.distill.bundles.get(group.name), run.student(group.name)
    if source is None:
        raise ConfigError(f"distill.bundles has none for {group.name}", "Name a bundle for every group.")
    kind = verify(Path(source))["kind"]
    rubric = Rubric.load(Path(source) / "rubric.jsonl", group.name)
    if rubric.hash != Rubric.load(run.rubric(group.name), group.name).hash:
        raise RunError(
            f"distill.bundles: {source} scores by another rubric than {group.name}'s",
            f"Use the bundle's own: discover: {{rubrics: {{{group.name}: {Path(source) / 'rubric.jsonl'}}}}}",
        )
    pull(source, folder)
    for name in ("out_of_fold.parquet", _HELD_OUT_FILE):  # they tell of the labels that it was trained on
        (folder / name).unlink(missing_ok=True)
    seal(folder)
    return {"kind": kind, "bundle": source, **_judge_labelled(config.students, config.corpus, run, group, log)}


def _judge_labelled(
    students: StudentSettings, corpus: CorpusSettings, run: RunFolder, group: Group, log: Log
) -> dict[str, Any]:
    """Have a student that learned elsewhere judge the held-out labels, where there are labels; seal its bundle."""
    if not run.labels(group.name).is_file():
        return {"held_out": 0}
    held_out = _judge_held_out(students, corpus, run, group, log)
    seal(run.student(group.name))
    return held_out


def _tune(config: Config, run: RunFolder, groups: Sequence[Group], log: Log) -> dict[str, Any]:
    """Tune the students; once they are served, have them judge the held-out labels, for `reliability`."""
    summary = {}
    tuning = Tuning(config.distill.sft, config.discover, config.seed)
    for group in groups:
        folder, state = run.student(group.name), run.path / "students" / f".{group.name}.json"
        rubric = Rubric.load(run.rubric(group.name), group.name)
        settings = tuning.settings.model_dump(mode="json")
        prompt = student_prompt(rubric, tuning)
        key = hash_json([hash_file(run.labels(group.name)), rubric.hash, prompt.hash, settings, config.seed])
        done = state.is_file() and read_json(state)["key"] == key
        if not (done and (tuning.settings.training == "job" or _is_tuned(folder))):
            summary[group.name] = distill_sft(tuning, config.corpus, run, group.name, log)
            if tuning.settings.training == "job" and folder.is_dir():
                _set_aside(folder, log)
            write_json(state, {"key": key})
    unserved = [group.name for group in groups if config.distill.endpoint_of(group.name) is None]
    lacking = [group.name for group in groups if not _is_tuned(run.student(group.name))]
    if lacking:
        raise RunError(
            f"{', '.join(lacking)}: to be tuned on a GPU machine; the jobs are in {run.path / 'jobs'}",
            "Run them, and bring the checkpoints back with: mira adopt CONFIG GROUP CHECKPOINT",
        )
    if unserved:
        raise RunError(
            f"{', '.join(unserved)}: tuned, but not served yet",
            f"Serve them (see {run.path / 'jobs'}), add distill: {{endpoint: {{base_url: URL, model: NAME}}}}"
            " or one per group in distill.endpoints, and run again.",
        )
    for group in groups:
        _check_tuned(run.student(group.name), group.name, config.distill.sft.training)
    for group in groups:
        held_out = _judge_held_out(config.students, config.corpus, run, group, log)
        seal(run.student(group.name))
        summary[group.name] = {"kind": "sft", **held_out}
    return summary


def _check_tuned(folder: Path, group: str, where: str) -> None:
    """Refuse a tuned student that is not as it was sealed: sealing it again would make the damage its own.

    Raises:
        InputError: A file is missing, changed or not listed.
    """
    try:
        verify(folder, besides=[_HELD_OUT_FILE])
    except InputError as error:
        again = f"bring the checkpoint back: mira adopt CONFIG {group} CHECKPOINT"
        if where == "here":
            again = f"remove {folder} and run again: it is tuned anew, which takes as long as the first time"
        raise InputError(error.message, f"Copy the bundle back from a safe place (mira pull), or {again}.") from None


def _set_aside(folder: Path, log: Log) -> None:
    """Keep an earlier student out of the way: it was not made of this job."""
    aside = folder.with_name(f".{folder.name}.old")
    shutil.rmtree(aside, ignore_errors=True)
    folder.replace(aside)
    log.note(f"  the earlier student is now {aside}")


def _is_tuned(folder: Path) -> bool:
    return (folder / "bundle.json").is_file() and read_bundle(folder)["kind"] == "sft"


def _judge_held_out(
    students: StudentSettings, corpus: CorpusSettings, run: RunFolder, group: Group, log: Log
) -> dict[str, Any]:
    folder = run.student(group.name)
    labels = load_labels(run, group.name)
    held_out = labels.filter(pc.equal(labels["split"], HELD_OUT))
    with open_student(students, run, group.name, log) as student, log.task("held-out records") as task:
        judgements = []
        for judgement in student.judge(JudgeTask(record) for record in labelled_records(corpus, run, held_out)):
            judgements.append(judgement)
            task.advance()
    judgements.sort(key=lambda j: (j.source, j.id))
    table = judgements_table(judgements, student.n_slots)
    columns = table.select(["id", "source", *slot_names(student.n_slots), "overall"])
    split = pa.array(np.full(len(columns), HELD_OUT), pa.string())
    write_parquet(folder / _HELD_OUT_FILE, columns.append_column("split", split))
    reasons = Counter(j.reason_unscored for j in judgements if j.reason_unscored)
    for reason, count in reasons.most_common():
        log.note(f"  {group.name}: {count:,} held-out records unscored: {reason}")
    return {"held_out": len(columns), "unscored": {str(reason): count for reason, count in reasons.items()}}


def _labelled(run: RunFolder) -> Counter[str]:
    """Return source -> records of the training split, as far as there are labels."""
    found: Counter[str] = Counter()
    for group in load_groups(run) if run.groups.is_file() else ():
        if run.labels(group.name).is_file():
            labels = load_labels(run, group.name, without=("rationales", "brief"))
            keys = zip(labels["source"].to_pylist(), labels["id"].to_pylist(), labels["split"].to_pylist(), strict=True)
            found.update(source for source, _, split in set(keys) if split == TRAIN)
    return found


def _work(config: Config, run: RunFolder, valid: Mapping[str, int]) -> Work:
    """Say what tuning heads will take: their base model is not loaded for that."""
    head = config.distill.head
    if config.distill.student != "head":
        return Work()
    shape = read_shape(head.model)
    if shape is None:
        return Work(notes=(f"{head.model} is not a folder here, so memory and time of tuning are not known yet",))
    speed, where = training_speed()
    labelled, totals = _labelled(run), corpus.totals(config.corpus, run)
    drawn = {s: min(n, config.label.sample) * (1 - config.label.held_out) for s, n in valid.items()}
    parts = [
        estimate(
            head, shape, labelled.get(s, drawn[s]) * (1 - head.validation),
            min(totals[s]["tokens"] / max(totals[s]["valid"], 1), head.max_length), speed,
        )
        for s in valid
    ]  # fmt: skip
    memory, seconds = max(p.memory for p in parts), sum(p.seconds for p in parts)
    how = f"LoRA of rank {head.lora_rank}" if head.lora_rank else "all parameters"
    return Work(
        notes=(
            f"tuning {Path(head.model).name} ({shape.parameters / 1e6:,.1f}M parameters, {how}): about "
            f"{memory / 1e9:,.1f} GB and at most {max(seconds / 60, 1):,.0f} min for all groups on {where}",
        )
    )


def _unread(config: Config) -> list[str]:
    """Return what has no effect: other verbs read it, or another kind of student does."""
    kind = config.distill.student
    unread = ["distill.compare", "distill.cascade"]
    if kind in ("encoder", "head"):  # where a student is served, or the cascade's, changes nothing for its training
        unread += ["distill.endpoint", "distill.endpoints"]
    if kind not in ("encoder", "bundle"):
        unread += ["distill.detail", "distill.embedding"]
    if kind != "sft":
        unread += ["distill.sft"]
    if kind not in ("head", "bundle"):
        unread += ["distill.head"]
    if kind != "head":
        unread += ["reliability.mask"]
    return unread if kind == "bundle" else [*unread, "distill.bundles"]


STAGE = Stage(
    name="distill",
    version=4,
    run=distill,
    needs=needs("index", "group", "discover", "label"),
    reads=reads("distill", "embedding", "discover.corpus", "discover.records", "reliability.mask"),
    unread=_unread,
    outputs=lambda run: [run.path / "students"],
    work=_work,
    resumed=lambda config, run: kept_files(run) if config.distill.student in ("encoder", "head") else [],
)
