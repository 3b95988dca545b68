"""Values written anew, without records that do not compete."""

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from mira.arrays import Words
from mira.corpus import Shard
from mira.corpus.index_reader import BLOCK, Batches, Block, index_blocks
from mira.flags import Dropped
from mira.run_folder.files import atomic, hash_json
from mira.run_folder.paths import RunFolder
from mira.selection.values import (
    Gated,
    Ranked,
    Summary,
    added,
    known_summary,
    left_out,
    mismatch,
    of_all,
    values_path,
    values_table,
    values_writer,
)

__all__ = ["CopyTask", "rewrite_values", "without_copies"]


class CopyTask(NamedTuple):
    """One shard whose duplicates are to be taken out of the competition.

    Attributes:
        method: The folder of `values/` without the duplicates.
        summary: Of its values with the duplicates.
        dropped: The records that another copy stands for.
    """

    run: RunFolder
    method: str
    shard: Shard
    summary: Summary
    dropped: Dropped


def without_copies(task: CopyTask) -> Summary:
    """Write a shard's values without the records that another copy stands for, if that is not done yet."""
    run, method, shard, before, dropped = task
    identity = hash_json([before.identity, dropped.rows.tolist(), dropped.reasons.to_pylist()])
    target = values_path(run, method, shard.source, shard.name)
    given = values_path(run, of_all(method), shard.source, shard.name)

    def change(blocks: Iterator[tuple[Block, Ranked]]) -> Iterator[Ranked]:
        for block, ranked in blocks:
            yield left_out(ranked, block, dropped)

    blank = Summary(shard.source, shard.name, identity, before.rows, before.rejected, gated=before.gated)
    return rewrite_values(run, shard, given, target, blank, change)


def rewrite_values(
    run: RunFolder,
    shard: Shard,
    given: Path,
    target: Path,
    blank: Summary,
    change: Callable[[Iterator[tuple[Block, Ranked]]], Iterator[Ranked]],
    gated: Mapping[str, Gated] | None = None,
) -> Summary:
    """Write a shard's values anew, unless that is done already.

    Args:
        run: The run folder.
        shard: The shard.
        given: Its values.
        target: Where the changed ones go.
        blank: Source, shard and identity of the new file, and counts that stay.
        change: Takes every block with its values, and yields the changed values.
        gated: What gates drop; filled while `change` runs.
    """
    if known := known_summary(target, shard, blank.identity):
        return known
    summary, pulled = blank, deque[tuple[Block, Words]]()

    def blocks() -> Iterator[tuple[Block, Ranked]]:
        with pq.ParquetFile(given) as file:
            batches = Batches(file.iter_batches(BLOCK, use_threads=False))
            for block in index_blocks(run, shard.source, shard.name):
                batch = batches.take(len(block))
                if batch is None or len(batch) != len(block):
                    raise mismatch(shard)
                strata = batch["stratum"].cast(pa.string())
                pulled.append((block, batch["tie"].to_numpy()))
                yield (
                    block,
                    Ranked(
                        batch["value"].to_numpy(zero_copy_only=False),
                        batch["reason"].cast(pa.string()),
                        strata if strata.null_count < len(strata) else None,
                    ),
                )

    with atomic(target) as temporary, values_writer(temporary) as writer:
        for ranked in change(blocks()):
            block, ties = pulled.popleft()
            writer.write_table(values_table(block, ranked, ties))
            summary = added(summary, block, ranked)
        summary = replace(summary, gated=dict(sorted(gated.items()))) if gated is not None else summary
        writer.add_key_value_metadata({"mira": orjson.dumps(summary).decode()})
    return summary
