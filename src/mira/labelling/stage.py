"""Stage `label`: the teacher judges a sample on the fixed anchors; records are split into training and held-out."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.compute as pc

from mira.config.settings import Config, CorpusSettings, TeacherSettings
from mira.corpus import fetch
from mira.errors import ConservationError, InputError
from mira.grouping.groups import Group, load_groups
from mira.judging.judge import Judge
from mira.judging.teacher import Teacher
from mira.labelling.labels import HELD_OUT, Sample, drawn_sample, judge_tasks, split_of
from mira.llm.failures import check_failures
from mira.llm.progress import watch
from mira.progress import Log
from mira.rubric.judgement import Judgement, judgements_table
from mira.rubric.rubric import Rubric
from mira.run_folder.files import remove_others, write_parquet
from mira.run_folder.paths import RunFolder
from mira.stage import REPLY_TOKENS, SYSTEM_TOKENS, TEMPLATE_TOKENS, Stage, Work, needs

__all__ = ["STAGE", "label"]

_CHECKED_REPLIES = 50
_SLOT_LINE = re.compile(r"^\W*\[(A\d+)\]\s*(.+?):\s*\d", re.MULTILINE)


def label(config: Config, run: RunFolder, log: Log) -> dict[str, Any]:
    """Have the teacher judge a sample of every group's records; write labels/<group>.parquet.

    With recorded replies, the sample is the records that the recording knows. With a live teacher it is
    `label.sample` records per source, a share `label.replicates` of them judged twice. A record and its replicates
    share one split.

    Returns:
        Per group: labelled records, replicates, held-out records, unscored by reason.

    Raises:
        MiraError: More judgements failed than the failure budget allows, or recorded replies do not fit.
    """
    summary, failed, total = {}, {}, 0
    groups = load_groups(run)
    if not config.teacher.labels:
        (run.path / "labels").mkdir(parents=True, exist_ok=True)
        _remove_strays(run, [])
        return {"groups": {}, "note": "no teacher: the student's mask must be given, or every slot counts"}
    # One budget for all groups: what is certain to exceed it is known before the last of them is asked.
    drawn = {} if config.teacher.replies else {g.name: drawn_sample(config.label, config.seed, run, g) for g in groups}
    planned = sum(sum(counts.values()) for sample in drawn.values() for counts in sample.values())
    with Teacher(config.teacher, config.discover, run, log) as teacher:
        failures = teacher.failures(planned)
        for group in groups:
            rubric = Rubric.load(run.rubric(group.name), group.name)
            judge = teacher.judge(rubric)
            if config.teacher.replies:
                _check_names(Path(config.teacher.replies), rubric, group)
                sample = _recorded_sample(config.corpus, config.teacher, run, group, judge, log)
            else:
                judge.failures, sample = failures, drawn[group.name]
            table = _label_group(config.corpus, run, group, judge, sample, log)
            table = _with_split(table, config.seed, config.label.held_out)
            write_parquet(run.labels(group.name), table)
            unscored = _unscored(table)
            failed.update(unscored)
            total += len(table)
            summary[group.name] = _summary(table, unscored)
            if judge.stats is not None:
                summary[group.name]["requests"] = judge.stats.summary()
    _remove_strays(run, groups)
    check_failures(failed, total, config.teacher.failure_budget, log, failures.evidence)
    return {"groups": summary}


def _check_names(path: Path, rubric: Rubric, group: Group) -> None:
    """Refuse a recording that was made on another rubric: slots go by their ids, so nothing else would notice."""
    names = {anchor.slot: anchor.name for anchor in rubric.anchors}
    with path.open("rb") as file:
        lines = (orjson.loads(line) for line in file if line.strip())
        replies = islice((line["reply"] for line in lines if line.get("source") in group.sources), _CHECKED_REPLIES)
        asked = [(slot, name) for reply in replies for slot, name in _SLOT_LINE.findall(reply) if slot in names]
    differing = [(slot, name) for slot, name in asked if names[slot].casefold() != name.strip(" *").casefold()]
    if len(differing) > len(asked) / 2:
        slot, name = differing[0]
        raise InputError(
            f"{path}: the recorded replies answer another rubric than {group.name}'s: their {slot} is '{name}', the "
            f"rubric's is '{names[slot]}'",
            "Use the rubric that the teacher answered (discover.rubrics), or have the teacher judge anew.",
        )


def _recorded_sample(
    corpus: CorpusSettings, teacher: TeacherSettings, run: RunFolder, group: Group, judge: Judge, log: Log
) -> Sample:
    sample: Sample = {}
    for source in group.sources:
        recorded = judge.ids(source)
        records = fetch(corpus, run, source, recorded, allow_missing=True)
        sample[source] = {r.id: recorded[r.id] for r in records}
        lost = len(recorded) - len(records)
        if lost:
            log.note(f"  {source}: {lost:,} recorded replies are of records that this corpus does not hold")
    if not any(sample.values()):
        raise InputError(
            f"{teacher.replies}: no reply is of a record of {', '.join(group.sources)}",
            "The ids and sources in the recording must be those of the corpus.",
        )
    return sample


def _label_group(
    corpus: CorpusSettings, run: RunFolder, group: Group, judge: Judge, sample: Sample, log: Log
) -> pa.Table:
    n_tokens: dict[tuple[str, str], int] = {}
    expected = sum(sum(counts.values()) for counts in sample.values())
    description = f"labelling {group.name}"
    with watch(judge.stats, log, description, expected) as progress:
        judgements = []
        for judgement in judge.judge(judge_tasks(corpus, run, sample, n_tokens)):
            judgements.append(judgement)
            progress.advance()
    if len({(j.source, j.id, j.replicate) for j in judgements}) != expected or len(judgements) != expected:
        raise ConservationError(f"{group.name}: {expected:,} judgements were asked for, {len(judgements):,} came back")
    return _table(sorted(judgements, key=lambda j: (j.source, j.id, j.replicate)), n_tokens, judge.n_slots)


def _table(judgements: list[Judgement], n_tokens: dict[tuple[str, str], int], n_slots: int) -> pa.Table:
    tokens = pa.array([n_tokens[j.source, j.id] for j in judgements], pa.int32())
    return judgements_table(judgements, n_slots).append_column("n_tokens", tokens)


def _with_split(table: pa.Table, seed: int, held_out: float) -> pa.Table:
    records = zip(table["source"].to_pylist(), table["id"].to_pylist(), strict=True)
    split = pa.array([split_of(seed, source, id, held_out) for source, id in records], pa.string())
    return table.append_column("split", split)


def _unscored(table: pa.Table) -> dict[str, Counter[str]]:
    counts: dict[str, Counter[str]] = {}
    for source, reason in zip(table["source"].to_pylist(), table["reason_unscored"].to_pylist(), strict=True):
        if reason:
            counts.setdefault(source, Counter())[reason] += 1
    return counts


def _summary(table: pa.Table, unscored: dict[str, Counter[str]]) -> dict[str, Any]:
    first = table.filter(pc.equal(table["replicate"], 0))
    records = Counter(first["source"].to_pylist())
    return {
        "judgements": len(table),
        "records": dict(sorted(records.items())),
        "replicates": len(table) - len(first),
        "held_out": Counter(first["split"].to_pylist())[HELD_OUT],
        "unscored": {source: dict(counts) for source, counts in unscored.items()},
    }


def _remove_strays(run: RunFolder, groups: list[Group]) -> None:
    remove_others((run.path / "labels").glob("*.parquet"), {run.labels(g.name) for g in groups})


def _work(config: Config, _run: RunFolder, valid: Mapping[str, int]) -> Work:
    teacher = config.teacher
    if teacher.replies or not teacher.endpoint:
        return Work()
    samples = teacher.endpoint.samples
    records = {source: min(n, config.label.sample) for source, n in valid.items()}
    calls = {source: (n + round(n * config.label.replicates)) * samples for source, n in records.items()}
    prompt = SYSTEM_TOKENS + TEMPLATE_TOKENS
    return Work(records, calls, dict.fromkeys(valid, teacher.endpoint), prompt, REPLY_TOKENS, from_journal=True)


def _reads(config: Config) -> Sequence[str]:
    named = () if config.teacher.judge == "built-in" else ("teacher.judge",)
    return ("label", "teacher.endpoint", "teacher.replies", "discover.corpus", "discover.records", *named)


STAGE = Stage(
    name="label",
    version=1,
    run=label,
    needs=needs("index", "group", "discover"),
    reads=_reads,
    outputs=lambda run: sorted((run.path / "labels").glob("*.parquet")),  # labels/human is of people
    work=_work,
)
