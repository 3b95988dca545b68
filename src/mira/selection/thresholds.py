"""The content of `thresholds.json`: thresholds, tokens and records of every scope and source."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mira.errors import ConservationError
from mira.selection.cuts import ALL, Cutoff
from mira.selection.methods.mira import Mira
from mira.selection.planning import Plan, threshold_of
from mira.selection.retention import SourceRule
from mira.selection.values import GATED
from mira.selection.write import Counts
from mira.selection.yardstick.length import NO_FIT

__all__ = ["place", "thresholds", "tie_hash"]

_USED = 0.9  # share of a budget; less is reported


def place(rules: Sequence[SourceRule]) -> dict[str, Any]:
    """Return scope and threshold of a source; null if each of its domains, or strata of lengths, has its own."""
    if len(rules) == 1:
        return {"scope": rules[0].pool.key, "threshold": threshold_of(rules[0].cutoff)}
    scopes = {rule.pool.key for rule in rules}
    return {"scope": scopes.pop() if len(scopes) == 1 else None, "threshold": None}


def tie_hash(cutoff: Cutoff) -> str | None:
    """Return the tie hash at a cutoff, in hex; None if it keeps everything or nothing."""
    return None if cutoff == ALL or cutoff.value < 0 else f"{max(cutoff.tie, 0):016x}"


def thresholds(plan: Plan, counts: Sequence[Counts], seed: int) -> dict[str, Any]:
    """Return the content of `thresholds.json`.

    Raises:
        ConservationError: A source's records are not all accounted for.
    """
    sources = {source: _source_entry(plan, source, counts) for source in sorted(plan.shards)}
    scopes = {key: _scope_entry(plan, key, counts) for key in sorted(plan.retention.pools)}
    return {
        "method": plan.method.name,
        **({"scores": plan.settings.scores} if plan.method.name == "mira" else {}),
        **({"compare_by": plan.settings.compare_by} if _is_compared(plan) else {}),
        "scope": plan.settings.scope,
        "budget_tokens": plan.retention.budget,
        "tokens_in": sum(s["tokens_in"] for s in sources.values()),
        "tokens_kept": sum(s["tokens_kept"] for s in sources.values()),
        "seed": seed,
        "temperature": plan.settings.temperature,
        **({"length": control} if (control := plan.settings.length.control) != "none" else {}),
        **({"gates": [gate.settings.model_dump(mode="json") for gate in plan.gates]} if plan.gates else {}),
        "scopes": scopes,
        "sources": sources,
        "notes": [*plan.retention.notes, *_unused(plan, scopes), *_unfilled(plan, sources)],
    }


def _unused(plan: Plan, scopes: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """Report pools that use much less than their budget, because of long records."""
    skips = plan.settings.fit == "skip"
    why = "no other record fits" if skips else "the next record of the ranking does not fit"
    way_out = "Raise the budget." if skips else "Set select.fit: skip to pass over records that do not fit."
    for key, entry in scopes.items():
        kept, budget = entry["tokens_kept"], entry["budget_tokens"]
        if kept < _USED * budget:
            yield (
                f"WARNING: {key}: only {kept:,} of the budget's {budget:,} tokens are used ({kept / budget:.0%}): "
                f"{why}. {way_out}"
            )


def _unfilled(plan: Plan, sources: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """Report sources that keep much less than their floor although they have the tokens."""
    for source, least in plan.settings.source_min.items():
        entry = sources[source]
        ranked = sum(s.ranked_tokens for s in plan.summaries if s.source == source)
        floor = min(least.of(entry["tokens_in"]), ranked)
        if entry["tokens_kept"] < _USED * floor:
            yield (
                f"WARNING: source '{source}' keeps {entry['tokens_kept']:,} of the {floor:,} tokens of its source_min: "
                "records that would fill it do not fit."
            )


def _scope_entry(plan: Plan, key: str, counts: Sequence[Counts]) -> dict[str, Any]:
    pool = plan.retention.pools[key]
    units = [c.units[str(unit)] for c in counts for unit in pool.units if str(unit) in c.units]
    control, cutoff = plan.settings.length.control, pool.cutoff
    known = control != "strata"  # then each stratum has its own
    entry: dict[str, Any] = {
        "threshold": threshold_of(cutoff) if known else None,
        "tie_hash": tie_hash(cutoff) if known else None,
        "budget_tokens": pool.budget,
        **{name: sum(u[name] for u in units) for name in ("tokens_in", "tokens_kept", "records_in", "records_kept")},
        "sources": sorted({unit.source for unit in pool.units}),
        **({"length": control} if control != "none" else {}),
    }
    if pool.ranking.median is not None:
        entry["median"] = pool.ranking.median
    if pool.ranking.temperature:
        entry["mean"], entry["deviation"] = pool.ranking.mean, pool.ranking.deviation
    return entry


def _is_compared(plan: Plan) -> bool:
    return isinstance(plan.method, Mira) and plan.settings.compare_by != "own"


def _yardstick(plan: Plan, source: str) -> dict[str, Any]:
    """Return what a source's quality is made of, where that is not its own mask alone."""
    if not isinstance(plan.method, Mira) or plan.settings.compare_by == "own":
        return {}
    yardstick = plan.method.yardsticks[source]
    levels = {"means": list(yardstick.means), "deviations": list(yardstick.deviations)} if yardstick.means else {}
    return {"slots": list(yardstick.slots), **levels}


def _length(rules: Sequence[SourceRule], counts: Sequence[Counts]) -> dict[str, Any]:
    """Return what length predicts of a source's values and does not count; or the thresholds of its lengths."""
    fits = {rule.ranking.fit for rule in rules} - {NO_FIT}
    if fits:
        return {"length": fits.pop()._asdict()}
    strata = [rule for rule in rules if rule.unit != rule.unit.whole]
    if not strata:
        return {}
    return {"length": {"strata": [_stratum(rule, counts) for rule in strata]}}


def _stratum(rule: SourceRule, counts: Sequence[Counts]) -> dict[str, Any]:
    found = [c.units[str(rule.unit)] for c in counts if str(rule.unit) in c.units]
    return {
        "shortest": rule.unit.shortest,
        "longest": rule.unit.longest,
        "threshold": threshold_of(rule.cutoff),
        "tie_hash": tie_hash(rule.cutoff),
        "budget_tokens": rule.pool.budget,
        **{name: sum(u[name] for u in found) for name in ("tokens_in", "tokens_kept", "records_in", "records_kept")},
    }


def _gates(plan: Plan, source: str) -> dict[str, Any]:
    """Return the floors of a source's gates, and what they drop."""
    found: dict[str, Any] = {}
    for gate in plan.gates:
        if source not in gate.sources:
            continue
        value, effect = gate.settings.value, gate.sources[source]
        of_source = [s.gated for s in plan.summaries if s.source == source]
        low, missing = ([own[f"{prefix}{value}"] for own in of_source if f"{prefix}{value}" in own] for prefix in GATED)
        found[value] = {
            "floor": max((high for _, _, high in low if high is not None), default=None),
            "tokens_in": effect.tokens,
            "records": sum(records for records, _, _ in low),
            "tokens": sum(tokens for _, tokens, _ in low),
            "missing": sum(records for records, _, _ in missing),
        }
    return {"gates": found} if found else {}


def _dropped_by_gates(entry: Mapping[str, Any]) -> dict[str, int]:
    gates = entry.get("gates", {})
    return {
        f"{prefix}{value}": counts[name]
        for value, counts in gates.items()
        for prefix, name in zip(GATED, ("records", "missing"), strict=True)
    }


def _source_entry(plan: Plan, source: str, counts: Sequence[Counts]) -> dict[str, Any]:
    parts = [c for c in counts if c.source == source]
    rules = plan.retention.of_source(source)
    rows = sum(s.rows for s in plan.summaries if s.source == source)
    rejected = sum(s.rejected for s in plan.summaries if s.source == source)
    reasons: dict[str, int] = {}
    for part in parts:
        for why, n in part.reasons.items():
            reasons[why] = reasons.get(why, 0) + n
    entry: dict[str, Any] = {
        **place(rules),
        "tie_hash": tie_hash(rules[0].cutoff) if len(rules) == 1 else None,
        "rows": rows,
        "records_in": sum(p.records_in for p in parts),
        "kept": sum(p.kept for p in parts),
        "dropped": sum(p.dropped for p in parts),
        "unscored": sum(p.unscored for p in parts),
        "rejected": rejected,
        "tokens_in": sum(p.tokens_in for p in parts),
        "tokens_kept": sum(p.tokens_kept for p in parts),
        "reasons": dict(sorted(reasons.items())),
        **_yardstick(plan, source),
        **_length(rules, parts),
        **_gates(plan, source),
    }
    written = [p.written for p in parts if p.written is not None]
    if written and sum(written) != entry["kept"]:
        raise ConservationError(
            f"source '{source}': {entry['kept']:,} records are kept, but {sum(written):,} are in `selected`",
            "Write them again: mira select CONFIG --force",
        )
    for why, n in _dropped_by_gates(entry).items():
        if reasons.get(why, 0) != n:
            raise ConservationError(
                f"source '{source}': {n:,} records were dropped by a gate, but {reasons.get(why, 0):,} have {why}",
                "Write them again: mira select CONFIG --force",
            )
    accounted = entry["kept"] + entry["dropped"] + entry["unscored"] + rejected
    if accounted != rows:
        raise ConservationError(
            f"source '{source}': {rows:,} rows in, but {entry['kept']:,} kept + {entry['dropped']:,} dropped "
            f"+ {entry['unscored']:,} unscored + {rejected:,} rejected = {accounted:,}",
            "The run folder is inconsistent: remove its `index` folder and run again.",
        )
    return entry
