"""Stage `discover`: free-form judgments -> judgment points -> anchors -> one rubric a group."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mira.config.settings import Config, DiscoverSettings
from mira.discovery.discovered import asked_hash, discovered_rubric, discovery_state, discovery_states
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
from mira.run_folder.files import remove_others
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
        points: list[JudgmentPoint] = []
        entry: dict[str, Any] = {}
        asked = ""
        if recorded is not None:
            points = _recorded_points(config, group, recorded)
        elif not given:
            points, entry, asked = _ask(config, run, group, log)
        entry = {"points": len(points), "from": "given" if given else "discovered", **entry}
        if points:
            embedder = embedder or load_embedder(config.embedding)
            discovered, record = discovered_rubric(
                config.discover, config.seed, run, group.name, points, embedder, asked
            )
            entry["cohesion"] = {a.slot: a.cohesion for a in discovered.anchors}
            entry["clusters"] = record
        rubric = Rubric.load(Path(given), group.name) if given else discovered
        rubric.save(run.rubric(group.name))
        entry |= {"slots": len(rubric.anchors), "rubric": rubric.hash}
        if given and embedder and points:
            entry["alike"] = _alignment(rubric, discovered, embedder)
        log.note(f"  {group.name}: {len(rubric.anchors)} slots, {entry['from']}; {len(points):,} judgment points")
        if points and not given:
            for advice in record["advice"]:
                log.note(f"  {group.name}: {advice}")
        summary[group.name] = entry
    remove_others((run.path / "rubrics").glob("*.jsonl"), {run.rubric(g.name) for g in groups})
    remove_others(discovery_states(run), {discovery_state(run, g.name) for g in groups})
    return {"groups": summary}


def _check_given(settings: DiscoverSettings, groups: Sequence[Group]) -> None:
    names = [g.name for g in groups]
    strange = next((name for name in settings.rubrics if name not in names), None)
    if strange:
        raise ConfigError(
            f"discover.rubrics: there is no group '{strange}'; groups are {', '.join(names)}",
            "Name one of these, or fix the groups with group.given.",
        )


def _recorded_points(config: Config, group: Group, recorded: Sequence[JudgmentPoint]) -> list[JudgmentPoint]:
    points = [p for p in recorded if p.source in group.sources]
    if not points and group.name not in config.discover.rubrics:
        raise InputError(
            f"{config.teacher.free_judgments}: holds no judgment of a record of {', '.join(group.sources)}",
            "The sources in the recording must be those of the settings.",
        )
    return points


def _ask(config: Config, run: RunFolder, group: Group, log: Log) -> tuple[list[JudgmentPoint], dict[str, Any], str]:
    """Return the points of a live teacher, how many records stayed without, and `asked_hash` of complete replies."""
    settings = config.discover
    with Teacher(config.teacher, settings, run, log) as teacher:
        sample = free_sample(config.corpus, run, group, settings.sample, config.seed)
        judging = FreeJudging(group, sample, settings, teacher)
        points = judging.judge(log)
    check_failures(judging.failures, len(judging.records), config.teacher.failure_budget, log, judging.evidence)
    if not points:
        raise RunError(f"{group.name}: the teacher gave no judgment point", "Ask again, or another teacher.")
    entry = {
        "asked": len(judging.records),
        "records": dict(Counter(record.source for record in judging.records)),
        "unscored": {source: dict(counts) for source, counts in judging.failures.items()},
        "requests": judging.stats.summary(),
    }
    return points, entry, "" if judging.without_reply else asked_hash(judging.asked)


def _alignment(given: Rubric, discovered: Rubric, embedder: Embedder) -> dict[str, list[Any]]:
    """Return, for each given slot, the discovered slot whose name is nearest, that name and the cosine."""
    ours, theirs = (embedder.embed([a.name for a in rubric.anchors]) for rubric in (given, discovered))
    cosines = ours @ theirs.T
    nearest = np.argmax(cosines, axis=1)
    return {
        anchor.slot: [discovered.anchors[j].slot, discovered.anchors[j].name, round(float(cosines[i, j]), 3)]
        for i, (anchor, j) in enumerate(zip(given.anchors, nearest, strict=True))
    }


def _edited(config: Config, run: RunFolder, changed: Sequence[Path]) -> None:
    """Refuse to overwrite a rubric that somebody edited in the run folder, unless the settings give the same one."""
    for path in (p for p in changed if p.parent == run.path / "rubrics"):
        group = path.name.removesuffix("_dim_anchors.jsonl")
        given = config.discover.rubrics.get(group)
        if given and Path(given).is_file() and _same(path, Path(given)):
            continue
        instead = f"Or edit {given}, which discover.rubrics.{group} names. " if given else ""
        raise RunError(
            f"{path}: edited since mira wrote it, and discover would overwrite it",
            f"To make it {group}'s rubric: mira freeze CONFIG copies it beside the settings and names it in "
            f"discover.rubrics. {instead}To discard the edit, remove the file. Then run again.",
        )


def _same(one: Path, other: Path) -> bool:
    try:
        return Rubric.load(one).hash == Rubric.load(other).hash
    except InputError:
        return False


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
    resumed=lambda _config, run: discovery_states(run),
    edited=_edited,
    work=_work,
)
