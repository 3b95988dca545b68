"""Benchmarks: their texts' n-grams as sorted hashes, and how texts are looked up in them.

A licence notice, a URL or the usual instruction stands in many records of a benchmark and in many innocent texts. So an
n-gram that many texts of one benchmark share is not looked for (ours: more than `flags.common_texts` of its distinct
texts and more than 1% of them, or more than half of a small benchmark's, three at least).
"""

import glob
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from mira.config.settings import BenchmarkSettings, CorpusSettings, FlagSettings, SourceSettings
from mira.corpus import Shard, shards
from mira.corpus.families import look_up
from mira.corpus.files.lines import Damaged, open_file, read_lines
from mira.corpus.files.tables import batches, python_rows, schema
from mira.corpus.parse import BadLine, to_object
from mira.corpus.shards import format_of
from mira.errors import ConfigError, InputError
from mira.flags.words import Hashes, Offsets, hash_words, ngrams, whole_texts
from mira.run_folder.files import KEY, hash_json, read_key, write_parquet
from mira.run_folder.paths import RunFolder

__all__ = ["Benchmarks", "Found", "benchmark_files", "load_benchmarks", "make_benchmarks"]

VERSION = 2
_TEXT = (".txt", ".md", ".text")
_TEXTS = 1024
_LARGE = 1 << 22  # hashes gathered before repeated ones are thrown away


@dataclass(frozen=True, slots=True)
class Found:
    """What some texts share with benchmarks.

    Attributes:
        owners: One uint64 per text: bit i is set where benchmark i has one of its n-grams.
        overlap: One float32 a text: the share of its n-grams that any benchmark has; 0 where it has none.
    """

    owners: Hashes
    overlap: npt.NDArray[np.float32]


class Benchmarks:
    """N-grams of benchmarks, in 16 bytes each and a filter of at most 16 bytes more.

    Args:
        grams: Distinct hashes, ascending.
        owners: Of each, the benchmarks that have it, as bits.
        n: Words of an n-gram.
    """

    def __init__(self, grams: Hashes, owners: Hashes, n: int) -> None:
        self._grams, self._owners, self._n = grams, owners, n
        bits = min(max(len(grams).bit_length() + 3, 10), 30)
        self._shift = np.uint64(64 - bits)
        self._filter = np.zeros(1 << bits, np.bool_)  # spares most n-grams the search: it is far slower than a look
        self._filter[grams >> self._shift] = True

    def look_up(self, words: Hashes, offsets: Offsets) -> Found:
        """Look texts up, given the hashes of their words as from `hash_words`."""
        grams, places = ngrams(words, offsets, self._n)
        near = np.flatnonzero(self._filter[grams >> self._shift])
        at = np.minimum(np.searchsorted(self._grams, grams[near]), max(len(self._grams) - 1, 0))
        same = self._grams[at] == grams[near] if len(near) else np.zeros(0, np.bool_)
        hits, owners = near[same], self._owners[at[same]]
        text_of = np.searchsorted(places, hits, side="right") - 1
        found = np.zeros(len(places) - 1, np.uint64)
        np.bitwise_or.at(found, text_of, owners)
        shared = np.bincount(text_of, minlength=len(found))
        return Found(found, (shared / np.maximum(np.diff(places), 1)).astype(np.float32))


def make_benchmarks(
    settings: FlagSettings, corpus: CorpusSettings, run: RunFolder
) -> tuple[str, dict[str, dict[str, int]]]:
    """Write the benchmarks' n-grams to signatures/benchmarks.parquet, unless they are there.

    Returns:
        A key that changes with the n-grams, "" where there are no benchmarks; and of each benchmark its number of
        "texts", "ngrams" (distinct, that are looked for), "too_short" (texts of fewer words than an n-gram),
        "common" (n-grams that too many of its texts share) and "only_common" (distinct texts that have no others).
        Texts that are too short or only common are not looked for.

    Raises:
        ConfigError: Two benchmarks have one name.
        InputError: A file cannot be found or read, or holds no text in the fields that are named.
    """
    if not settings.benchmarks:
        return "", {}
    names = [b.name for b in settings.benchmarks]
    if len(set(names)) < len(names):
        raise ConfigError(f"flags.benchmarks: a name is used twice: {', '.join(sorted(names))}", "Rename one of them.")
    files = [benchmark_files(benchmark, corpus, run) for benchmark in settings.benchmarks]
    identities = [
        [b.name, b.fields, [f.fingerprint for f in found]] for b, found in zip(settings.benchmarks, files, strict=True)
    ]
    key = hash_json([VERSION, settings.ngram_words, settings.common_texts, *identities])
    path = _path(run)
    if read_key(path) == key:
        return key, orjson.loads(pq.read_metadata(path).metadata[b"mira.counts"])
    grams: list[Hashes] = []
    counts: dict[str, dict[str, int]] = {}
    for benchmark, found in zip(settings.benchmarks, files, strict=True):
        hashes, counts[benchmark.name] = _distinct(benchmark, found, settings, corpus.max_record_bytes)
        grams.append(hashes)
    merged, owners = _merge(grams)
    table = pa.table({"gram": merged, "owners": owners})
    write_parquet(path, table.replace_schema_metadata({KEY: key, b"mira.counts": orjson.dumps(counts)}))
    return key, counts


def _path(run: RunFolder) -> Path:
    return run.path / "signatures" / "benchmarks.parquet"  # workers on other machines read it, too


@lru_cache(maxsize=1)
def load_benchmarks(run: RunFolder, key: str, n: int) -> Benchmarks:
    """Return the n-grams that `make_benchmarks` wrote under `key`; read once a process."""
    table = pq.read_table(_path(run))
    return Benchmarks(table["gram"].to_numpy(), table["owners"].to_numpy(), n)


def _merge(grams: Sequence[Hashes]) -> tuple[Hashes, Hashes]:
    everything = np.concatenate(grams)
    bits = np.repeat(np.uint64(1) << np.arange(len(grams), dtype=np.uint64), [len(g) for g in grams])
    order = np.argsort(everything, kind="stable")
    merged, first = np.unique(everything[order], return_index=True)
    owners = np.bitwise_or.reduceat(bits[order], first) if len(first) else bits
    return merged, owners


def _distinct(
    benchmark: BenchmarkSettings, found: Sequence[Shard], settings: FlagSettings, longest: int
) -> tuple[Hashes, dict[str, int]]:
    """Return the n-grams that a benchmark is looked for by, and its counts."""

    def batches() -> Iterator[tuple[Hashes, Offsets]]:
        for batch in _batched(text for file in found for text in _texts(benchmark, file, longest)):
            yield hash_words(batch)

    every, seen = _Counted(), set[int]()
    texts = too_short = 0
    for words, offsets in batches():
        grams, places = ngrams(words, offsets, settings.ngram_words)
        texts, too_short = texts + len(places) - 1, too_short + int((np.diff(places) == 0).sum())
        every.add(_once_a_text(grams, places, _unseen(words, offsets, seen)))
    hashes, n = every.result()
    rare = n <= _most_texts(settings.common_texts, len(seen))
    only = 0 if rare.all() else _only_common(batches(), hashes[rare], settings.ngram_words)
    counts = {"texts": texts, "too_short": too_short, "ngrams": int(rare.sum())}
    return hashes[rare], {**counts, "common": int((~rare).sum()), "only_common": only}


def _most_texts(common: int, texts: int) -> int:
    """Return how many of a benchmark's distinct texts may share an n-gram that is looked for."""
    if not common:
        return texts
    return max(min(common, max(texts // 2, 2)), texts // 100)


def _unseen(words: Hashes, offsets: Offsets, seen: set[int]) -> npt.NDArray[np.bool_]:
    """Return a mask of texts seen for the first time: a benchmark may hold a text many times."""
    found = np.zeros(len(offsets) - 1, np.bool_)
    for at, text in enumerate(whole_texts(words, offsets).tolist()):
        if text not in seen:
            seen.add(text)
            found[at] = True
    return found


def _once_a_text(grams: Hashes, places: Offsets, wanted: npt.NDArray[np.bool_]) -> Hashes:
    """Return the n-grams of the wanted texts, each once a text."""
    text_of = np.repeat(np.arange(len(wanted)), np.diff(places))
    inside = wanted[text_of]
    grams, text_of = grams[inside], text_of[inside]
    order = np.lexsort((grams, text_of))
    grams, text_of = grams[order], text_of[order]
    first = np.ones(len(grams), np.bool_)
    first[1:] = (grams[1:] != grams[:-1]) | (text_of[1:] != text_of[:-1])
    return grams[first]


class _Counted:
    """Distinct hashes, and how often each was added; repeated ones are put together before they are many."""

    def __init__(self) -> None:
        self._hashes: list[Hashes] = []
        self._counts: list[Offsets] = []
        self._size = 0

    def add(self, hashes: Hashes) -> None:
        self._hashes.append(hashes)
        self._counts.append(np.ones(len(hashes), np.int64))
        self._size += len(hashes)
        if self._size > _LARGE:
            merged, counts = self.result()
            self._hashes, self._counts, self._size = [merged], [counts], 0

    def result(self) -> tuple[Hashes, Offsets]:
        """Return the hashes, ascending, and the count of each."""
        hashes = np.concatenate([np.zeros(0, np.uint64), *self._hashes])
        distinct, at = np.unique(hashes, return_inverse=True)
        counts = np.zeros(len(distinct), np.int64)
        np.add.at(counts, at, np.concatenate([np.zeros(0, np.int64), *self._counts]))
        return distinct, counts


def _only_common(batches: Iterator[tuple[Hashes, Offsets]], known: Hashes, n: int) -> int:
    """Count the distinct texts that have n-grams, but none of the known ones."""
    seen = set[int]()
    total = 0
    for words, offsets in batches:
        grams, places = ngrams(words, offsets, n)
        text_of = np.repeat(np.arange(len(places) - 1), np.diff(places))
        has = np.bincount(text_of[np.isin(grams, known)], minlength=len(places) - 1) > 0
        total += int((_unseen(words, offsets, seen) & ~has & (np.diff(places) > 0)).sum())
    return total


def _batched(texts: Iterator[str]) -> Iterator[list[str]]:
    batch: list[str] = []
    for text in texts:
        batch.append(text)
        if len(batch) == _TEXTS:
            yield batch
            batch = []
    if batch:
        yield batch


def benchmark_files(benchmark: BenchmarkSettings, corpus: CorpusSettings, run: RunFolder) -> list[Shard]:
    """Return a benchmark's files, each with the fingerprint of its content.

    Args:
        benchmark: One of `flags.benchmarks`.
        corpus: How files are read.
        run: The run folder; fingerprints are remembered in it.

    Raises:
        InputError: A path matches nothing, cannot be read or has an unknown format.
    """
    paths = [benchmark.path] if isinstance(benchmark.path, str) else benchmark.path
    plain = [p for p in paths if p.lower().endswith(_TEXT)]
    found = [file for path in plain for file in _plain_files(benchmark.name, path)]
    tables = [p for p in paths if p not in plain]
    if tables:
        # a benchmark's name may hold what a source's may not
        source = SourceSettings(name="benchmark", path=tables)
        alone = replace(corpus, sources=[source], run=run.signatures(".benchmarks"))
        try:
            found += shards(alone)["benchmark"]
        except InputError as error:
            raise InputError(f"flags.benchmarks: {benchmark.name}: {error.message}", error.hint) from None
    return found


def _plain_files(name: str, path: str) -> list[Shard]:
    there = [path] if "://" in path or Path(path).is_file() else sorted(glob.glob(path, recursive=True))  # noqa: PTH207
    if not there:
        raise InputError(f"flags.benchmarks: {name}: {path} matches no file", "Check the path.")
    return [Shard(name, p, p, hashlib.sha256(_read(name, p)).hexdigest()[:16], None, None) for p in there]


def _read(name: str, path: str) -> bytes:
    try:
        with open_file(path) as file:
            return file.read()
    except OSError as error:
        raise InputError(
            f"flags.benchmarks: {name}: {path}: {error.strerror or error}", "Check the path and the right to read it."
        ) from None


def _texts(benchmark: BenchmarkSettings, file: Shard, longest: int) -> Iterator[str]:
    """Yield a file's texts; a plain text file is one."""
    if file.path.lower().endswith(_TEXT):
        try:
            yield _read(benchmark.name, file.path).decode()
        except UnicodeDecodeError as error:
            raise InputError(f"{file.path}: not UTF-8 at byte {error.start}", "Save the file as UTF-8.") from None
        return
    keys: list[str] = []
    any_text = False
    for value in _objects(benchmark, file, longest):
        keys = keys or list(value)
        chosen = [look_up(value, field) for field in benchmark.fields] if benchmark.fields else [value]
        if text := "\n".join(s for part in chosen for s in _strings(part)):
            any_text = True
            yield text
    if not any_text and file.start in (None, 0):
        raise InputError(
            f"flags.benchmarks: {benchmark.name}: {file.path}: no text in {', '.join(benchmark.fields) or 'any field'}",
            f"Its fields are {', '.join(keys) or 'none'}: name those that hold text in `fields`.",
        )


def _objects(benchmark: BenchmarkSettings, file: Shard, longest: int) -> Iterator[Mapping[str, Any]]:
    where = file.path
    try:
        for row, raw in _raw(benchmark, file, longest):
            where = file.where(row)
            yield to_object(raw, longest)
    except BadLine as problem:
        raise InputError(f"{where}: {problem}", "Correct the benchmark's file.") from None
    except Damaged as damage:
        raise InputError(f"{file.path}: {damage.args[0]}", "The file is damaged: fetch it again.") from None


def _raw(benchmark: BenchmarkSettings, file: Shard, longest: int) -> Iterator[tuple[int, Any]]:
    fmt = format_of(file.path)
    if fmt.kind == "jsonl":
        yield from read_lines(file.path, fmt.compression, file.start, file.stop, longest)
        return
    columns = sorted(set(benchmark.fields)) or list(schema(file.path, fmt.kind).names)
    yield from enumerate(row for batch in batches(file.path, fmt.kind, columns) for row in python_rows(batch, longest))


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for inner in value.values():
            yield from _strings(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _strings(inner)
