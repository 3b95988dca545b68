"""Score sidecars, read in step with the index."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mira.corpus import Shard
from mira.corpus.index_reader import Block, Rows, index_blocks
from mira.errors import RunError
from mira.run_folder.paths import RunFolder

__all__ = ["Sidecar"]


class Sidecar:
    """A shard's scores, checked row by row against the valid records of the index.

    Args:
        path: The sidecar.
        run: The run folder.
        shard: The shard.
        columns: What to read beside row and id.
        made_by: What makes the sidecar, for errors.

    Raises:
        RunError: The sidecar is missing, is not Parquet, or lacks a column.
    """

    def __init__(self, path: Path, run: RunFolder, shard: Shard, columns: Sequence[str], made_by: str) -> None:
        self._path, self._run, self._shard, self._made_by = path, run, shard, made_by
        self._rows = Rows(path, ["row", "id", *columns], made_by)

    def take(self, block: Block) -> pa.RecordBatch:
        """Return the rows of a block.

        Raises:
            RunError: They are not the block's records.
        """
        batch = self._rows.take(len(block))
        if batch is None or len(batch) != len(block) or not _same(batch, block):
            raise self._mismatch()
        return batch

    def finish(self) -> None:
        """Check that nothing is left.

        Raises:
            RunError: There are more rows.
        """
        if self._rows.take(1) is not None:
            raise self._mismatch()

    def _mismatch(self) -> RunError:
        blocks = index_blocks(self._run, self._shard.source, self._shard.name)
        expected = {i for block in blocks for i in block.ids.to_pylist()}
        found = pq.read_table(self._path, columns=["id"])["id"].to_pylist()
        missing, extra = len(expected - set(found)), len(set(found) - expected)
        twice = len(found) - len(set(found))
        return RunError(
            f"{self._path} does not match the corpus: of {len(expected):,} valid records {missing:,} are missing, "
            f"{extra:,} ids are unknown, {twice:,} ids come twice"
            + ("" if missing or extra or twice else ", the rows are in another order"),
            f"Run `{self._made_by}` again (remove the file first if it was made by something else).",
        )


def _same(batch: pa.RecordBatch, block: Block) -> bool:
    return np.array_equal(batch["row"].to_numpy(), block.rows) and bool(batch["id"].equals(block.ids))
