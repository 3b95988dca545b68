"""MinHash of texts and its bands, with the library rensa (extra `[dedup]`)."""

from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from typing import Any

import numpy as np
import numpy.typing as npt

from mira.config.settings import FlagSettings
from mira.errors import ConfigError, install_hint
from mira.flags.words import Hashes, Offsets, shingles

__all__ = ["MinHash", "Sketch", "Sketches", "bands_for", "load_minhash", "similarity"]

Sketch = npt.NDArray[np.uint16]
_RECALL = 0.95
_SEED = 1


@dataclass(frozen=True, slots=True)
class Sketches:
    """MinHashes of some texts.

    Attributes:
        has: Which texts have one: those with a word in them.
        values: (texts, permutations) uint16, the low halves of the values: two of different shingles are equal by
            chance once in 65,536, which an estimate of similarity does not notice.
        bands: (texts, bands) uint64: texts are candidates where one of them is equal.
    """

    has: npt.NDArray[np.bool_]
    values: Sketch
    bands: Hashes


@dataclass(frozen=True, slots=True)
class MinHash:
    """Makes MinHashes.

    Attributes:
        permutations: Values of a MinHash.
        shingle_words: Words of a shingle.
        n_bands: Bands.
        width: Values of a band.
        identity: Hashes made under another identity cannot be compared with these.
    """

    permutations: int
    shingle_words: int
    n_bands: int
    width: int
    identity: str

    def __call__(self, words: Hashes, offsets: Offsets) -> Sketches:
        """Sketch texts, given the hashes of their words as from `hash_words`."""
        grams, places = shingles(words, offsets, self.shingle_words)
        rows = _rensa().RMinHash.digest_matrix_from_flat_token_hashes(
            grams, places.astype(np.uint64), self.permutations, _SEED
        )
        values = np.array(rows.to_rows(), np.uint32).reshape(-1, self.permutations)
        return Sketches(np.diff(places) > 0, (values & np.uint32(0xFFFF)).astype(np.uint16), self._bands(values))

    def _bands(self, values: npt.NDArray[np.uint32]) -> Hashes:
        parts = values[:, : self.n_bands * self.width].reshape(-1, self.n_bands, self.width).astype(np.uint64)
        folded = np.zeros(parts.shape[:2], np.uint64)
        for column in range(self.width):
            folded = (folded ^ parts[:, :, column]) * np.uint64(0x9E3779B97F4A7C15)
            folded ^= folded >> np.uint64(32)
        return folded


def load_minhash(settings: FlagSettings) -> MinHash:
    """Return the MinHash that the settings ask for.

    Raises:
        ConfigError: rensa is not installed.
    """
    algorithm = _rensa().RMinHash.ALGORITHM_VERSION
    n_bands, width = bands_for(settings.jaccard, settings.permutations)
    identity = f"rensa {version('rensa')}/{algorithm} {settings.permutations} {settings.shingle_words} {n_bands}"
    return MinHash(settings.permutations, settings.shingle_words, n_bands, width, identity)


@cache
def _rensa() -> Any:
    try:
        import rensa  # noqa: PLC0415
    except ImportError:
        raise ConfigError(
            "flags.near: rensa is not installed",
            f"Install it with: {install_hint('dedup')}; or set flags.near to false.",
        ) from None
    return rensa


def bands_for(jaccard: float, permutations: int) -> tuple[int, int]:
    """Choose bands (ours): the widest of which at least one is equal with probability 0.95 at the threshold.

    Two texts of Jaccard similarity j agree in a band of width w with probability j**w, so in one of b bands with
    1 - (1 - j**w)**b. Wider bands have fewer candidates to verify.

    Returns:
        Number of bands and their width; bands * width <= permutations.
    """
    width = 1
    while width < permutations and 1 - (1 - jaccard ** (width + 1)) ** (permutations // (width + 1)) >= _RECALL:
        width += 1
    return permutations // width, width


def similarity(left: Sketch, right: Sketch) -> npt.NDArray[np.float64]:
    """Estimate the Jaccard similarity of pairs of texts: the share of equal values, row by row."""
    return np.asarray((left == right).mean(axis=1), dtype=np.float64)
