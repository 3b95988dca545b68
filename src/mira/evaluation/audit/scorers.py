"""The scorers of a run: the student's quality, and foreign scores; where their values are, and what they hold."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow.parquet as pq

from mira.arrays import Floats
from mira.config.scores import ForeignSettings
from mira.corpus import Shard
from mira.corpus.database import listed
from mira.errors import ConfigError
from mira.foreign.sidecars import foreign_path
from mira.run_folder.paths import RunFolder
from mira.selection.methods.method import load_method
from mira.selection.planning import make_plan
from mira.selection.values import SelectionInputs, values_path

__all__ = ["QUALITY", "Counts", "Scorer", "count_values", "find_scorers", "shard_values"]

QUALITY = "quality"
"""Name of the student's quality among scorers."""


@dataclass(frozen=True, slots=True)
class Scorer:
    """One scorer of a run.

    Attributes:
        name: Its name.
        better: "higher" or "lower".
        path: Shard -> the file with its values, a row per valid record.
        covers: Source -> whether it has values.
    """

    name: str
    better: str
    path: Callable[[Shard], Path]
    covers: Callable[[str], bool] = lambda _source: True

    @property
    def sign(self) -> float:
        """What values are multiplied by, so that higher is better."""
        return -1.0 if self.better == "lower" else 1.0


@dataclass(frozen=True, slots=True)
class Counts:
    """What a scorer's files hold, over all records."""

    records: int = 0
    scored: int = 0
    missing: Mapping[str, int] = field(default_factory=dict)
    distinct: int = 0
    commonest: float | None = None
    at_median: float | None = None
    lowest: float | None = None
    highest: float | None = None
    mean: float | None = None
    spread: float | None = None


def find_scorers(
    inputs: SelectionInputs, names: Sequence[str], against: Sequence[str] = ()
) -> tuple[list[Scorer], dict[str, Scorer]]:
    """Return the scorers to audit, and all that the run has, by name.

    Args:
        inputs: What a selection would be made from.
        names: Names; empty for all.
        against: Further names that must exist.

    Raises:
        ConfigError: A name is unknown, or the run has no scorer.
        RunError: Scores are not there yet.
    """
    run, known = inputs.run, {}
    if run.reliability.is_file():
        known[QUALITY] = _quality(inputs)
    known |= {name: _foreign(run, name, score) for name, score in inputs.scores.items()}
    for name in [*names, *against]:
        if name not in known:
            raise ConfigError(
                f"audit: there is no scorer '{name}'",
                f"This run has {', '.join(known)}." if known else "Name scores in `scores`, or run with a teacher.",
            )
    if not known:
        raise ConfigError(
            "audit: this run has neither a student nor foreign scores",
            "Name scores in `scores`, or audit a file: mira audit --scores FILE.parquet --input 'data/*.jsonl'",
        )
    return [known[name] for name in names or known if names or name not in against], known


def _foreign(run: RunFolder, name: str, score: ForeignSettings) -> Scorer:
    return Scorer(name, score.better, lambda shard: foreign_path(run, name, shard), score.covers)


def _quality(inputs: SelectionInputs) -> Scorer:
    select = inputs.select.model_copy(update={"gates": [], "method": "mira"})
    own = replace(inputs, select=select)
    method = load_method("mira", own)
    plan = make_plan(own, method)
    return Scorer(QUALITY, "higher", lambda shard: values_path(own.run, plan.folder, shard.source, shard.name))


def shard_values(scorer: Scorer, shard: Shard, n: int) -> Floats:
    """Return a scorer's values of a shard's `n` valid records, turned so that higher is better; NaN if missing."""
    if not scorer.covers(shard.source):
        return np.full(n, np.nan)
    found = pq.read_table(scorer.path(shard), columns=["value"])["value"].to_numpy()
    return np.asarray(scorer.sign * found, dtype=np.float64)


def count_values(con: duckdb.DuckDBPyConnection, scorer: Scorer, shards: Sequence[Shard]) -> Counts:
    """Count a scorer's values over all records of some shards."""
    paths = [str(scorer.path(shard)) for shard in shards if scorer.covers(shard.source)]
    if not paths:
        return Counts()
    con.execute(
        f"""CREATE OR REPLACE TEMP VIEW found AS SELECT value, reason::VARCHAR AS reason
        FROM read_parquet([{listed(paths)}])"""
    )
    con.execute(
        """CREATE OR REPLACE TEMP TABLE tallies AS SELECT value, count(*) AS n FROM found
        WHERE value IS NOT NULL GROUP BY value"""
    )
    records, scored, lowest, highest, mean, spread = _one(
        con, "SELECT count(*), count(value), min(value), max(value), avg(value), stddev_samp(value) FROM found"
    )
    distinct, most = _one(con, "SELECT count(*), max(n) FROM tallies")
    at_median = None
    if scored:
        (middle,) = _one(
            con,
            f"SELECT value FROM (SELECT value, sum(n) OVER (ORDER BY value) AS upto FROM tallies) "
            f"WHERE upto >= {(scored + 1) // 2} ORDER BY upto LIMIT 1",
        )
        (n,) = _one(con, "SELECT n FROM tallies WHERE value = ?", middle)
        at_median = n / scored
    missing = con.execute(
        "SELECT coalesce(reason, 'null'), count(*) FROM found WHERE value IS NULL GROUP BY 1 ORDER BY 1"
    ).fetchall()
    return Counts(
        int(records), int(scored), {str(reason): int(n) for reason, n in missing}, int(distinct),
        most / scored if scored else None, at_median, lowest, highest, mean,
        spread if spread is not None and math.isfinite(spread) else None,
    )  # fmt: skip


def _one(con: duckdb.DuckDBPyConnection, query: str, *values: Any) -> tuple[Any, ...]:
    found = con.execute(query, list(values)).fetchone()
    return tuple(found or ())
