"""Where each reply lies: 16 bytes per reply."""

from collections.abc import Collection, Iterable

import numpy as np
import numpy.typing as npt

__all__ = ["Index"]

_RECENT = 1 << 16


class Index:
    """Key of 16 bytes -> location (an unsigned 64-bit number); of a key's locations the last added one counts.

    Only the first 8 bytes of a key are held, so a caller must compare the whole key at the location. Two of 50 million
    keys share them with a probability of 1e-4; the earlier one is then not found.
    """

    def __init__(self) -> None:
        self._prefixes: npt.NDArray[np.uint64] = np.empty(0, np.uint64)
        self._locations: npt.NDArray[np.uint64] = np.empty(0, np.uint64)
        self._recent: dict[bytes, int] = {}

    def __len__(self) -> int:
        return len(self._prefixes) + len(self._recent)

    def extend(self, keys: bytes, locations: npt.NDArray[np.uint64]) -> None:
        """Add many keys, one after the other in `keys`, and their locations."""
        prefixes = np.frombuffer(keys, ">u8")[::2].astype(np.uint64)
        prefixes = np.concatenate([self._prefixes, prefixes])
        order = np.argsort(prefixes, kind="stable")
        self._locations = np.concatenate([self._locations, locations])[order]
        self._prefixes = prefixes[order]

    def add(self, keys: Iterable[bytes], location: int) -> None:
        """Add a few keys that share a location."""
        self._recent.update(dict.fromkeys(keys, location))
        if len(self._recent) > _RECENT:
            recent, self._recent = self._recent, {}
            self.extend(b"".join(recent), np.fromiter(recent.values(), np.uint64, len(recent)))

    def find(self, keys: Collection[bytes]) -> dict[bytes, int]:
        """Return key -> location of those that are there."""
        found = {key: self._recent[key] for key in keys if key in self._recent}
        others = [key for key in keys if key not in found]
        if others and len(self._prefixes):
            wanted = np.frombuffer(b"".join(others), ">u8")[::2].astype(np.uint64)
            # The last of equal prefixes: the reply that was added last.
            places = np.searchsorted(self._prefixes, wanted, side="right").astype(np.int64) - 1
            there = (places >= 0) & (self._prefixes[places] == wanted)
            found |= {others[i]: int(self._locations[places[i]]) for i in np.flatnonzero(there)}
        return found
