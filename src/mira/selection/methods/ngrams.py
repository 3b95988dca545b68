"""Hashed n-gram buckets of texts, a batch at a time: the features of DSIR (arXiv 2302.03169).

Tokens are those of the lower-cased text: runs of word characters, or runs of characters that are neither word nor
space. What a word character is depends on the rule:

- `nltk-3.10`: letters, marks, decimal digits, letter numbers, connectors and joiners, and circled letters: as NLTK 3.10
  and later, whose word characters are those of the package `regex`. A vowel sign of Hindi does not end a word.
- `nltk-3.9`: letters, digits of any kind and the underscore: as NLTK before 3.10, whose word characters are Python's.
- `unicode` (ours): as `nltk-3.10`, but where a script puts no space between words (Chinese, Japanese, Thai, ...), every
  letter with its marks is a token: else a whole clause would be one, and no two texts would share any.

Features are unigrams and bigrams ("w1 w2"); an n-gram's bucket is sha256 of its UTF-8 bytes, as a number, modulo
the number of buckets.

A batch is tokenised as one array of UTF-8 bytes. Every token gets a 64-bit hash (a polynomial over its bytes), a bigram
the mix of two; a direct-mapped table from hash to bucket answers most of them, so that only n-grams which are not in
the table are cut out and go through sha256: once each, and on new text that is where most of the time goes.
"""

import hashlib
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from mira.arrays import Words
from mira.flags.words import UNSPACED
from mira.hashing import hash_spans, mix

__all__ = ["Features", "Featuriser", "Rule", "plain_buckets"]

Buckets = npt.NDArray[np.int64]
Positions = npt.NDArray[np.int64]
Bytes = npt.NDArray[np.uint8]

Rule = Literal["unicode", "nltk-3.10", "nltk-3.9"]

_BATCH = 1 << 16  # characters: small enough for the arrays to stay in a core's cache
_UNIGRAM_BITS, _BIGRAM_BITS = 18, 21  # of slots: 4 MB and 32 MB
_SPACE, _WORD, _OTHER, _LONE, _MARK = 0, 1, 2, 3, 4
_JOINERS = (0x200C, 0x200D)
_CIRCLED = ((0x24B6, 0x24EA), (0x1F130, 0x1F14A), (0x1F150, 0x1F16A), (0x1F170, 0x1F18A))
_FIRST = np.uint64(0x9E3779B97F4A7C15)  # sets the first token of a bigram apart from the second


class Features(NamedTuple):
    """The n-grams of a batch of texts.

    Attributes:
        unigrams: Bucket of every token, text after text.
        text_of_unigram: Index of the token's text.
        bigrams: Bucket of every bigram.
        text_of_bigram: Index of the bigram's text.
        n_texts: Number of texts.
    """

    unigrams: Buckets
    text_of_unigram: Positions
    bigrams: Buckets
    text_of_bigram: Positions
    n_texts: int

    def lengths(self) -> Positions:
        """Return each text's number of tokens."""
        return np.bincount(self.text_of_unigram, minlength=self.n_texts)

    def counts(self, n_buckets: int) -> Positions:
        """Return how many n-grams of the whole batch fall into each bucket."""
        return np.bincount(self.unigrams, minlength=n_buckets) + np.bincount(self.bigrams, minlength=n_buckets)

    def sums(self, weights: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Return each text's sum of the weights of its n-grams' buckets.

        Added up in the order of the text, so that it does not depend on the batch.
        """
        ones = np.bincount(self.text_of_unigram, weights[self.unigrams], self.n_texts)
        twos = np.bincount(self.text_of_bigram, weights[self.bigrams], self.n_texts)
        return np.asarray(ones + twos, dtype=np.float64)


class Featuriser:
    """Cuts texts into n-grams and finds their buckets.

    Args:
        n_buckets: Number of buckets.
        rule: The rule that splits text into words.
    """

    def __init__(self, n_buckets: int = 10_000, rule: Rule = "unicode") -> None:
        self.n_buckets, self.rule = n_buckets, rule
        self._unigrams = _Table(n_buckets, _UNIGRAM_BITS)
        self._bigrams = _Table(n_buckets, _BIGRAM_BITS)

    def __call__(self, texts: Iterable[str]) -> Iterator[Features]:
        """Yield the features of `texts` in batches, in order."""
        batch: list[str] = []
        size = 0
        for text in texts:
            if batch and size + len(text) > _BATCH:
                yield self._batch(batch)
                batch, size = [], 0
            batch.append(text.lower())
            size += len(text) + 1
        if batch:
            yield self._batch(batch)

    def _batch(self, texts: Sequence[str]) -> Features:
        encoded = [text.encode("utf-8", "surrogatepass") for text in texts]
        if len(encoded[0]) > 64 * _BATCH:  # a text that large is alone in its batch; the arrays would be too large
            return self._long(texts[0])
        tokens = _tokenise(b"\n".join(encoded), self.rule)
        ends_of_texts = np.cumsum([len(data) + 1 for data in encoded])
        text_of = np.searchsorted(ends_of_texts, tokens.starts, side="right")
        unigrams = self._unigrams.look_up(tokens.hashes, tokens.unigram_digests)
        pairs = np.flatnonzero(text_of[1:] == text_of[:-1])
        hashes = mix(tokens.hashes[pairs] * _FIRST ^ tokens.hashes[pairs + 1])
        bigrams = self._bigrams.look_up(hashes, lambda at: tokens.bigram_digests(pairs[at]))
        return Features(unigrams, text_of, bigrams, text_of[pairs], len(texts))

    def _long(self, text: str) -> Features:
        unigrams, bigrams = plain_buckets(text, self.n_buckets, self.rule)
        zeros = np.zeros(len(unigrams), np.int64)
        return Features(unigrams, zeros, bigrams, zeros[: len(bigrams)], 1)


def plain_buckets(text: str, n_buckets: int, rule: Rule = "unicode") -> tuple[Buckets, Buckets]:
    """Find the buckets of one text's unigrams and bigrams the plain way: slower, in little memory."""

    @cache
    def bucket(gram: str) -> int:
        return int.from_bytes(hashlib.sha256(gram.encode("utf-8", "surrogatepass")).digest(), "big") % n_buckets

    unigrams, bigrams, before = [], [], ""
    for match in _pattern(rule).finditer(text.lower()):
        unigrams.append(bucket(match[0]))
        if before:
            bigrams.append(bucket(f"{before} {match[0]}"))
        before = match[0]
    return np.array(unigrams, np.int64), np.array(bigrams, np.int64)


class _Tokens(NamedTuple):
    """Tokens of a batch: their hashes, and where in its UTF-8 bytes they start and end."""

    hashes: Words
    data: bytes
    starts: Positions
    ends: Positions

    def unigram_digests(self, at: Positions) -> bytes:
        data, sha256 = self.data, hashlib.sha256
        bounds = zip(self.starts[at].tolist(), self.ends[at].tolist(), strict=True)
        return b"".join([sha256(data[a:b]).digest() for a, b in bounds])

    def bigram_digests(self, at: Positions) -> bytes:
        data, sha256 = self.data, hashlib.sha256
        after, before = self.ends[at], self.starts[at + 1]
        spaced = (before - after == 1) & (np.frombuffer(data, np.uint8)[after] == ord(" "))
        whole = np.where(spaced, self.ends[at + 1], -1)
        bounds = (x.tolist() for x in (self.starts[at], after, before, self.ends[at + 1], whole))
        return b"".join(
            [
                sha256(data[a:e] if e > 0 else data[a:b] + b" " + data[c:d]).digest()
                for a, b, c, d, e in zip(*bounds, strict=True)
            ]
        )


def _tokenise(data: bytes, rule: Rule) -> _Tokens:
    kinds = _kinds_of(data, rule)
    changes = kinds[1:] != kinds[:-1]
    if rule == "unicode" and not data.isascii():
        codes = np.frombuffer(data, np.uint8)
        in_word = (kinds[1:] == _MARK) & (kinds[:-1] != _SPACE)
        changes = (changes & ~in_word) | ((kinds[1:] == _LONE) & ((codes[1:] & 0xC0) != 0x80))
    bounds = np.concatenate([[0], np.flatnonzero(changes) + 1, [len(data)]])
    inside = np.flatnonzero(kinds[bounds[:-1]] != _SPACE) if data else np.zeros(0, np.int64)
    starts, ends = bounds[inside], bounds[inside + 1]
    return _Tokens(hash_spans(np.frombuffer(data, np.uint8), starts, ends), data, starts, ends)


def _kinds_of(data: bytes, rule: Rule) -> Bytes:
    """Return the kind of character that each byte of a text belongs to."""
    kinds = np.frombuffer(data.translate(_ascii_kinds(rule)), np.uint8)
    if data.isascii():
        return kinds
    codes = np.frombuffer(data.decode("utf-8", "surrogatepass").encode("utf-32-le", "surrogatepass"), np.uint32)
    foreign = codes[codes > 0x7F]
    widths = 2 + (foreign > 0x7FF).astype(np.int64) + (foreign > 0xFFFF)
    kinds = kinds.copy()
    kinds[np.frombuffer(data, np.uint8) > 0x7F] = np.repeat(_kinds(rule)[foreign], widths)
    return kinds


@cache
def _kinds(rule: Rule) -> Bytes:
    """Return the kind of every code point: space, part of a word, a word of its own, its mark, or other."""
    kinds = np.full(0x110000, _OTHER, np.uint8)
    everything = "".join(map(chr, range(0x110000)))
    for pattern, kind in ((r"\s+", _SPACE), (r"\w+", _WORD)):
        for match in re.finditer(pattern, everything):
            kinds[match.start() : match.end()] = kind
    if rule == "nltk-3.9":
        return kinds
    categories = [unicodedata.category(char) for char in everything]
    words = np.array([c[0] in "LM" or c in ("Nd", "Nl", "Pc") for c in categories])
    words[list(_JOINERS)] = True
    for first, stop in _CIRCLED:
        words[first:stop] = True
    kinds = np.where(words, _WORD, np.where(kinds == _SPACE, _SPACE, _OTHER)).astype(np.uint8)
    kinds[0x1C:0x20] = _OTHER  # space to Python, not to Unicode
    if rule == "unicode":
        marks = np.array([c[0] == "M" for c in categories])
        for first, stop in UNSPACED:
            kinds[first:stop] = np.where(kinds[first:stop] == _WORD, _LONE, kinds[first:stop])
        kinds[marks & (kinds == _LONE)] = _MARK
    return kinds


@cache
def _ascii_kinds(rule: Rule) -> bytes:
    return _kinds(rule)[:128].tobytes().ljust(256, b"\0")


@cache
def _pattern(rule: Rule) -> re.Pattern[str]:
    """Return what matches a token, from the same table as the arrays."""

    def group(kind: int) -> str:
        bounds = np.flatnonzero(np.diff(np.concatenate([[0], _kinds(rule) == kind, [0]]).astype(np.int8)))
        pairs = zip(bounds[::2].tolist(), (bounds[1::2] - 1).tolist(), strict=True)
        return "".join(f"\\U{first:08x}-\\U{last:08x}" for first, last in pairs)

    runs = [f"[{group(kind)}]+" for kind in (_WORD, _OTHER)]
    if rule != "unicode":
        return re.compile("|".join(runs))
    marks = f"[{group(_MARK)}]"
    return re.compile("|".join([f"[{group(_LONE)}]{marks}*", *(f"{run}{marks}*" for run in runs), f"{marks}+"]))


class _Table:
    """A direct-mapped table from an n-gram's hash to its bucket; a newcomer takes the place of what was there."""

    def __init__(self, n_buckets: int, bits: int) -> None:
        self._n_buckets, self._bits = n_buckets, bits
        # hash and bucket side by side: one miss of the cache for both
        self._entries = np.zeros((1 << bits, 2), np.uint64)

    def look_up(self, hashes: Words, digests: Callable[[Positions], bytes]) -> Buckets:
        """Return the bucket of every hash; `digests` gives the joined sha256 of the n-grams at some positions."""
        slots = (hashes >> np.uint64(64 - self._bits)).view(np.int64)
        entries = self._entries.take(slots, axis=0)
        found: Buckets = entries[:, 1].astype(np.int64)
        missing = np.flatnonzero(entries[:, 0] != hashes)
        if len(missing):
            first = missing[self._one_each(slots[missing])]
            self._entries[slots[first], 1] = self._modulo(digests(first))
            self._entries[slots[first], 0] = hashes[first]
            entries = self._entries.take(slots[missing], axis=0)
            found[missing] = entries[:, 1]
            crowded = missing[entries[:, 0] != hashes[missing]]
            found[crowded] = self._modulo(digests(crowded))
        return found

    def _one_each(self, slots: Positions) -> Positions:
        """Return one position of every slot that occurs. These slots are forgotten."""
        turns = np.arange(len(slots), dtype=np.uint64)
        self._entries[slots, 0] = turns
        return np.flatnonzero(self._entries[slots, 0] == turns)

    def _modulo(self, digests: bytes) -> Buckets:
        """Return int(digest) % n_buckets of each 32-byte digest."""
        weights = np.array([pow(1 << 32, 7 - at, self._n_buckets) for at in range(8)])
        return np.asarray(np.frombuffer(digests, ">u4").reshape(-1, 8) @ weights % self._n_buckets)
