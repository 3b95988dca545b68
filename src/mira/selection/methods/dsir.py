"""DSIR: importance weights of hashed n-grams (Xie et al. 2023, arXiv 2302.03169).

log w(x) = sum over x's n-grams of log(p_target + 1e-8) - log(p_raw + 1e-8), with p = (count + laplace) / total by
bucket. Buckets and log w are those of the authors' package (data-selection 1.0.3): over NLTK 3.10 and later with
`select.dsir.words: nltk-3.10`, over earlier ones with `nltk-3.9`. The default `unicode` differs from `nltk-3.10` in
scripts without spaces between words. Other differences, ours: the budget is in tokens, the noise is seeded by record
id, and the raw distribution of a corpus of more than `fit_ngrams` n-grams is fitted on a hash sample of its records
(theirs on the first ones of each worker's part).
"""

import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from mira.arrays import Floats
from mira.config.settings import CorpusSettings, DsirSettings
from mira.corpus import Record, Shard, read, records_key, shards, totals
from mira.corpus.index_reader import Block
from mira.hashing import hash_ids, uniform
from mira.run_folder.files import atomic, hash_json, read_json, write_json
from mira.run_folder.paths import RunFolder
from mira.selection.map_shards import map_shards
from mira.selection.methods.method import BaseMethod, Method, by_source, target_files, target_needs
from mira.selection.methods.ngrams import Featuriser, Rule
from mira.selection.methods.reference import reference_texts, top_judged
from mira.selection.ordering import gumbel
from mira.selection.values import Ranked, SelectionInputs

__all__ = ["METHOD", "Dsir", "fit_dsir", "log_ratio", "weigh"]

Counts = npt.NDArray[np.int64]

_FLOOR = 1e-8
_TEXTS = 1024


@dataclass(frozen=True, eq=False)
class Dsir(BaseMethod):
    """Ranks records by log importance weight.

    Attributes:
        log_diff: By bucket, log of target over raw probability; float64.
        fit: Identity of the texts that it was fitted to.
        settings: How words are split, and how log w becomes a value.
        seed: Of the noise.
        corpus: How the corpus is read.
    """

    log_diff: Floats
    fit: str
    settings: DsirSettings
    seed: int
    corpus: CorpusSettings
    name = "dsir"
    reads_text = True

    def identity(self, run: RunFolder, shard: Shard) -> str:
        """The fit, the settings, and the shard's content."""
        return hash_json([self.fit, self.settings.model_dump(mode="json"), shard.fingerprint])

    def rank(self, run: RunFolder, shard: Shard, blocks: Iterator[Block]) -> Iterator[Ranked]:
        """Value every record by log w, with noise where that is set; short records have none ("too_short")."""
        records = read(self.corpus, run, shard)
        for block in blocks:
            weighed = self._weigh_records(records, len(block))
            values = self._finish(shard.source, block.ids, *weighed)
            short = np.isnan(values)
            yield Ranked(values, pc.if_else(pa.array(short), "too_short", None) if short.any() else None)

    def values_of(self, source: str, ids: Sequence[str], texts: Sequence[str]) -> Floats:
        """Value texts as `rank` would value records of that source, ids and texts; NaN where they are too short."""
        return self._finish(source, pa.array(ids, pa.string()), *self._weigh(texts))

    def value_records(self, inputs: SelectionInputs, records: Sequence[Record], ids: Sequence[str]) -> Floats:
        """Value records as `values_of` does, under the ids of their originals."""
        return by_source(records, ids, self.values_of)

    def _weigh(self, texts: Sequence[str]) -> tuple[Floats, Counts]:
        return weigh(texts, self.log_diff, mean=self.settings.normalise == "mean", rule=self.settings.words)

    def _weigh_records(self, records: Iterator[Record], n: int) -> tuple[Floats, Counts]:
        parts = []
        while n > 0:
            parts.append(self._weigh([record.text for record in islice(records, min(n, _TEXTS))]))
            n -= min(n, _TEXTS)
        return np.concatenate([p[0] for p in parts]), np.concatenate([p[1] for p in parts])

    def _finish(self, source: str, ids: pa.Array, values: Floats, words: Counts) -> Floats:
        """Add the noise; short texts get NaN."""
        if self.settings.noise:
            values = values + gumbel(hash_ids(ids, self.seed, source, "dsir"))
        return np.where(words < self.settings.min_words, np.nan, values)


def weigh(
    texts: Sequence[str], log_diff: Floats, *, mean: bool = False, rule: Rule = "unicode"
) -> tuple[Floats, Counts]:
    """Weigh texts.

    Args:
        texts: The texts.
        log_diff: By bucket, log of target over raw probability.
        mean: Divide by the number of n-grams.
        rule: The rule that splits text into words.

    Returns:
        log w and the number of word tokens of each text.
    """
    sums, words = [np.zeros(0)], [np.zeros(0, np.int64)]
    for features in _featuriser(len(log_diff), rule)(texts):
        sums.append(features.sums(log_diff))
        words.append(features.lengths())
    total, n = np.concatenate(sums), np.concatenate(words)
    return (total / np.maximum(2 * n - 1, 1) if mean else total), n


def log_ratio(target: Counts, raw: Counts, laplace: float = 0.0) -> Floats:
    """Return log(p_target + 1e-8) - log(p_raw + 1e-8) by bucket, from counts."""
    p, q = (((c + laplace) / max((c + laplace).sum(), _FLOOR)) for c in (target, raw))
    return np.asarray(np.log(p + _FLOOR) - np.log(q + _FLOOR), dtype=np.float64)


def fit_dsir(inputs: SelectionInputs) -> Dsir:
    """Count target and corpus, unless that is done already.

    Raises:
        RunError: The corpus is not indexed, or there are no labels to take the top of.
        InputError: The target's path matches nothing.
    """
    run, corpus, settings, seed = inputs.run, inputs.corpus, inputs.select.dsir, inputs.seed
    target = settings.target
    chosen = top_judged(corpus, run, settings.target_share, seed) if target == "top_judged" else target
    target_identity, texts = reference_texts(corpus, run, chosen)
    of_source = shards(corpus)
    counted = settings.model_dump(mode="json", include={"buckets", "fit_ngrams", "words"})
    records = [records_key(run, s) for parts in of_source.values() for s in parts]
    identity = hash_json([target_identity, counted, records, seed])
    folder = run.path / "values" / "dsir"
    if not _is_fitted(folder, identity):
        counted_target = _count_texts(texts, settings.buckets, settings.words)
        _save(folder, identity, counted_target, _count_corpus(inputs, of_source))
    counts = np.load(folder / "counts.npy", allow_pickle=False)
    return Dsir(log_ratio(counts[0], counts[1], settings.laplace), identity, settings, seed, corpus)


def _is_fitted(folder: Path, identity: str) -> bool:
    fit = folder / "fit.json"
    return fit.is_file() and read_json(fit) == {"identity": identity} and (folder / "counts.npy").is_file()


def _save(folder: Path, identity: str, target: Counts, raw: Counts) -> None:
    (folder / "fit.json").unlink(missing_ok=True)
    with atomic(folder / "counts.npy") as temporary, temporary.open("wb") as file:
        np.save(file, np.stack([target, raw]))
    write_json(folder / "fit.json", {"identity": identity})


class _CountTask(NamedTuple):
    settings: DsirSettings
    seed: int
    corpus: CorpusSettings
    run: RunFolder
    shard: Shard
    share: float


def _count_corpus(inputs: SelectionInputs, of_source: Mapping[str, Sequence[Shard]]) -> Counts:
    settings = inputs.select.dsir
    by_source = totals(inputs.corpus, inputs.run)
    n_tokens = sum(source["tokens"] for source in by_source.values())
    share = min(1.0, settings.fit_ngrams / max(2 * n_tokens, 1))  # two n-grams a token
    tasks = [
        _CountTask(settings, inputs.seed, inputs.corpus, inputs.run, shard, share)
        for parts in of_source.values()
        for shard in parts
    ]
    counts = np.zeros(settings.buckets, np.int64)
    with inputs.log.task("select: fit dsir", len(tasks)) as task:
        for part in map_shards(
            inputs.score, _count_shard, tasks, rows=sum(source["valid"] for source in by_source.values())
        ):
            counts += part
            task.advance()
    return counts


def _count_shard(task: _CountTask) -> Counts:
    settings, seed, corpus, run, shard, share = task
    records = read(corpus, run, shard)
    counts = np.zeros(settings.buckets, np.int64)
    while batch := list(islice(records, _TEXTS)):
        if share < 1:
            chances = uniform(hash_ids(pa.array([r.id for r in batch]), seed, shard.source, "dsir fit"))
            batch = [record for record, chance in zip(batch, chances, strict=True) if chance < share]
        counts += _count_texts((record.text for record in batch), len(counts), settings.words)
    return counts


def _count_texts(texts: Iterator[str], n_buckets: int, rule: Rule) -> Counts:
    counts = np.zeros(n_buckets, np.int64)
    for features in _featuriser(n_buckets, rule)(texts):
        counts += features.counts(n_buckets)
    return counts


_own = threading.local()


def _featuriser(n_buckets: int, rule: Rule) -> Featuriser:
    """Return this thread's featuriser: its table of n-grams serves all the shards that the thread sees."""
    if getattr(_own, "made_for", None) != (n_buckets, rule):
        _own.made_for, _own.featuriser = (n_buckets, rule), Featuriser(n_buckets, rule)
    featuriser: Featuriser = _own.featuriser
    return featuriser


METHOD = Method(
    name="dsir",
    load=fit_dsir,
    needs=lambda select: target_needs(select.dsir.target),
    files=lambda select, corpus, _run: target_files(corpus, "select.dsir.target", select.dsir.target),
    alone=lambda _select: "dsir is fitted to the whole corpus",
)
