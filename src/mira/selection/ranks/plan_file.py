"""`plan.json`: the selection that workers write, so that not every one of them looks for the cutoffs.

It holds the rule of every source, and what it follows from: a hash of the settings, and of every shard the identity of
its rank file. A worker that finds its own shards in it as they are now may write them. Whoever makes it writes the same
bytes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from mira.corpus import Shard
from mira.run_folder.files import hash_json, write_json
from mira.run_folder.folder_store import store_of
from mira.run_folder.paths import RunFolder
from mira.selection.cuts import Cutoff, Step, Steps
from mira.selection.planning import Plan, read_groups
from mira.selection.ranks.rules import recorded, rubrics_of, rules_of
from mira.selection.retention import Pool, SourceRule
from mira.selection.sweeps import Ranking
from mira.selection.units import Unit
from mira.selection.values import SelectionInputs
from mira.selection.write import Rule
from mira.selection.yardstick.length import LengthFit

__all__ = ["WritePlan", "plan_content", "plan_identity", "read_plan", "write_plan"]

_VERSION = 1


@dataclass(frozen=True)
class WritePlan:
    """What is to be written.

    Attributes:
        identity: Hash of all of it.
        folder: Folder of `values/` with the values of the records that compete.
        shards: Source -> shard -> identity of its rank file.
        rules: Source -> its rule.
    """

    identity: str
    folder: str
    shards: Mapping[str, Mapping[str, str]]
    rules: Mapping[str, Rule]

    def has(self, shard: Shard, identity: str) -> bool:
        """Return whether the plan was made of a shard as it is now."""
        return self.shards.get(shard.source, {}).get(shard.name) == identity


def write_plan(inputs: SelectionInputs, plan: Plan) -> WritePlan:
    """Put the plan into the run folder, unless it is there."""
    content = plan_content(inputs, plan)
    if _content(inputs.run) != content:
        write_json(inputs.run.plan, content)
    return _plan(content)


def plan_content(inputs: SelectionInputs, plan: Plan) -> dict[str, Any]:
    """Return what `plan.json` holds of a plan."""
    shards: dict[str, dict[str, str]] = {source: {} for source in plan.shards}
    for summary in plan.summaries:
        shards[summary.source][summary.shard] = summary.identity
    content = {
        "of": _made_of(inputs, plan.method.name),
        "folder": plan.folder,
        "shards": shards,
        "rules": {source: _of_rule(rule) for source, rule in rules_of(inputs, plan).items()},
    }
    return {**content, "identity": hash_json(content)}


def plan_identity(run: RunFolder) -> str | None:
    """Return the identity of the plan in the run folder; None if it is missing."""
    return _content(run).get("identity")


def read_plan(inputs: SelectionInputs, method: str) -> WritePlan | None:
    """Return the plan in the run folder; None if it is missing, damaged, or of other settings."""
    content = _content(inputs.run)
    if content.get("of") != _made_of(inputs, method):
        return None
    if hash_json({name: value for name, value in content.items() if name != "identity"}) != content.get("identity"):
        return None
    return _plan(content)


def _made_of(inputs: SelectionInputs, method: str) -> str:
    sources = [source.name for source in inputs.corpus.sources]
    group_of = read_groups(inputs.run, sources, needed=False)
    return hash_json(
        [
            _VERSION, recorded(inputs.select), inputs.seed, method, sources, group_of,
            rubrics_of(inputs.run, method, group_of, sources),
        ]
    )  # fmt: skip


def _content(run: RunFolder) -> dict[str, Any]:
    try:
        found = orjson.loads(store_of(run.path).read(run.plan.name))  # as it is now, whatever was listed before
    except (OSError, ValueError):  # missing or damaged
        return {}
    return found if isinstance(found, dict) else {}


def _plan(content: Mapping[str, Any]) -> WritePlan:
    rules = {source: _rule(given) for source, given in content["rules"].items()}
    return WritePlan(content["identity"], content["folder"], content["shards"], rules)


def _of_rule(rule: Rule) -> dict[str, Any]:
    return {
        "has_quality": rule.has_quality,
        "provenance": dict(rule.provenance),
        "parts": [_of_part(part) for part in rule.parts],
    }


def _of_part(part: SourceRule) -> dict[str, Any]:
    ranking = part.ranking
    return {
        "unit": list(part.unit),
        "cutoff": list(part.cutoff),
        "steps": None if part.steps is None else _of_steps(part.steps),
        "pool": {"key": part.pool.key, "cutoff": list(part.pool.cutoff)},
        "ranking": {
            "median": ranking.median,
            "temperature": ranking.temperature,
            "mean": ranking.mean,
            "deviation": ranking.deviation,
            "fit": list(ranking.fit),
            "lowest": ranking.lowest,
        },
    }


def _of_steps(steps: Steps) -> dict[str, Any]:
    return {"cutoff": list(steps.cutoff), "parts": [[list(step.cutoff), step.most] for step in steps.parts]}


def _rule(given: Mapping[str, Any]) -> Rule:
    return Rule(tuple(_part(part) for part in given["parts"]), given["has_quality"], given["provenance"])


def _part(given: Mapping[str, Any]) -> SourceRule:
    unit = Unit(*given["unit"])
    ranking = Ranking(**{**given["ranking"], "fit": LengthFit(*given["ranking"]["fit"])})
    pool = Pool(given["pool"]["key"], (unit,), 0, ranking, _cutoff(given["pool"]["cutoff"]))
    return SourceRule(unit, pool, _cutoff(given["cutoff"]), _steps(given["steps"]))


def _steps(given: Mapping[str, Any] | None) -> Steps | None:
    if given is None:
        return None
    return Steps(_cutoff(given["cutoff"]), tuple(Step(_cutoff(cutoff), most) for cutoff, most in given["parts"]))


def _cutoff(given: Sequence[int]) -> Cutoff:
    return Cutoff(*given)
