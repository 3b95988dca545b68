"""The selection methods of mira itself: raw, random and mira."""

from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa

from mira.arrays import Floats
from mira.config.settings import Config
from mira.corpus import Shard
from mira.corpus.index_reader import Block
from mira.corpus.record import Record
from mira.hashing import hash_ids, uniform
from mira.progress import Log
from mira.run_folder.paths import RunFolder
from mira.selection.methods.method import BaseMethod, Method, by_source
from mira.selection.values import Ranked

__all__ = ["RANDOM", "RAW", "RandomOrder", "Raw", "random_values"]


class Raw(BaseMethod):
    """The raw mixture: every valid record has the same value. Selection keeps all of them, whatever the budget."""

    name = "raw"
    has_quality = False

    def identity(self, config: Config, run: RunFolder, shard: Shard) -> str:
        """Return the name: only the index matters."""
        return self.name

    def rank(self, config: Config, run: RunFolder, shard: Shard, blocks: Iterator[Block]) -> Iterator[Ranked]:
        """Value every record 0."""
        for block in blocks:
            yield Ranked(np.zeros(len(block)))


class RandomOrder(BaseMethod):
    """A seeded random order: the value is a uniform hash of (seed, source, id)."""

    name = "random"
    has_quality = False

    def identity(self, config: Config, run: RunFolder, shard: Shard) -> str:
        """Return the name: only the index and the seed matter."""
        return self.name

    def rank(self, config: Config, run: RunFolder, shard: Shard, blocks: Iterator[Block]) -> Iterator[Ranked]:
        """Value every record by its hash, in (0, 1)."""
        for block in blocks:
            yield Ranked(random_values(config, shard.source, block.ids))

    def value_records(
        self, config: Config, run: RunFolder, log: Log, records: Sequence[Record], ids: Sequence[str]
    ) -> Floats:
        """Value every record by the hash of its own id."""
        own = [record.id for record in records]
        return by_source(
            records, own, lambda source, ids, _texts: random_values(config, source, pa.array(ids, pa.string()))
        )


def random_values(config: Config, source: str, ids: pa.Array) -> Floats:
    """Return a uniform value in (0, 1) per record: a hash of seed, source and id."""
    return uniform(hash_ids(ids, config.seed, source, "random"))


RAW = Method(name="raw", load=lambda _config, _run, _log: Raw())
RANDOM = Method(name="random", load=lambda _config, _run, _log: RandomOrder())
