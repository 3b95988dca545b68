"""Write cascade.json: what a cascade saves and changes, simulated on labels beforehand and measured afterwards."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mira.arrays import Floats
from mira.config.settings import Config
from mira.corpus import shards, totals
from mira.errors import RunError
from mira.grouping.groups import load_groups
from mira.progress import Log
from mira.rescoring.cascade import cascade_yardsticks, labelled_quality, quality_errors
from mira.rescoring.selections import select_by, student_selection
from mira.rescoring.simulation import simulate
from mira.run_folder.files import read_json, write_json
from mira.run_folder.paths import RunFolder
from mira.selection.stage import selection_inputs
from mira.selection.values import SelectionInputs
from mira.selection.yardstick.cut import Cut, cuts_of

__all__ = ["SHARES", "report_cascade", "selection_after"]

SHARES = (0.0, 0.05, 0.1, 0.2, 0.3, 0.5, 1.0)
"""Shares of records that the expensive student judges, in the simulation."""
_LEAST = 30


def report_cascade(config: Config, run: RunFolder, log: Log) -> dict[str, Any]:
    """Report what a cascade would change and what the last one did; write cascade.json.

    The simulation takes the labelled records, the encoder's cross-fitted predictions and the teacher's labels as the
    expensive student: an upper bound for a student that is not as good as the teacher. A source's records count as many
    tokens as the source has in the corpus, and each pool keeps the share that the selection kept.

    Returns:
        What cascade.json holds: `simulated`, pool -> `records`, `budget` (share of tokens kept), `points` (a `Point` a
        share of calls) and `note` where the labels are too few; `selection`, see `selection_after`, or null where no
        cascade has run.

    Raises:
        RunError: The settings do not select by judgements.
    """
    inputs = selection_inputs(config, run, log)
    simulated = _simulated(inputs, read_json(student_selection(inputs).thresholds))
    result = {"simulated": simulated, "selection": None}
    if any((run.path / "cascade").glob("*/*.parquet")):
        result["selection"] = selection_after(inputs)
    write_json(run.cascade_report, result)
    return result


def selection_after(inputs: SelectionInputs) -> dict[str, Any]:
    """Select again over the cascade's sidecars, in the run folder `cascaded/` inside the run folder, and compare.

    See `select_by`. The selection that it is compared with is the one by the student's scores.

    Returns:
        `folder`; `records` that the expensive student judged; `same`, the tokens that both selections keep as a share
        of those that either keeps; `gained` and `lost` records; and the same for each source in `sources`.

    Raises:
        MiraError: The selection cannot be made; see `select_from`.
    """
    before = student_selection(inputs)
    after = select_by("cascade", inputs)
    sources = {
        source: [_changed(before, after, source, shard.name) for shard in parts]
        for source, parts in shards(inputs.corpus).items()
    }
    counted = {source: _sum(parts) for source, parts in sources.items()}
    every = _sum(list(counted.values()))
    return {
        "folder": after.path.name,
        **_summary(every),
        "sources": {source: _summary(counts) for source, counts in counted.items()},
    }


def _changed(before: RunFolder, after: RunFolder, source: str, shard: str) -> dict[str, int]:
    tables = [pq.read_table(f.selection(source) / f"{shard}.parquet") for f in (before, after)]
    old, new = (t["kept"].to_numpy(zero_copy_only=False) for t in tables)
    tokens = tables[1]["n_tokens"].to_numpy().astype(np.int64)
    folders = (after.scores(source), after.cascade(source))
    cheap, merged = (pq.read_table(f / f"{shard}.parquet", columns=["judge"]) for f in folders)
    return {
        "records": int(pc.sum(pc.not_equal(cheap["judge"], merged["judge"])).as_py() or 0),
        "both": int(tokens[old & new].sum()),
        "either": int(tokens[old | new].sum()),
        "gained": int((new & ~old).sum()),
        "lost": int((old & ~new).sum()),
    }


def _sum(parts: Sequence[Mapping[str, int]]) -> dict[str, int]:
    return {key: sum(p[key] for p in parts) for key in ("records", "both", "either", "gained", "lost")}


def _summary(counts: Mapping[str, int]) -> dict[str, Any]:
    same = counts["both"] / counts["either"] if counts["either"] else 1.0
    return {"records": counts["records"], "same": same, "gained": counts["gained"], "lost": counts["lost"]}


def _simulated(inputs: SelectionInputs, thresholds: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    run = inputs.run
    yardsticks = cascade_yardsticks(inputs.select, run)
    groups = [g.name for g in load_groups(run) if run.labels(g.name).is_file()]
    if not groups:
        raise RunError(f"{run.path}: no group has labels", "The simulation needs labels: run `mira label` first.")
    labelled = pa.concat_tables(labelled_quality(inputs.select, run, group, yardsticks) for group in groups)
    sources = labelled["source"].to_pylist()
    truth, guess = (labelled[c].to_numpy() for c in ("truth", "guess"))
    error = quality_errors(sources, truth, guess)
    if thresholds.get("length"):
        truth, guess = (_above_cut(labelled, values, cuts_of(thresholds)) for values in (truth, guess))
    tokens = _as_in_corpus(labelled, {s: t["tokens"] for s, t in totals(inputs.corpus, run).items()})
    errors = np.array([error[s] for s in sources])
    pool_of = {source: key for key, pool in thresholds["scopes"].items() for source in pool["sources"]}
    pools = np.array([pool_of.get(s, "") for s in sources])
    found = {}
    for key in sorted(set(pools.tolist()) - {""}):
        rows, pool = pools == key, thresholds["scopes"][key]
        budget = pool["tokens_kept"] / max(pool["tokens_in"], 1)
        points = simulate(
            truth[rows], guess[rows], tokens[rows], [key] * int(rows.sum()), budget=budget, shares=SHARES,
            errors=errors[rows], seed=inputs.seed,
        )  # fmt: skip
        n = int((np.isfinite(truth[rows]) & np.isfinite(guess[rows])).sum())
        found[key] = {"records": n, "budget": budget, "points": [asdict(p) for p in points]}
        if n < 10 * _LEAST:
            found[key]["note"] = (
                f"{n} labelled records: the interval is that of these; single points of the curve may be off by as much"
            )
    return found


def _above_cut(labelled: pa.Table, quality: Floats, cuts: Mapping[str, Cut]) -> Floats:
    """Return how far qualities are above their thresholds, where these depend on length."""
    tokens, sources = labelled["n_tokens"].to_numpy(), np.array(labelled["source"].to_pylist())
    margin = np.full(len(quality), np.nan)
    for source, cut in cuts.items():
        rows = sources == source
        margin[rows] = cut.margin(quality[rows], tokens[rows])
    return margin


def _as_in_corpus(labelled: pa.Table, tokens: Mapping[str, int]) -> npt.NDArray[np.int64]:
    """Scale tokens so that each source's labelled records weigh as much as the source in the corpus."""
    own = labelled["n_tokens"].to_numpy().astype(np.float64)
    sources = np.array(labelled["source"].to_pylist())
    for source in np.unique(sources):
        rows = sources == source
        own[rows] *= tokens[source] / max(own[rows].sum(), 1)
    scaled: npt.NDArray[np.int64] = np.maximum(np.rint(own), 1).astype(np.int64)
    return scaled
