"""What masked cells need, by the evidence in reliability.parquet."""

from collections.abc import Mapping
from math import nan
from typing import Any

import pyarrow.parquet as pq

from mira.config.settings import ReliabilitySettings
from mira.reliability.cells import Measure
from mira.reliability.masking import Level, Reason, Verdict
from mira.reliability.students.label_next import Need, need
from mira.run_folder.paths import RunFolder

__all__ = ["labelled", "needs_of_sources"]


def labelled(manifest: Mapping[str, Any]) -> dict[str, int]:
    """Return source -> labelled records, as the manifest says."""
    groups = manifest.get("stages", {}).get("label", {}).get("summary", {}).get("groups", {})
    return {source: int(n) for group in groups.values() for source, n in group.get("records", {}).items()}


def needs_of_sources(
    run: RunFolder, manifest: Mapping[str, Any], settings: ReliabilitySettings, held_out: float
) -> dict[str, list[Need]]:
    """Return source -> what its masked cells need, by `label_next.need`.

    Cells that a given mask file masks are left out: no label of this run speaks for or against them.
    """
    if not run.reliability.is_file():
        return {}
    groups = manifest.get("stages", {}).get("reliability", {}).get("summary", {}).get("groups", {})
    found: dict[str, list[Need]] = {}
    for row in pq.read_table(run.reliability).to_pylist():
        verdict = _verdict(row)
        if not row["masked"] or verdict is None:
            continue
        crossed = groups.get(row["group"], {}).get("cross_fitted", True)
        share = 1.0 if crossed else max(held_out, 0.01)
        wanted = need(row["slot"], str(row.get("name") or ""), row["n"] or 0, verdict, settings, share)
        if wanted is not None:
            found.setdefault(row["source"], []).append(wanted)
    return found


def _verdict(row: Mapping[str, Any]) -> Verdict | None:
    """Return what was decided for a cell; None where its reason is not one of reliability's."""
    why = str(row.get("why") or "")
    reason = next((r for r in Reason if why.startswith(r.value)), None)
    if reason is None:
        return None
    measure = Measure(
        n=row.get("n_evidence") or 0,
        mae=_figure(row, "mae"),
        mae_constant=_figure(row, "mae_constant"),
        rho=_figure(row, "rho"),
        low=_figure(row, "rho_low"),
        high=_figure(row, "rho_high"),
        spread_teacher=_figure(row, "spread_teacher"),
        spread_student=_figure(row, "spread_student"),
        tied=nan,
    )
    level: Level = row.get("level") or "none"
    return Verdict(level, None if level == "none" else measure, reason, why)


def _figure(row: Mapping[str, Any], name: str) -> float:
    value = row.get(name)
    return nan if value is None else float(value)
