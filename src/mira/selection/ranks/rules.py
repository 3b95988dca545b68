"""What a selection writes of every source: the rule, and the provenance that all kept records share."""

from collections.abc import Iterable, Mapping
from typing import Any

from mira.config.settings import SelectSettings
from mira.rubric.rubric import Rubric
from mira.run_folder.files import hash_json
from mira.run_folder.paths import RunFolder
from mira.selection.planning import Plan
from mira.selection.thresholds import place
from mira.selection.values import SelectionInputs
from mira.selection.write import Rule

__all__ = ["recorded", "rubrics_of", "rules_of"]

_LATER = ("fit", "compare_by", "length", "gates", "column")


def recorded(settings: SelectSettings) -> dict[str, Any]:
    """Return the settings that hashes are made of. Defaults of settings that came later leave hashes as they were."""
    every, given = settings.model_dump(mode="json"), settings.model_dump(mode="json", exclude_defaults=True)
    return {name: value for name, value in every.items() if name in given or name not in _LATER}


def rubrics_of(run: RunFolder, method: str, group_of: Mapping[str, str], sources: Iterable[str]) -> dict[str, str]:
    """Return source -> hash of the rubric that its scores come from; nothing for other methods than mira."""
    if method != "mira":
        return {}
    wanted = set(sources)
    groups = sorted({g for s, g in group_of.items() if s in wanted and run.rubric(g).is_file()})
    hashes = {group: Rubric.load(run.rubric(group)).hash for group in groups}
    return {source: hashes[g] for source, g in group_of.items() if g in hashes}


def rules_of(inputs: SelectionInputs, plan: Plan) -> dict[str, Rule]:
    """Return the rule of every source, with its provenance."""
    rubrics = rubrics_of(inputs.run, plan.method.name, plan.group_of, plan.shards)
    settings = hash_json([recorded(plan.settings), inputs.seed])
    rules = {}
    for source in plan.shards:
        parts = plan.retention.of_source(source)
        provenance = {
            "method": plan.method.name,
            **place(parts),
            "settings": settings,
            **({"rubric": rubrics[source]} if source in rubrics else {}),
        }
        rules[source] = Rule(tuple(parts), plan.method.has_quality, provenance)
    return rules
