"""What gates make of one record, and what would have let it through."""

import numpy as np

from mira.corpus import Shard
from mira.run_folder.paths import RunFolder
from mira.selection.competing.gates import Gate, gate_values
from mira.selection.explain.results import GateEffect
from mira.selection.planning import Plan
from mira.selection.value_reader import read_values
from mira.selection.values import values_path

__all__ = ["gate_effects", "ungated_value"]


def gate_effects(run: RunFolder, plan: Plan, shard: Shard, tie: int) -> list[GateEffect]:
    """Return what each gate of a record's source makes of it."""
    return [_effect(run, plan, gate, shard, tie) for gate in plan.gates if shard.source in gate.sources]


def _effect(run: RunFolder, plan: Plan, gate: Gate, shard: Shard, tie: int) -> GateEffect:
    source = gate.sources[shard.source]
    value = _value(run, gate.folder, shard, tie)
    known = not np.isnan(value)
    dropped = gate.settings.missing == "drop"
    floor, as_low, total = gate.settings.min, 0, 0
    for other in plan.shards[shard.source] if known else ():
        for chunk in read_values(values_path(run, gate.folder, shard.source, other.name)):
            values, tokens = gate_values(chunk), chunk.n_tokens.astype(np.int64)
            low = source.drops(values, chunk.ties)
            if low.any() and gate.settings.min is None:
                floor = max(float(values[low].max()), floor if floor is not None else -np.inf)
            as_low += int(tokens[values <= value].sum())
            total += int(tokens[~np.isnan(values)].sum())
    if known:
        dropped = bool(source.drops(np.array([value]), np.array([tie], np.uint64))[0])
    return GateEffect(gate.settings.value, value if known else None, dropped, floor, as_low / total if total else None)


def ungated_value(run: RunFolder, plan: Plan, shard: Shard, tie: int) -> float | None:
    """Return what a record would rank by without gates; None if it has no value anyway."""
    value = _value(run, plan.ungated, shard, tie)
    return None if np.isnan(value) else value


def _value(run: RunFolder, folder: str, shard: Shard, tie: int) -> float:
    for chunk in read_values(values_path(run, folder, shard.source, shard.name)):
        at = np.flatnonzero(chunk.ties == np.uint64(tie))
        if len(at):
            return float(gate_values(chunk)[at[0]])
    return float("nan")
