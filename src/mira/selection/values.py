"""A method's values: one per record, in sidecars `values/<method>/<source>/<shard>.parquet` of the run folder.

Columns: value (float64, larger is better, null = not ranked), tie (the id's hash), n_tokens, reason (null where the
method has a value), stratum (null where the method has none). Retention reads nothing else, so that another budget,
scope or temperature never asks a method again, and methods can be compared over one run folder. Where duplicates are
dropped, `values/<method>.all/` holds the values of all copies, and `values/<method>/` those without the copies that do
not stand (see `competing/standing.py`). `values/<method>.gated/` holds those without the records that gates drop.
"""

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mira.arrays import Floats, Words
from mira.config.scores import ForeignSettings
from mira.config.settings import CorpusSettings, FlagSettings, ScoreSettings, SelectSettings, TeacherSettings
from mira.corpus import Shard
from mira.corpus.index_reader import Block, RowCounts, index_blocks
from mira.corpus.record import Record
from mira.errors import RunError
from mira.flags import Dropped, dropped_rows, flags_path
from mira.hashing import hash_ids
from mira.progress import Log
from mira.run_folder.content import state_of
from mira.run_folder.files import atomic, hash_json
from mira.run_folder.paths import RunFolder
from mira.run_folder.working_copy import working_copy_of

__all__ = [
    "FLAGGED",
    "GATED",
    "MASKED",
    "TOO_SHORT",
    "Gated",
    "Ranked",
    "SelectionInputs",
    "SelectionMethod",
    "Summary",
    "ValueTask",
    "added",
    "gated",
    "identity_of",
    "known_summary",
    "left_out",
    "make_values",
    "mismatch",
    "of_all",
    "values_path",
    "values_table",
    "values_writer",
]

MASKED = "masked_source"
"""Reason of every record of a source whose every slot is masked."""

GATED = ("gate:", "gate_missing:")
"""How the reasons begin of records that a gate drops; what it measures follows."""

FLAGGED = "flagged:"  # and the flag: what `flags` says should be dropped

TOO_SHORT = "too_short"
"""Reason of a record of a single token, which a language model cannot measure: nothing stands before it."""

_SCHEMA = pa.schema(
    [
        ("value", pa.float64()),
        ("tie", pa.uint64()),
        ("n_tokens", pa.int32()),
        ("reason", pa.dictionary(pa.int32(), pa.string())),
        ("stratum", pa.dictionary(pa.int32(), pa.string())),
    ]
)


Gated = tuple[int, int, float | None]
"""Records and tokens that a gate drops, and the highest value among them; None if they have none."""


class Ranked(NamedTuple):
    """A method's values of one block of records.

    Attributes:
        values: One float64 per record, larger is better; NaN if the method has none.
        reasons: Why there is no value, a string or null per record; None if every record has a value.
        strata: A string per record: the budget is split over strata in proportion to their tokens. None: no strata.
    """

    values: Floats
    reasons: pa.Array | None = None
    strata: pa.Array | None = None


@dataclass(frozen=True, slots=True)
class SelectionInputs:
    """What a selection is made from. A method takes from it what it needs when it is loaded.

    Attributes:
        run: The run folder.
        corpus: How the corpus is read, for `mira.corpus`.
        select: Section `select`; the settings of mira's own methods are in it.
        flags: Section `flags`: whether duplicates and contaminated records compete.
        score: Section `score`: the engine and the number of workers.
        teacher: Section `teacher`: the limits and the failure budget of methods that ask an endpoint.
        seed: Seed of everything random.
        log: Where progress goes.
        scores: Section `scores`: foreign scores by name.
    """

    run: RunFolder
    corpus: CorpusSettings
    select: SelectSettings
    flags: FlagSettings
    score: ScoreSettings
    teacher: TeacherSettings
    seed: int
    log: Log
    scores: Mapping[str, ForeignSettings] = field(default_factory=dict)

    @property
    def near(self) -> ScoreSettings:
        """The engine for passes over `values/`: of a run at a URL, these files are on this machine alone."""
        return self.score.model_copy(update={"engine": "local"}) if working_copy_of(self.run.path) else self.score

    @property
    def far(self) -> bool:
        """Whether shards run on machines that share nothing but the run's URL."""
        return self.near.engine != self.score.engine


class SelectionMethod(Protocol):
    """One way to rank records. Retention under the budget is the same for all.

    A method must be picklable, and what it says of a record must not depend on shard or block.

    Attributes:
        name: Its name in `select.method`.
        to_median: Whether the records nearest to the pool's median are best, not those of the largest value.
        has_quality: Whether its values judge records (they go into the column `quality`), or are only an order.
        reads_text: Whether it reads the records' text: then shards are worth processes of their own.
    """

    @property
    def name(self) -> str: ...  # noqa: D102

    @property
    def has_quality(self) -> bool: ...  # noqa: D102

    @property
    def reads_text(self) -> bool: ...  # noqa: D102

    @property
    def to_median(self) -> bool: ...  # noqa: D102

    def identity(self, run: RunFolder, shard: Shard) -> str:
        """Return the hash of everything but the index that the shard's values depend on."""
        ...

    def rank(self, run: RunFolder, shard: Shard, blocks: Iterator[Block]) -> Iterator[Ranked]:
        """Yield one `Ranked` per block of the shard's valid records."""
        ...

    def value_records(self, inputs: SelectionInputs, records: Sequence[Record], ids: Sequence[str]) -> Floats:
        """Return the values of records outside the corpus, such as changed copies of its records.

        Args:
            inputs: Those that the method was loaded with.
            records: The records.
            ids: For each, the id of the corpus record that it was made from, or its own. A method that values a record
                by its text does so as `rank` would under this id. A random order uses the record's own id.

        Returns:
            One value per record; NaN if missing.

        Raises:
            ConfigError: The method cannot value records outside the corpus.
            JudgeError: The method's endpoint cannot be used, or left too many records unanswered.
        """
        ...


@dataclass(frozen=True, slots=True)
class Summary:
    """Counts of a shard's values.

    Attributes:
        source: Source of the shard.
        shard: The shard's name.
        identity: Hash of what the values depend on.
        rows: Lines or rows of the shard.
        rejected: Rows that are not valid records.
        records: Valid records.
        tokens: Their tokens.
        ranked_records: Records that compete: they have a value.
        ranked_tokens: Their tokens.
        masked: The source has no unmasked slot.
        strata: Stratum -> (tokens, ranked tokens); empty if the method has none.
        gated: Reason of a gate -> what it drops; empty without gates.
    """

    source: str
    shard: str
    identity: str
    rows: int = 0
    rejected: int = 0
    records: int = 0
    tokens: int = 0
    ranked_records: int = 0
    ranked_tokens: int = 0
    masked: bool = False
    strata: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    gated: Mapping[str, Gated] = field(default_factory=dict)


class ValueTask(NamedTuple):
    """One shard to rank.

    Attributes:
        folder: Its folder of `values/`: the method's name, or `of_all` of it.
    """

    run: RunFolder
    method: SelectionMethod
    shard: Shard
    folder: str
    seed: int
    flags: FlagSettings


def of_all(method: str) -> str:
    """Return the folder of `values/` that holds a method's values where duplicates are dropped: those of all copies."""
    return f"{method}.all"


def gated(method: str) -> str:
    """Return the folder of `values/` that holds a method's values where gates drop records."""
    return f"{method}.gated"


def values_path(run: RunFolder, method: str, source: str, shard: str) -> Path:
    """Return where a shard's values are."""
    return run.path / "values" / method / source / f"{shard}.parquet"


def make_values(task: ValueTask) -> Summary:
    """Rank one shard's records and write their values, unless that is done already.

    Raises:
        RunError: A sidecar is missing, or does not match the index.
    """
    path = values_path(task.run, task.folder, task.shard.source, task.shard.name)
    identity = identity_of(task)
    return known_summary(path, task.shard, identity) or _write(task, path, identity)


def identity_of(task: ValueTask) -> str:
    """Hash everything that a shard's values depend on."""
    run, method, shard, _, seed, flags = task
    index = run.index(shard.source)
    return hash_json(
        [
            method.identity(run, shard), seed,
            state_of(index / f"{shard.name}.parquet"), state_of(index / "duplicates.parquet"),
            *_flags_identity(flags, run, shard),
        ]
    )  # fmt: skip


def _write(task: ValueTask, path: Path, identity: str) -> Summary:
    run, method, shard, _, seed, flags = task
    counts, summary = RowCounts(), Summary(shard.source, shard.name, identity)
    flagged = dropped_rows(flags, run, shard)
    pulled: deque[Block] = deque()

    def blocks() -> Iterator[Block]:
        for block in index_blocks(run, shard.source, shard.name, counts):
            pulled.append(block)
            yield block

    with atomic(path) as temporary, values_writer(temporary) as writer:
        for ranked in method.rank(run, shard, blocks()):
            block = pulled.popleft()
            finite = left_out(_finite(ranked), block, flagged)
            writer.write_table(values_table(block, finite, hash_ids(block.ids, seed, shard.source)))
            summary = added(summary, block, finite)
        summary = replace(summary, rows=counts.rows, rejected=counts.rejected)
        writer.add_key_value_metadata({"mira": orjson.dumps(summary).decode()})
    return summary


def _flags_identity(settings: FlagSettings, run: RunFolder, shard: Shard) -> list[Any]:
    if settings.duplicates == "keep" and settings.contaminated == "keep":
        return []
    return [settings.duplicates, settings.contaminated, state_of(flags_path(run, shard))]


def values_writer(path: Path) -> pq.ParquetWriter:
    """Open a new file of values."""
    return pq.ParquetWriter(
        path, _SCHEMA, compression="none", use_dictionary=["reason", "stratum"], write_statistics=False
    )


def mismatch(shard: Shard) -> RunError:
    """Return the error of values that are not the index's records."""
    return RunError(f"values of {shard.source}/{shard.name} do not match the index", "Run `mira select` again.")


def left_out(ranked: Ranked, block: Block, flagged: Dropped) -> Ranked:
    """Return values without flagged records, which have the flag as their reason."""
    inside = np.isin(block.rows, flagged.rows)
    if not inside.any():
        return ranked
    why = np.searchsorted(flagged.rows, block.rows[inside])
    given = pa.nulls(len(block), pa.string()) if ranked.reasons is None else ranked.reasons.cast(pa.string())
    named = pc.binary_join_element_wise(FLAGGED, flagged.reasons.take(pa.array(why)), "")
    reasons = pc.replace_with_mask(given, pa.array(inside), named)
    return Ranked(np.where(inside, np.nan, ranked.values), reasons, ranked.strata)


def _finite(ranked: Ranked) -> Ranked:
    """Take an infinite value, or NaN without a reason, as no value."""
    lacking = ~np.isfinite(ranked.values)
    if not lacking.any():
        return ranked
    given = pa.nulls(len(lacking), pa.string()) if ranked.reasons is None else ranked.reasons
    reasons = pc.if_else(pa.array(lacking), pc.fill_null(given, "not_finite"), given)
    return Ranked(np.where(lacking, np.nan, ranked.values), reasons, ranked.strata)


def added(summary: Summary, block: Block, ranked: Ranked) -> Summary:
    """Return a summary that counts one more block of values."""
    has = ~np.isnan(ranked.values)
    strata = dict(summary.strata)
    if ranked.strata is not None:
        coded = ranked.strata.dictionary_encode()
        codes = coded.indices.to_numpy()
        for code, stratum in enumerate(coded.dictionary.to_pylist()):
            inside = codes == code
            tokens, kept = strata.get(stratum, (0, 0))
            strata[stratum] = (tokens + _sum(block.n_tokens[inside]), kept + _sum(block.n_tokens[inside & has]))
    return replace(
        summary,
        records=summary.records + len(block),
        tokens=summary.tokens + _sum(block.n_tokens),
        ranked_records=summary.ranked_records + int(has.sum()),
        ranked_tokens=summary.ranked_tokens + _sum(block.n_tokens[has]),
        masked=summary.masked or (ranked.reasons is not None and pc.index(ranked.reasons, MASKED).as_py() >= 0),
        strata=dict(sorted(strata.items())),
    )


def _sum(n_tokens: npt.NDArray[np.int32]) -> int:
    return int(n_tokens.sum(dtype=np.int64))


def values_table(block: Block, ranked: Ranked, ties: Words) -> pa.Table:
    """Return a block of values as it is written."""
    nothing = pa.nulls(len(block), pa.string())
    reasons = nothing if ranked.reasons is None else ranked.reasons
    strata = nothing if ranked.strata is None else ranked.strata
    arrays = [
        pa.array(ranked.values, from_pandas=True), pa.array(ties), pa.array(block.n_tokens),
        reasons.dictionary_encode(), strata.dictionary_encode(),
    ]  # fmt: skip
    return pa.Table.from_arrays(arrays, schema=_SCHEMA)


def known_summary(path: Path, shard: Shard, identity: str) -> Summary | None:
    """Return the summary in a file of values; None if the file is missing, damaged, or of another shard or identity."""
    try:
        found = Summary(**orjson.loads((pq.read_metadata(path).metadata or {})[b"mira"]))
    except (OSError, KeyError, TypeError, ValueError, pa.ArrowException):
        return None
    return found if (found.source, found.shard, found.identity) == (shard.source, shard.name, identity) else None
