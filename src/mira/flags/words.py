"""Words and n-grams of texts as 64-bit hashes, a batch at a time.

The rules are ours. A text is brought to Unicode form NFKC and lower case. A word is a run of letters, marks, digits and
underscores; in scripts that put no space between words (Chinese, Japanese, Thai, Lao, Burmese, Khmer, Tai, Yi,
Javanese, Balinese) every character is a word. Everything else only separates.
"""

import itertools
import unicodedata
from collections.abc import Iterator, Sequence
from functools import cache

import numpy as np
import numpy.typing as npt

__all__ = ["UNSPACED", "Hashes", "Offsets", "hash_words", "ngrams", "shingles", "whole_texts"]

Hashes = npt.NDArray[np.uint64]
Offsets = npt.NDArray[np.int64]

_Codes = npt.NDArray[np.uint8] | npt.NDArray[np.uint32]

_PIECE = 1 << 16  # characters hashed together: the arrays stay in a core's cache, and a long text needs no more memory
_APART, _WORD, _LONE = 0, 1, 2
_BASE = 0x9E3779B97F4A7C15
UNSPACED = (
    (0x0E00, 0x0F00), (0x1000, 0x10A0), (0x1780, 0x1800), (0x1950, 0x19E0), (0x1A20, 0x1AB0), (0x1B00, 0x1B80),
    (0x3040, 0x3130), (0x31A0, 0x31C0), (0x31F0, 0x3200), (0x3400, 0x4DC0), (0x4E00, 0xA4D0), (0xA980, 0xAA00),
    (0xAA60, 0xAAE0), (0xF900, 0xFB00), (0x1B000, 0x1B170), (0x20000, 0x40000),
)  # fmt: skip
"""Code points, first and stop, of scripts that put no space between words."""


def hash_words(texts: Sequence[str]) -> tuple[Hashes, Offsets]:
    """Hash every word of some texts.

    Returns:
        The words' hashes, text after text; and offsets (len(texts) + 1): text i has words offsets[i] to offsets[i + 1].
    """
    hashes: list[Hashes] = []
    counts = np.zeros(len(texts), np.int64)
    for pieces, owners in _batches(texts):
        found, per_piece = _hash_batch(pieces)
        hashes.append(found)
        np.add.at(counts, owners, per_piece)
    return _joined(hashes), _offsets(counts)


def ngrams(words: Hashes, offsets: Offsets, n: int) -> tuple[Hashes, Offsets]:
    """Hash every n-gram of consecutive words within a text; a text of fewer words has none.

    Args:
        words: As from `hash_words`.
        offsets: As from `hash_words`.
        n: Words of an n-gram, at least 1.

    Returns:
        The n-grams' hashes, text after text, and their offsets.
    """
    counts = np.maximum(np.diff(offsets) - n + 1, 0)
    size = max(len(words) - n + 1, 0)
    rolled = np.zeros(size, np.uint64)
    for at, power in enumerate(_powers(n)):
        rolled += words[at : at + size] * power
    text_of = np.repeat(np.arange(len(counts), dtype=np.int32), np.diff(offsets))
    within = text_of[:size] == text_of[n - 1 :][:size]
    return _mix(rolled[within]), _offsets(counts)


def shingles(words: Hashes, offsets: Offsets, n: int) -> tuple[Hashes, Offsets]:
    """Hash the shingles of texts: their n-grams, or all its words together where a text has fewer than n.

    Returns:
        The shingles' hashes, text after text, and their offsets. A text without words has none.
    """
    lengths = np.diff(offsets)
    short = np.flatnonzero((lengths > 0) & (lengths < n))
    grams, places = ngrams(words, offsets, n)
    if not len(short):
        return grams, places
    whole = np.array([_whole(words[offsets[i] : offsets[i + 1]]) for i in short], np.uint64)
    counts = np.diff(places)
    grams = np.insert(grams, places[short], whole)
    counts[short] = 1
    return grams, _offsets(counts)


def whole_texts(words: Hashes, offsets: Offsets) -> Hashes:
    """Hash all words of each text together: equal texts, white space and punctuation aside, have equal hashes."""
    return np.array([_whole(words[a:b]) for a, b in itertools.pairwise(offsets.tolist())], np.uint64)


def _whole(words: Hashes) -> np.uint64:
    return np.uint64(_mix((words * _powers(len(words))).sum(keepdims=True) + np.uint64(len(words)))[0])


def _batches(texts: Sequence[str]) -> Iterator[tuple[list[str], list[int]]]:
    """Group texts, long ones cut where there is a space, with the index of the text that each piece is of."""
    pieces: list[str] = []
    owners: list[int] = []
    size = 0
    for owner, text in enumerate(texts):
        for piece in _pieces(_plain(text)):
            if pieces and size + len(piece) > _PIECE:
                yield pieces, owners
                pieces, owners, size = [], [], 0
            pieces.append(piece)
            owners.append(owner)
            size += len(piece)
    if pieces:
        yield pieces, owners


def _plain(text: str) -> str:
    return text.lower() if text.isascii() else unicodedata.normalize("NFKC", text).lower()


def _pieces(text: str) -> Iterator[str]:
    start = 0
    while len(text) - start > _PIECE:
        cut = max(text.rfind(space, start + 1, start + _PIECE) for space in (" ", "\n"))
        stop = cut if cut > 0 else start + _PIECE
        yield text[start:stop]
        start = stop
    yield text[start:]


def _hash_batch(pieces: Sequence[str]) -> tuple[Hashes, Offsets]:
    """Return the hashes of all words, and how many words each piece has."""
    joined = "\n".join(pieces) + "\n"
    codes, kinds = _characters(joined)
    starts = kinds == _LONE
    starts[0] |= kinds[0] == _WORD
    starts[1:] |= (kinds[1:] == _WORD) & (kinds[:-1] != _WORD)
    ends = np.cumsum([len(piece) + 1 for piece in pieces])
    per_piece = np.diff(np.searchsorted(np.flatnonzero(starts), ends), prepend=0)
    inside = kinds != _APART
    return _hash_runs(codes[inside], np.flatnonzero(starts[inside])), per_piece


def _characters(text: str) -> tuple[_Codes, npt.NDArray[np.uint8]]:
    if text.isascii():
        narrow = np.frombuffer(text.encode("ascii"), np.uint8)
        return narrow, _ascii_kinds()[narrow]
    wide = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.dtype("<u4"))
    return wide, _kinds()[wide]


def _hash_runs(codes: _Codes, starts: npt.NDArray[np.intp]) -> Hashes:
    """Hash runs of characters, each from its start to the next: the sum of code * base**(place in the run), mixed."""
    if not len(starts):
        return np.zeros(0, np.uint64)
    lengths = np.diff(starts, append=len(codes))
    places = np.arange(len(codes)) - np.repeat(starts, lengths)
    powers = _powers(int(lengths.max()))
    summed = np.add.reduceat((codes + np.uint64(0x51ED)) * powers[places], starts)
    return _mix(summed + lengths.astype(np.uint64))


def _powers(n: int) -> Hashes:
    return _all_powers(1 << max(n - 1, 0).bit_length())[:n]


@cache
def _all_powers(n: int) -> Hashes:
    factors = np.full(n, _BASE, np.uint64)
    factors[0] = 1
    return np.cumprod(factors, dtype=np.uint64)


@cache
def _kinds() -> npt.NDArray[np.uint8]:
    """Return the kind of every code point: separator, part of a word, or a word of its own."""
    kinds = np.fromiter((unicodedata.category(chr(c))[0] in "LMN" for c in range(0x110000)), np.uint8, 0x110000)
    kinds[ord("_")] = _WORD
    for first, stop in UNSPACED:
        kinds[first:stop] *= _LONE
    return kinds


@cache
def _ascii_kinds() -> npt.NDArray[np.uint8]:
    return np.array([_WORD if chr(c).isalnum() or c == ord("_") else _APART for c in range(128)], np.uint8)


def _mix(words: Hashes) -> Hashes:
    words = (words ^ (words >> np.uint64(32))) * np.uint64(0xD6E8FEB86659FD93)
    words = (words ^ (words >> np.uint64(32))) * np.uint64(0xD6E8FEB86659FD93)
    return words ^ (words >> np.uint64(32))


def _joined(parts: Sequence[Hashes]) -> Hashes:
    return np.concatenate(parts) if parts else np.zeros(0, np.uint64)


def _offsets(counts: Offsets) -> Offsets:
    return np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
