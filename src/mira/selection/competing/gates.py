"""Gates: floors beside quality, within each source, on the values of a method (`select.gates`). They are ours.

A gate that drops a share takes the records of the lowest values of a source, ties by the hash of their ids, as many as
fit into that share of the tokens of its records with the value; the cutoff is found as those of budgets are
(`cuts.py`), from merged histograms. What a gate drops has no value in `values/<method>.gated/`, but a reason: the
budget is then filled from the others.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from fractions import Fraction
from functools import partial
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from mira.arrays import Floats
from mira.config.settings import GateSettings
from mira.corpus import Shard
from mira.corpus.index_reader import Block
from mira.errors import ConfigError
from mira.run_folder.files import hash_json
from mira.run_folder.paths import RunFolder
from mira.selection.competing.rewrite import rewrite_values
from mira.selection.cuts import NOTHING, Cutoff, Problem, find_cutoffs
from mira.selection.map_shards import map_shards
from mira.selection.ordering import rank_keys
from mira.selection.sweeps import Ranking, Sweeps
from mira.selection.units import Unit
from mira.selection.value_reader import ValueChunk, read_values
from mira.selection.values import (
    GATED,
    Gated,
    Ranked,
    SelectionInputs,
    SelectionMethod,
    Summary,
    mismatch,
    values_path,
)

__all__ = ["Gate", "GateTask", "SourceGate", "apply_gates", "check_gates", "find_gates", "gate_values"]

_DROPPED, _MISSING = GATED


@dataclass(frozen=True)
class SourceGate:
    """A gate as it is in effect in one source.

    Attributes:
        least: The smallest value that passes, with `min`; else None.
        cutoff: Records up to here are dropped, lowest values first; `NOTHING` with `min`.
        tokens: Tokens of the source's records with the value.
    """

    least: float | None = None
    cutoff: Cutoff = NOTHING
    tokens: int = 0

    def drops(self, values: npt.NDArray[np.float64], ties: npt.NDArray[np.uint64]) -> npt.NDArray[np.bool_]:
        """Return a mask of the records that are dropped; those without a value are not."""
        known = ~np.isnan(values)
        if self.least is not None:
            return np.asarray(known & (values < self.least), np.bool_)
        return np.asarray(known & self.cutoff.keeps(rank_keys(np.where(known, -values, 0.0)), ties), np.bool_)


@dataclass(frozen=True)
class Gate:
    """A gate as it is in effect.

    Attributes:
        settings: Its settings.
        folder: The folder of `values/` that holds what it measures.
        sources: Source -> the floor there; other sources have no such gate.
        identities: (source, shard) -> hash of what the values depend on.
    """

    settings: GateSettings
    folder: str
    sources: Mapping[str, SourceGate]
    identities: Mapping[tuple[str, str], str]


class GateTask(NamedTuple):
    """One shard, its values, and the gates that its records must pass.

    Attributes:
        given: Folder of `values/` with all records.
        target: Folder for the values of those that pass.
    """

    run: RunFolder
    shard: Shard
    summary: Summary
    gates: Sequence[Gate]
    given: str
    target: str


def check_gates(gates: Sequence[GateSettings], sources: Sequence[str]) -> None:
    """Check that gates name sources that exist.

    Raises:
        ConfigError: One does not.
    """
    for at, gate in enumerate(gates):
        for name in gate.sources:
            if name not in sources:
                near = get_close_matches(name, sources, 1)
                raise ConfigError(
                    f"select.gates.{at}.sources: there is no source '{name}'",
                    f"Did you mean '{near[0]}'?" if near else f"Sources are {', '.join(sources)}.",
                )


def find_gates(
    inputs: SelectionInputs,
    measured: Sequence[tuple[GateSettings, SelectionMethod, str, Sequence[Summary]]],
    of_source: Mapping[str, Sequence[Shard]],
) -> list[Gate]:
    """Find the floors of every gate in every source.

    Args:
        inputs: What the selection is made from.
        measured: Per gate its settings, its method, the folder of its values, and their summaries.
        of_source: Source -> its shards.

    Raises:
        ConfigError: The values have no floor, or a source that has the gate lacks them altogether.
    """
    return [_gate(inputs, *one, of_source) for one in measured]


def _gate(
    inputs: SelectionInputs,
    settings: GateSettings,
    method: SelectionMethod,
    folder: str,
    summaries: Sequence[Summary],
    of_source: Mapping[str, Sequence[Shard]],
) -> Gate:
    if method.to_median:
        raise ConfigError(
            f"select.gates: {settings.value} ranks by the distance to a median, which has no floor",
            "Set select.ppl.keep to low or high.",
        )
    names = settings.sources or list(of_source)
    tokens = {name: sum(s.ranked_tokens for s in summaries if s.source == name and not s.masked) for name in names}
    records = {name: sum(s.records for s in summaries if s.source == name) for name in names}
    lacking = [name for name in names if records[name] and not tokens[name]]
    if lacking and settings.missing == "drop":
        raise ConfigError(
            f"select.gates: no record of source '{lacking[0]}' has a value of {settings.value}: all would be dropped",
            "Name the sources that have it: sources: [...]. Or let records without it pass: missing: keep.",
        )
    identities = {(s.source, s.shard): s.identity for s in summaries}
    if settings.min is not None:
        floors = {name: SourceGate(settings.min, NOTHING, tokens[name]) for name in names}
        return Gate(settings, folder, floors, identities)
    paths = {
        name: [values_path(inputs.run, folder, name, shard.name) for shard in of_source[name]]
        for name in names
        if tokens[name]
    }
    ranked = sum(s.ranked_records for s in summaries if s.source in paths)
    sweeps = Sweeps(paths, ranked, partial(map_shards, inputs.near))
    problems = [Problem((Unit(name),), int(Fraction(str(settings.drop)) * tokens[name])) for name in paths]
    found = find_cutoffs(problems, sweeps.tallies({Unit(name): Ranking(lowest=True) for name in paths}))
    cutoffs = {name: one.cutoff for name, one in zip(paths, found, strict=True)}
    sources = {name: SourceGate(None, cutoffs.get(name, NOTHING), tokens[name]) for name in names}
    return Gate(settings, folder, sources, identities)


def apply_gates(task: GateTask) -> Summary:
    """Write a shard's values without the records that gates drop, if that is not done yet.

    A record that several gates drop has the first one as its reason. Records that do not compete anyway keep theirs.
    """
    run, shard, before, gates, given, target = task
    here = [gate for gate in gates if shard.source in gate.sources]
    effects = [
        [
            gate.settings.value, gate.settings.missing, gate.identities[shard.source, shard.name],
            gate.sources[shard.source].least, list(gate.sources[shard.source].cutoff),
        ]
        for gate in here
    ]  # fmt: skip
    blank = Summary(
        shard.source, shard.name, hash_json([before.identity, effects]), before.rows, before.rejected,
        masked=before.masked,
    )  # fmt: skip
    counts: dict[str, Gated] = {}

    def change(blocks: Iterator[tuple[Block, Ranked]]) -> Iterator[Ranked]:
        readers = [_Chunks(run, gate.folder, shard) for gate in here]
        for block, ranked in blocks:
            passing = ranked
            for gate, reader in zip(here, readers, strict=True):
                passing = _past(gate, shard.source, reader.take(len(block)), block, passing, counts)
            yield passing

    source, aim = (values_path(run, folder, shard.source, shard.name) for folder in (given, target))
    return rewrite_values(run, shard, source, aim, blank, change, counts)


class _Chunks:
    """Reads a shard's values in pieces of any size."""

    def __init__(self, run: RunFolder, folder: str, shard: Shard) -> None:
        self._chunks, self._shard = read_values(values_path(run, folder, shard.source, shard.name)), shard
        self._chunk: ValueChunk | None = None

    def take(self, n: int) -> list[ValueChunk]:
        parts: list[ValueChunk] = []
        while n:
            if self._chunk is None or not len(self._chunk):
                self._chunk = next(self._chunks, None)
                if self._chunk is None:
                    raise mismatch(self._shard)
            part = self._chunk.part(0, min(n, len(self._chunk)))
            self._chunk = self._chunk.part(len(part), len(self._chunk))
            parts.append(part)
            n -= len(part)
        return parts


def gate_values(chunk: ValueChunk) -> Floats:
    """Return what a gate measures, NaN if missing: the values of a wholly masked source, which are random, are none."""
    return np.where(chunk.reasons.is_null().to_numpy(zero_copy_only=False), chunk.values, np.nan)


def _past(
    gate: Gate,
    source: str,
    chunks: Sequence[ValueChunk],
    block: Block,
    ranked: Ranked,
    counts: dict[str, Gated],
) -> Ranked:
    values = np.concatenate([np.zeros(0), *map(gate_values, chunks)])
    ties = np.concatenate([np.zeros(0, np.uint64), *(chunk.ties for chunk in chunks)])
    competes = ~np.isnan(ranked.values)
    low = competes & gate.sources[source].drops(values, ties)
    missing = competes & np.isnan(values) & (gate.settings.missing == "drop")
    given = pa.nulls(len(block), pa.string()) if ranked.reasons is None else ranked.reasons.cast(pa.string())
    for prefix, mask in ((_DROPPED, low), (_MISSING, missing)):
        if mask.any():
            reason = f"{prefix}{gate.settings.value}"
            given = pc.if_else(pa.array(mask), reason, given)
            records, tokens, highest = counts.get(reason, (0, 0, None))
            highest = max([*([] if highest is None else [highest]), float(values[mask].max())]) if mask is low else None
            tokens += int(block.n_tokens[mask].sum(dtype=np.int64))
            counts[reason] = (records + int(mask.sum()), tokens, highest)
    out = low | missing
    if not out.any():
        return ranked
    return Ranked(np.where(out, np.nan, ranked.values), given, ranked.strata)
