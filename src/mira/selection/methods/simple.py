"""The selection methods of mira itself: raw, random and mira."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from mira.arrays import Floats
from mira.corpus import Shard
from mira.corpus.index_reader import Block
from mira.corpus.record import Record
from mira.hashing import hash_ids, uniform
from mira.run_folder.paths import RunFolder
from mira.selection.methods.method import BaseMethod, Method, by_source
from mira.selection.values import Ranked, SelectionInputs

__all__ = ["RANDOM", "RAW", "RandomOrder", "Raw", "random_values"]


class Raw(BaseMethod):
    """The raw mixture: every valid record has the same value. Selection keeps all of them, whatever the budget."""

    name = "raw"
    has_quality = False

    def identity(self, run: RunFolder, shard: Shard) -> str:
        """Return the name: only the index matters."""
        return self.name

    def rank(self, run: RunFolder, shard: Shard, blocks: Iterator[Block]) -> Iterator[Ranked]:
        """Value every record 0."""
        for block in blocks:
            yield Ranked(np.zeros(len(block)))


@dataclass(frozen=True)
class RandomOrder(BaseMethod):
    """A seeded random order: the value is a uniform hash of (seed, source, id).

    Attributes:
        seed: The seed.
    """

    seed: int
    name = "random"
    has_quality = False

    def identity(self, run: RunFolder, shard: Shard) -> str:
        """Return the name: only the index and the seed matter."""
        return self.name

    def rank(self, run: RunFolder, shard: Shard, blocks: Iterator[Block]) -> Iterator[Ranked]:
        """Value every record by its hash, in (0, 1)."""
        for block in blocks:
            yield Ranked(random_values(self.seed, shard.source, block.ids))

    def value_records(self, inputs: SelectionInputs, records: Sequence[Record], ids: Sequence[str]) -> Floats:
        """Value every record by the hash of its own id."""
        own = [record.id for record in records]
        return by_source(
            records, own, lambda source, ids, _texts: random_values(self.seed, source, pa.array(ids, pa.string()))
        )


def random_values(seed: int, source: str, ids: pa.Array) -> Floats:
    """Return a uniform value in (0, 1) per record: a hash of seed, source and id."""
    return uniform(hash_ids(ids, seed, source, "random"))


RAW = Method(name="raw", load=lambda _inputs: Raw())
RANDOM = Method(name="random", load=lambda inputs: RandomOrder(inputs.seed))
