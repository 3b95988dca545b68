"""Vectors of texts, kept in a file for the next time the same texts are embedded."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from hashlib import blake2b
from pathlib import Path
from typing import IO

import numpy as np

from mira.embedding.embedder import Embedder, Vectors
from mira.run_folder.files import atomic

__all__ = ["KeptVectors", "keeping_vectors"]

_KEY, _SUM = 16, 8  # bytes


class KeptVectors:
    """An embedder that embeds only texts that the last file does not hold; see `keeping_vectors`.

    The file is a sequence of rows of one size: hash of the embedder's identity and the text, hash of that key and the
    vector, the vector as little-endian float32. A row whose hash does not match counts as missing. In memory are the
    keys alone.

    Args:
        embedder: The embedder.
        old: The last file, or None.
        new: Takes the row of every text that is asked for, once.
    """

    def __init__(self, embedder: Embedder, old: IO[bytes] | None, new: IO[bytes]) -> None:
        self._embedder, self.identity, self.dim = embedder, embedder.identity, embedder.dim
        self._row = _KEY + _SUM + 4 * self.dim
        self._places: dict[bytes, tuple[IO[bytes], int]] = {}
        self._old, self._new, self._end = old, new, 0
        if old is not None:
            for at in range(0, old.seek(0, 2) - self._row + 1, self._row):
                old.seek(at)
                self._places[old.read(_KEY)] = old, at

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Return float32 unit rows, (len(texts), dim), as the embedder gives them."""
        keys = [self._key(text) for text in texts]
        found = {key: vector for key in dict.fromkeys(keys) if (vector := self._read(key)) is not None}
        missing = {key: text for key, text in zip(keys, texts, strict=True) if key not in found}
        if missing:
            made = self._embedder.embed(list(missing.values())).astype("<f4")
            for key, vector in zip(missing, made, strict=True):
                found[key] = vector.tobytes()
                self._write(key, found[key])
        return np.frombuffer(b"".join(found[key] for key in keys), "<f4").reshape(len(texts), self.dim)

    def _key(self, text: str) -> bytes:
        return blake2b(f"{self.identity}\0{text}".encode("utf-8", "surrogatepass"), digest_size=_KEY).digest()

    def _read(self, key: bytes) -> bytes | None:
        file, at = self._places.get(key, (self._new, -1))
        if at < 0:
            return None
        file.seek(at)
        row = file.read(self._row)
        vector = row[_KEY + _SUM :]
        if row[:_KEY] != key or row[_KEY : _KEY + _SUM] != _sum(key, vector):
            return None
        if file is self._old:
            self._write(key, vector)
        return vector

    def _write(self, key: bytes, vector: bytes) -> None:
        self._new.seek(self._end)
        self._new.write(key + _sum(key, vector) + vector)
        self._places[key] = self._new, self._end
        self._end += self._row


def _sum(key: bytes, vector: bytes) -> bytes:
    return blake2b(vector, digest_size=_SUM, key=key).digest()


@contextmanager
def keeping_vectors(embedder: Embedder, path: Path) -> Iterator[KeptVectors]:
    """Give an embedder that does not embed a text again whose vector the file holds.

    At the end, if there was no error, the file is replaced by one with the texts that were asked for: those that nobody
    needs any more go.

    Args:
        embedder: The embedder.
        path: The file. It need not be there, and may be damaged.
    """
    with atomic(path) as temporary, temporary.open("w+b") as new:
        old = path.open("rb") if path.is_file() else None
        try:
            yield KeptVectors(embedder, old, new)
        finally:
            if old is not None:
                old.close()
