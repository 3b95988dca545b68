"""The selection methods of mira itself: raw, random and mira."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from mira.arrays import Floats
from mira.config.settings import Config
from mira.corpus import Shard
from mira.corpus.index_reader import Block
from mira.hashing import hash_ids, uniform
from mira.run_folder.paths import RunFolder
from mira.selection.methods.method import Method
from mira.selection.values import Ranked

__all__ = ["RANDOM", "RAW", "RandomOrder", "Raw", "random_values"]


@dataclass(frozen=True)
class Raw:
    """The raw mixture: every valid record has the same value. Selection keeps all of them, whatever the budget."""

    name: str = "raw"
    has_quality: bool = False
    reads_text: bool = False
    to_median: bool = False

    def identity(self, config: Config, run: RunFolder, shard: Shard) -> str:
        """Nothing but the index matters."""
        return self.name

    def rank(self, config: Config, run: RunFolder, shard: Shard, blocks: Iterator[Block]) -> Iterator[Ranked]:
        """Value every record 0."""
        for block in blocks:
            yield Ranked(np.zeros(len(block)))


@dataclass(frozen=True)
class RandomOrder:
    """A seeded random order: the value is a uniform hash of (seed, source, id)."""

    name: str = "random"
    has_quality: bool = False
    reads_text: bool = False
    to_median: bool = False

    def identity(self, config: Config, run: RunFolder, shard: Shard) -> str:
        """Nothing but the index and the seed matters."""
        return self.name

    def rank(self, config: Config, run: RunFolder, shard: Shard, blocks: Iterator[Block]) -> Iterator[Ranked]:
        """Value every record by its hash, in (0, 1)."""
        for block in blocks:
            yield Ranked(random_values(config, shard, block))


def random_values(config: Config, shard: Shard, block: Block) -> Floats:
    """Return a uniform value in (0, 1) per record: a hash of seed, source and id."""
    return uniform(hash_ids(block.ids, config.seed, shard.source, "random"))


RAW = Method(name="raw", load=lambda _config, _run, _log: Raw())
RANDOM = Method(name="random", load=lambda _config, _run, _log: RandomOrder())
