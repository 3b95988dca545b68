"""Stage `discover`: free-form judgments -> judgment points -> anchors -> one rubric a group."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from mira.config.settings import Config, DiscoverSettings
from mira.discovery.anchors import Clustering, cluster_points, embed_points
from mira.discovery.clusters import DiscoveryRecord, discovery_record
from mira.discovery.free_judging import FreeJudging, free_sample
from mira.embedding import Embedder, load_embedder
from mira.errors import ConfigError, InputError, RunError
from mira.grouping.groups import Group, load_groups
from mira.judging.free import read_free_judgments
from mira.judging.teacher import Teacher
from mira.llm.failures import check_failures
from mira.progress import Log
from mira.rubric.points import JudgmentPoint
from mira.rubric.rubric import Rubric
from mira.rubric.slots import slot_name
from mira.run_folder.files import remove_others, write_parquet
from mira.run_folder.paths import RunFolder
from mira.stage import FREE_REPLY_TOKENS, TEMPLATE_TOKENS, Stage, Work, needs, reads

__all__ = ["STAGE", "discover"]


def discover(config: Config, run: RunFolder, log: Log) -> dict[str, Any]:
    """Make each group's rubric: rubrics/<group>_dim_anchors.jsonl.

    A group with a rubric in the settings gets that one as it is. Where there are recorded judgments of such a group,
    they are clustered all the same, into discovery/, so that the two can be compared.

    Returns:
        Per group: where its rubric comes from, points, slots, cohesion, the record of its clusters, and what the
        teacher was asked.

    Raises:
        MiraError: There are too few judgment points, or a given rubric cannot be read.
    """
    groups = load_groups(run)
    _check_given(config.discover, groups)
    embedder: Embedder | None = None
    recorded = read_free_judgments(config.teacher.free_judgments) if config.teacher.free_judgments else None
    summary = {}
    for group in groups:
        given = config.discover.rubrics.get(group.name)
        points, asked = _points(config, run, group, recorded, log) if recorded is not None or not given else ([], {})
        entry: dict[str, Any] = {"points": len(points), "from": "given" if given else "discovered", **asked}
        if points:
            embedder = embedder or load_embedder(config.embedding)
            found, record = _cluster(config.discover, config.seed, points, embedder)
            discovered = Rubric(group.name, found.anchors, config.discover.references)
            write_parquet(run.points(group.name), _points_table(points, found))
            discovered.save(run.path / "discovery" / f"{group.name}_dim_anchors.jsonl")
            entry["cohesion"] = {a.slot: a.cohesion for a in found.anchors}
            entry["clusters"] = asdict(record)
        rubric = Rubric.load(Path(given), group.name) if given else discovered
        rubric.save(run.rubric(group.name))
        entry |= {"slots": len(rubric.anchors), "rubric": rubric.hash}
        if given and embedder and points:
            entry["alike"] = _alignment(rubric, discovered, embedder)
        log.note(f"  {group.name}: {len(rubric.anchors)} slots, {entry['from']}; {len(points):,} judgment points")
        if points and not given:
            for advice in record.advice:
                log.note(f"  {group.name}: {advice}")
        summary[group.name] = entry
    remove_others((run.path / "rubrics").glob("*.jsonl"), {run.rubric(g.name) for g in groups})
    return {"groups": summary}


def _check_given(settings: DiscoverSettings, groups: Sequence[Group]) -> None:
    names = [g.name for g in groups]
    strange = next((name for name in settings.rubrics if name not in names), None)
    if strange:
        raise ConfigError(
            f"discover.rubrics: there is no group '{strange}'; groups are {', '.join(names)}",
            "Name one of these, or fix the groups with group.given.",
        )


def _cluster(
    settings: DiscoverSettings, seed: int, points: Sequence[JudgmentPoint], embedder: Embedder
) -> tuple[Clustering, DiscoveryRecord]:
    matrix = embed_points(points, embedder, settings.name_weight)
    found = cluster_points(
        points, matrix, slots=settings.slots, references=settings.references, seed=seed, name_by=settings.name_by
    )
    return found, discovery_record(points, matrix, found, name_by=settings.name_by, seed=seed)


def _points(
    config: Config, run: RunFolder, group: Group, recorded: list[JudgmentPoint] | None, log: Log
) -> tuple[list[JudgmentPoint], dict[str, Any]]:
    """Return a group's judgment points, and of a live teacher how many records were asked about and stayed without."""
    if recorded is None:
        points, asked = _ask(config, run, group, log)
        if not points:
            raise RunError(f"{group.name}: the teacher gave no judgment point", "Ask again, or another teacher.")
        return points, asked
    points = [p for p in recorded if p.source in group.sources]
    if not points and group.name not in config.discover.rubrics:
        raise InputError(
            f"{config.teacher.free_judgments}: holds no judgment of a record of {', '.join(group.sources)}",
            "The sources in the recording must be those of the settings.",
        )
    return points, {}


def _ask(config: Config, run: RunFolder, group: Group, log: Log) -> tuple[list[JudgmentPoint], dict[str, Any]]:
    settings = config.discover
    with Teacher(config.teacher, settings.corpus, run, log) as teacher:
        sample = free_sample(config.corpus, run, group, settings.sample, config.seed)
        judging = FreeJudging(group, sample, settings, teacher)
        points = judging.judge(log)
    check_failures(judging.failures, len(judging.records), config.teacher.failure_budget, log, judging.evidence)
    return points, {
        "asked": len(judging.records),
        "records": dict(Counter(record.source for record in judging.records)),
        "unscored": {source: dict(counts) for source, counts in judging.failures.items()},
        "requests": judging.stats.summary(),
    }


def _points_table(points: Sequence[JudgmentPoint], found: Clustering) -> pa.Table:
    return pa.table(
        {
            "record": [p.record for p in points],
            "source": [p.source for p in points],
            "dimension": [p.dimension for p in points],
            "score": pa.array([p.score for p in points], pa.float32()),
            "reason": [p.reason for p in points],
            "slot": [slot_name(i) for i in found.labels],
        }
    )


def _alignment(given: Rubric, discovered: Rubric, embedder: Embedder) -> dict[str, list[Any]]:
    """Return, for each given slot, the discovered slot whose name is nearest, that name and the cosine."""
    ours, theirs = (embedder.embed([a.name for a in rubric.anchors]) for rubric in (given, discovered))
    cosines = ours @ theirs.T
    nearest = np.argmax(cosines, axis=1)
    return {
        anchor.slot: [discovered.anchors[j].slot, discovered.anchors[j].name, round(float(cosines[i, j]), 3)]
        for i, (anchor, j) in enumerate(zip(given.anchors, nearest, strict=True))
    }


def _work(config: Config, _run: RunFolder, valid: Mapping[str, int]) -> Work:
    given = {source for group in config.discover.rubrics for source in config.group.given.get(group, ())}
    records = {source: min(n, config.discover.sample) for source, n in valid.items() if source not in given}
    asked = None if config.teacher.free_judgments else config.teacher.endpoint
    return Work(records, records, dict.fromkeys(valid, asked), TEMPLATE_TOKENS, FREE_REPLY_TOKENS, from_journal=True)


STAGE = Stage(
    name="discover",
    version=1,
    run=discover,
    needs=needs("index", "group"),
    reads=reads("discover", "embedding", "teacher.endpoint", "teacher.free_judgments"),
    outputs=lambda run: [run.path / "discovery", run.path / "rubrics"],
    work=_work,
)
