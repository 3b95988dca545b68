"""What gates beside quality bring and cost: faults and pairs that they catch, agreement that they take."""

from collections.abc import Sequence

import numpy as np

from mira.arrays import Floats
from mira.corpus.record import Record
from mira.errors import MiraError
from mira.evaluation.agreement_figures import GateCatch, GatesResult
from mira.evaluation.compare import plan_agreement, without_gates
from mira.evaluation.planted import Pair
from mira.evaluation.planted_methods import load_scorer
from mira.selection.competing.gates import Gate
from mira.selection.methods.method import load_method
from mira.selection.planning import make_plan
from mira.selection.values import SelectionInputs

__all__ = ["gate_catches", "gates_result"]


def gates_result(inputs: SelectionInputs, interval: float, pairs: Sequence[Pair]) -> GatesResult | None:
    """Measure the gates of the settings; None without gates or labels.

    Args:
        inputs: What the selection is made from.
        interval: Confidence of intervals.
        pairs: Originals with spoiled copies.
    """
    if not inputs.select.gates:
        return None
    method = load_method(inputs.select.method, inputs)
    plan = make_plan(inputs, method)
    bare = make_plan(without_gates(inputs), method)
    agreed, before = (plan_agreement(inputs.run, one, interval) for one in (plan, bare))
    if agreed is None or before is None:
        return None
    originals, copies = [p.original for p in pairs], [p.degraded for p in pairs]
    kinds, ids = [str(p.fault) for p in pairs], [p.original.id for p in pairs]
    return GatesResult(agreed.all, before.all, gate_catches(inputs, plan.gates, originals, copies, kinds, ids))


def gate_catches(
    inputs: SelectionInputs,
    gates: Sequence[Gate],
    better: Sequence[Record],
    worse: Sequence[Record],
    kinds: Sequence[str],
    ids: Sequence[str],
) -> dict[str, dict[str, GateCatch]]:
    """Return gate -> kind of pair -> what it drops. Gates whose values cannot be measured here are reported.

    Args:
        inputs: What the selection is made from.
        gates: The gates, with the floors of their sources.
        better: The better record of each pair.
        worse: The worse one, of the same source.
        kinds: The kind of each pair.
        ids: The id under which both are valued, see `SelectionMethod.value_records`.
    """
    found: dict[str, dict[str, GateCatch]] = {}
    for gate in gates if better else ():
        try:
            method = load_scorer(gate.settings.value, inputs)
            values = [method.value_records(inputs, records, ids) for records in (better, worse)]
        except MiraError as error:
            inputs.log.note(f"gate {gate.settings.value}: not measured on pairs: {error}")
            continue
        drops = [_drops(gate, records, own) for records, own in zip((better, worse), values, strict=True)]
        usable = np.isfinite(values[0]) & np.isfinite(values[1])
        usable &= np.array([record.source in gate.sources for record in better])
        of_kind = np.array(kinds, dtype=object)
        masks = {"all": usable} | {kind: usable & (of_kind == kind) for kind in dict.fromkeys(kinds) if kind}
        found[gate.settings.value] = {
            kind: GateCatch(int(rows.sum()), _share(drops[1][rows]), _share(drops[0][rows]))
            for kind, rows in masks.items()
        }
    return found


def _drops(gate: Gate, records: Sequence[Record], values: Floats) -> Floats:
    """Return 1 where a gate would drop a record of its value, as it drops the first of equal ones."""
    first = np.zeros(1, np.uint64)
    return np.array(
        [
            float(record.source in gate.sources and gate.sources[record.source].drops(np.array([value]), first)[0])
            for record, value in zip(records, values, strict=True)
        ]
    )


def _share(flags: Floats) -> float | None:
    return float(flags.mean()) if len(flags) else None
