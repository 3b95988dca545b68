"""The last pass: `selection/<source>/<shard>.parquet`, and the kept records in the input's own format.

A sidecar's metadata hold source, shard and fingerprint, and the size and hash of the shard's file in `selected/`. A
shard is done only if all of them match.
"""

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from mira.arrays import Floats, Words
from mira.config.settings import SelectSettings
from mira.corpus import Shard, copy_kept, count_kept
from mira.corpus.index_reader import Block
from mira.run_folder.files import atomic, hash_file
from mira.run_folder.paths import RunFolder
from mira.selection.cuts import ALL
from mira.selection.ordering import rank_keys
from mira.selection.retention import SourceRule
from mira.selection.units import Unit
from mira.selection.value_reader import ValueChunk, aligned
from mira.selection.values import FLAGGED, GATED, MASKED, ValueTask, make_values

__all__ = ["Counts", "Rule", "WriteTask", "keep_mask", "write_shard"]

_COUNTS, _OF = b"mira", b"mira.of"
_SCHEMA = pa.schema(
    [
        ("row", pa.int64()),
        ("id", pa.string()),
        ("n_tokens", pa.int32()),
        ("quality", pa.float64()),
        ("kept", pa.bool_()),
        ("reason", pa.dictionary(pa.int32(), pa.string())),
    ]
)


@dataclass(frozen=True)
class Rule:
    """The rule that keeps records of a shard.

    Attributes:
        parts: The source's rule, or one per stratum; none if nothing of it competes.
        has_quality: Whether values are judgements of records, or only an order (random, raw).
        provenance: Provenance fields with the same value for every kept record.
    """

    parts: tuple[SourceRule, ...]
    has_quality: bool = True
    provenance: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Counts:
    """Counts of a shard's valid records by outcome.

    Attributes:
        units: Source or stratum -> tokens_in, tokens_kept, records_in, records_kept.
        written: Records that are in the shard's file in `selected/`; None if kept records are not written.
    """

    source: str
    records_in: int
    tokens_in: int
    kept: int
    tokens_kept: int
    unscored: int
    dropped: int
    reasons: Mapping[str, int]
    units: Mapping[str, Mapping[str, int]]
    written: int | None = None


class WriteTask(NamedTuple):
    """One shard to write.

    Attributes:
        longest: Bytes of the longest line that counts as a record.
        folder: Folder of `values/` with the values of the records that compete.
        values: How these are made where they may be missing, as on another machine. The shard is then written even if
            it was before: who gives them knows which selection that was.
    """

    select: SelectSettings
    longest: int
    run: RunFolder
    folder: str
    shard: Shard
    rule: Rule
    values: ValueTask | None = None


def keep_mask(rule: Rule, chunk: ValueChunk) -> npt.NDArray[np.bool_]:
    """Return a mask of the records that a rule keeps."""
    kept = np.zeros(len(chunk), bool)
    for part in rule.parts:
        has = chunk.ranked(part.unit)
        if part.cutoff != ALL or part.steps is not None:
            has &= part.keeps(_ranks(part, chunk, has), chunk.ties, chunk.n_tokens)
        kept |= has
    return kept


def write_shard(task: WriteTask) -> Counts:
    """Write one shard's selection sidecar and its kept records; the sidecar comes last and means done.

    Raises:
        RunError: The shard's values do not match the index, or its file changes meanwhile.
    """
    select, longest, run, folder, shard, rule, values = task
    path = run.selection(shard.source) / f"{shard.name}.parquet"
    if values is None and (done := _known(task)) is not None:
        return done
    tally: Counter[str] = Counter()
    reasons: Counter[str] = Counter()
    units: dict[str, Counter[str]] = {}
    kept_rows = _KeptRows(rule.provenance)
    with atomic(path) as temporary:  # what is written while the sidecar is open can be read at once
        if values is not None:
            make_values(values)
        with pq.ParquetWriter(temporary, _SCHEMA, compression="zstd", use_dictionary=["reason"]) as writer:
            for block, chunk in aligned(run, folder, shard):
                kept, quality = keep_mask(rule, chunk), _quality(rule, chunk)
                reason = _reasons(rule, chunk, kept)
                columns = [block.rows, block.ids, block.n_tokens, pa.array(quality, from_pandas=True), kept, reason]
                writer.write_table(pa.Table.from_arrays([pa.array(c) for c in columns], schema=_SCHEMA))
                _count(tally, reasons, block, kept, reason)
                _count_units(units, shard.source, chunk, kept)
                _count_lengths(units, rule, chunk, kept)
                if select.write_selected:
                    kept_rows.add(block, quality, kept)
            copied, written = None, None
            if select.write_selected:
                target, field = run.selected(shard.source), select.provenance_field
                copied = copy_kept(shard, kept_rows, target, field=field, longest=longest)
                written = count_kept(copied) if copied else 0
            counts = _counts(shard.source, tally, reasons, units, written)
            metadata = {_COUNTS: orjson.dumps(counts), _OF: orjson.dumps(_of(shard, copied))}
            writer.add_key_value_metadata({key.decode(): value.decode() for key, value in metadata.items()})
    return counts


def _of(shard: Shard, copied: Path | None) -> dict[str, Any]:
    """Return the shard that a sidecar belongs to, and name, size and hash of its file in `selected/`."""
    kept = {"name": copied.name, "bytes": copied.stat().st_size, "hash": hash_file(copied)} if copied else None
    return {"source": shard.source, "shard": shard.name, "fingerprint": shard.fingerprint, "kept": kept}


def _counts(
    source: str, tally: Counter[str], reasons: Counter[str], units: Mapping[str, Counter[str]], written: int | None
) -> Counts:
    unscored = sum(n for why, n in reasons.items() if why.startswith("unscored:"))
    dropped = tally["in"] - tally["kept"] - unscored
    by_reason = dict(sorted(reasons.items()))
    return Counts(
        source,
        tally["in"],
        tally["tokens_in"],
        tally["kept"],
        tally["tokens_kept"],
        unscored,
        dropped,
        by_reason,
        units,
        written,
    )


def _known(task: WriteTask) -> Counts | None:
    """Return the counts of a shard that is done; None if its sidecar or its kept records have changed."""
    path = task.run.selection(task.shard.source) / f"{task.shard.name}.parquet"
    try:
        metadata = pq.read_metadata(path).metadata or {}
        counts, of = Counts(**orjson.loads(metadata[_COUNTS])), orjson.loads(metadata[_OF])
        kept = of["kept"]
        copied = task.run.selected(task.shard.source) / kept["name"] if kept else None
        if of != _of(task.shard, copied) or (counts.written is None) == task.select.write_selected:
            return None
    except (OSError, KeyError, TypeError, ValueError, pa.ArrowException):
        return None
    return counts


def _above(rule: Rule, chunk: ValueChunk) -> npt.NDArray[np.bool_]:
    """Return a mask of the records above the threshold, ignoring floors, caps and whether a record fits."""
    above = np.zeros(len(chunk), bool)
    for part in rule.parts:
        has = chunk.ranked(part.unit)
        cutoff = part.pool.cutoff if part.steps is None else part.cutoff
        above |= has & cutoff.keeps(_ranks(part, chunk, has), chunk.ties)
    return above


def _ranks(part: SourceRule, chunk: ValueChunk, has: npt.NDArray[np.bool_]) -> Words:
    return rank_keys(np.where(has, part.ranking(chunk.values, chunk.ties, chunk.n_tokens), 0.0))


def _quality(rule: Rule, chunk: ValueChunk) -> Floats:
    if not rule.has_quality:
        return np.full(len(chunk), np.nan)
    if chunk.reasons.null_count == len(chunk):
        return chunk.values
    return np.where(chunk.reasons.is_null().to_numpy(zero_copy_only=False), chunk.values, np.nan)


def _reasons(rule: Rule, chunk: ValueChunk, kept: npt.NDArray[np.bool_]) -> pa.DictionaryArray:
    words = ["below_threshold", "kept", "floor", "cap", "does_not_fit"]
    codes = kept.astype(np.int32)
    if any(part.steps is not None for part in rule.parts):
        codes = np.where(~kept & _above(rule, chunk), 4, codes).astype(np.int32)
    elif any(part.cutoff != part.pool.cutoff for part in rule.parts):
        above = _above(rule, chunk)
        codes = np.where(kept & ~above, 2, np.where(~kept & above, 3, codes)).astype(np.int32)
    if chunk.reasons.null_count < len(chunk):
        given = chunk.reasons.cast(pa.string()).dictionary_encode()
        named = given.indices.fill_null(-1).to_numpy(zero_copy_only=False)
        codes = np.where(named >= 0, named + len(words), codes).astype(np.int32)
        words += [_sidecar_reason(why) for why in given.dictionary.to_pylist()]
    return pa.DictionaryArray.from_arrays(pa.array(codes), pa.array(words))


def _sidecar_reason(why: str) -> str:
    return why if why == MASKED or why.startswith((FLAGGED, *GATED)) else f"unscored:{why}"


def _count(
    tally: Counter[str], reasons: Counter[str], block: Block, kept: npt.NDArray[np.bool_], reason: pa.DictionaryArray
) -> None:
    tally["in"] += len(block)
    tally["kept"] += int(kept.sum())
    tally["tokens_in"] += int(block.n_tokens.sum(dtype=np.int64))
    tally["tokens_kept"] += int(block.n_tokens[kept].sum(dtype=np.int64))
    for word, n in zip(reason.dictionary.to_pylist(), np.bincount(reason.indices.to_numpy()).tolist(), strict=False):
        if n:
            reasons[word] += n


def _count_units(units: dict[str, Counter[str]], source: str, chunk: ValueChunk, kept: npt.NDArray[np.bool_]) -> None:
    if chunk.strata.null_count == len(chunk):
        _add_to_unit(units, Unit(source), chunk, kept, np.ones(len(chunk), bool))
        return
    coded = chunk.strata.cast(pa.string()).dictionary_encode()
    codes = coded.indices.fill_null(-1).to_numpy(zero_copy_only=False)
    for code, stratum in [(-1, ""), *enumerate(coded.dictionary.to_pylist())]:
        inside = codes == code
        if inside.any():
            _add_to_unit(units, Unit(source, stratum), chunk, kept, inside)


def _count_lengths(units: dict[str, Counter[str]], rule: Rule, chunk: ValueChunk, kept: npt.NDArray[np.bool_]) -> None:
    for part in rule.parts:
        if part.unit != part.unit.whole:
            _add_to_unit(units, part.unit, chunk, kept, chunk.ranked(part.unit))


def _add_to_unit(
    units: dict[str, Counter[str]],
    unit: Unit,
    chunk: ValueChunk,
    kept: npt.NDArray[np.bool_],
    inside: npt.NDArray[np.bool_],
) -> None:
    counts = units.setdefault(str(unit), Counter())
    counts["records_in"] += int(inside.sum())
    counts["records_kept"] += int((inside & kept).sum())
    counts["tokens_in"] += int(chunk.n_tokens[inside].sum(dtype=np.int64))
    counts["tokens_kept"] += int(chunk.n_tokens[inside & kept].sum(dtype=np.int64))


class _KeptRows(Mapping[int, Mapping[str, Any]]):
    """Row -> provenance, made on access: a few arrays instead of a dictionary per record."""

    def __init__(self, same: Mapping[str, Any]) -> None:
        self._same = same
        self._kept = bytearray()  # by row
        self._parts: list[tuple[npt.NDArray[np.int64], Floats, npt.NDArray[np.int32]]] = []
        self._starts: list[int] = []

    def add(self, block: Block, quality: Floats, kept: npt.NDArray[np.bool_]) -> None:
        if not kept.any():
            return
        rows = block.rows[kept]
        self._kept.extend(bytes(int(rows[-1]) + 1 - len(self._kept)))
        np.frombuffer(self._kept, np.uint8)[rows] = 1
        self._parts.append((rows, quality[kept], block.n_tokens[kept]))
        self._starts.append(int(rows[0]))

    def __contains__(self, row: object) -> bool:
        return isinstance(row, int) and row < len(self._kept) and self._kept[row] == 1

    def __getitem__(self, row: int) -> dict[str, Any]:
        if row not in self:
            raise KeyError(row)
        rows, qualities, n_tokens = self._parts[bisect_right(self._starts, row) - 1]
        at = int(np.searchsorted(rows, row))
        quality = float(qualities[at])
        shown = None if np.isnan(quality) else quality
        return {**self._same, "quality": shown, "n_tokens": int(n_tokens[at])}

    def __iter__(self) -> Iterator[int]:
        for rows, _, _ in self._parts:
            yield from rows.tolist()

    def __len__(self) -> int:
        return sum(len(rows) for rows, _, _ in self._parts)
