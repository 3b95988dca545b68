"""Perplexity filter: bits per byte under a language model, and a slice of it (Marion et al. 2023, arXiv 2309.04564).

Offline, the model is a byte n-gram model trained here on a reference sample: the packaged KenLM (kenlm-ex) answers
queries but cannot train. A KenLM model made elsewhere is used as it is: a text is one sentence, its words split at
white space. The folder of a causal LM is used by transformers (see `ppl_local`); a served one is asked by
`ppl_endpoint`. Which slice and model the paper used is unpublished; the defaults are ours.

A record that a model was trained on has few bits under it, whatever its quality. So where the reference is part of the
corpus there are two models, each trained on one half of the reference, and a record is measured by the model of the
half (by hash of the id) that it is not in.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import compress, islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from mira.arrays import Floats
from mira.config.settings import CorpusSettings, SourceSettings
from mira.corpus import Shard, read
from mira.corpus.index_reader import Block
from mira.corpus.record import Record
from mira.errors import ConfigError, InputError, install_hint
from mira.hashing import hash_ids, uniform
from mira.run_folder.files import hash_json, hash_path, read_json, write_json
from mira.run_folder.paths import RunFolder
from mira.selection.methods.byte_model import ByteModel
from mira.selection.methods.method import BaseMethod, by_source
from mira.selection.methods.ppl_local import causal_lm
from mira.selection.methods.reference import Ids, corpus_sample, reference_texts, top_judged
from mira.selection.values import TOO_SHORT, Ranked, SelectionInputs

__all__ = ["Ppl", "bits_per_byte", "fit_ppl"]

_TEXTS = 256


@dataclass(frozen=True)
class Ppl(BaseMethod):
    """Ranks records by bits per byte.

    The value is minus the bits per byte (slice `low`), or the bits per byte (`high`, and `middle`, where retention
    ranks by the distance to the pool's median).

    Attributes:
        models: Path of the model (.npz of `ByteModel`, KenLM's, or a causal LM's folder), or paths of two, for the two
            halves of the records.
        fit: Identity of the model.
        slice: low, middle or high.
        seed: Of the halves.
        corpus: How the corpus is read.
    """

    models: tuple[Path, ...]
    fit: str
    slice: str
    seed: int
    corpus: CorpusSettings
    name = "ppl"
    reads_text = True

    @property
    def to_median(self) -> bool:
        """Whether the records nearest to the pool's median are best."""
        return self.slice == "middle"

    def identity(self, run: RunFolder, shard: Shard) -> str:
        """The model, the slice's direction, and the shard's content."""
        return hash_json([self.fit, self.slice == "low", shard.fingerprint])

    def rank(self, run: RunFolder, shard: Shard, blocks: Iterator[Block]) -> Iterator[Ranked]:
        """Value every record by its bits per byte."""
        records = read(self.corpus, run, shard)
        for block in blocks:
            values = np.zeros(len(block))
            for start in range(0, len(block), _TEXTS):
                texts = [record.text for record in islice(records, min(_TEXTS, len(block) - start))]
                ids = block.ids.slice(start, len(texts))
                values[start : start + len(texts)] = self._values(shard.source, ids, texts)
            short = np.isnan(values)
            yield Ranked(values, pc.if_else(pa.array(short), TOO_SHORT, None) if short.any() else None)

    def values_of(self, source: str, ids: Sequence[str], texts: Sequence[str]) -> Floats:
        """Value texts as `rank` would value records of that source, ids and texts; NaN if one cannot be measured.

        The id decides which of two models measures a text: give a changed copy the id of its original, whose model
        has not been trained on it.
        """
        return self._values(source, pa.array(ids, pa.string()), texts)

    def value_records(self, inputs: SelectionInputs, records: Sequence[Record], ids: Sequence[str]) -> Floats:
        """Value records as `values_of` does, under the ids of their originals."""
        return by_source(records, ids, self.values_of)

    def _values(self, source: str, ids: pa.Array, texts: Sequence[str]) -> Floats:
        halves = _halves(ids, self.seed, source) % len(self.models)
        bits = np.zeros(len(texts))
        for half, model in enumerate(self.models):
            own = halves == half
            bits[own] = _load(model)(list(compress(texts, own)))
        return -bits if self.slice == "low" else bits


def bits_per_byte(model: Path, texts: Sequence[str]) -> Floats:
    """Return each text's bits per byte under a model's file or folder; NaN if no token can be measured.

    Raises:
        ConfigError: The model is KenLM's or a causal LM, and what it needs is not installed.
        InputError: The model cannot be read.
    """
    return _load(model)(texts)


def fit_ppl(inputs: SelectionInputs) -> Ppl:
    """Train the n-gram model, unless that is done already or a model is given.

    Raises:
        ConfigError: kenlm, or torch and transformers, are needed and not installed.
        InputError: The given model cannot be read, or the reference's path matches nothing.
        RunError: The corpus is not indexed, or there are no labels to take the top of.
    """
    run, corpus, settings, seed = inputs.run, inputs.corpus, inputs.select.ppl, inputs.seed
    if settings.model != "ngram":
        path = Path(settings.model).expanduser()
        if not path.exists():
            raise InputError(
                f"select.ppl.model: {path} is not there", "Give a KenLM model, the folder of a causal LM, or `ngram`."
            )
        _load(path)
        return Ppl((path,), hash_path(path), settings.keep, seed, corpus)
    chosen = (
        corpus_sample(corpus, run, settings.sample, seed, "ppl") if settings.reference == "sample"
        else top_judged(corpus, run, settings.target_share, seed) if settings.reference == "top_judged"
        else settings.reference
    )  # fmt: skip
    if isinstance(chosen, SourceSettings):
        references: list[SourceSettings | Ids] = [chosen]
    else:
        references = [_half_of(seed, chosen, 1 - half) for half in (0, 1)]
    models = [_train(inputs, reference, at) for at, reference in enumerate(references)]
    fit = hash_json([identity for _, identity in models])
    return Ppl(tuple(path for path, _ in models), fit, settings.keep, seed, corpus)


def _train(inputs: SelectionInputs, reference: SourceSettings | Ids, at: int) -> tuple[Path, str]:
    """Train one model if that is not done yet; return its path and identity."""
    run, order = inputs.run, inputs.select.ppl.order
    identity, texts = reference_texts(inputs.corpus, run, reference)
    identity = hash_json([identity, order])
    fits = "fits" if inputs.far else "values"  # at a URL, other machines do not see values/
    path = run.path / fits / "ppl" / f"model_{at}.npz"
    record = path.with_suffix(".json")
    if not (path.is_file() and record.is_file() and read_json(record) == {"identity": identity}):
        inputs.log.note(f"select: training n-gram model {at + 1}")
        record.unlink(missing_ok=True)
        ByteModel.train(texts, order).save(path)
        write_json(record, {"identity": identity})
    return path, identity


def _half_of(seed: int, ids: Ids, half: int) -> Ids:
    parts = {source: _halves(pa.array(own, pa.string()), seed, source) for source, own in ids.items()}
    return {s: [id_ for id_, part in zip(own, parts[s], strict=True) if part == half] for s, own in ids.items()}


def _halves(ids: pa.Array, seed: int, source: str) -> npt.NDArray[np.int64]:
    return (uniform(hash_ids(ids, seed, source, "ppl")) >= 0.5).astype(np.int64)


def _load(model: Path) -> Callable[[Sequence[str]], Floats]:
    stat = model.stat()
    return _load_once(model, stat.st_size, stat.st_mtime_ns)


@lru_cache(maxsize=2)
def _load_once(model: Path, _size: int, _changed: int) -> Callable[[Sequence[str]], Floats]:
    if model.is_dir():
        return causal_lm(model)
    return _byte_model(model) if model.suffix == ".npz" else _kenlm(model)


def _byte_model(model: Path) -> Callable[[Sequence[str]], Floats]:
    trained = ByteModel.load(model)

    def measure(texts: Sequence[str]) -> Floats:
        bits, n_bytes = trained.text_bits(texts)
        return np.asarray(bits / np.maximum(n_bytes, 1), dtype=np.float64)

    return measure


def _kenlm(model: Path) -> Callable[[Sequence[str]], Floats]:
    try:
        import kenlm  # noqa: PLC0415 - optional
    except ImportError:
        raise ConfigError(f"select.ppl.model: {model} needs KenLM", f"Install it with: {install_hint('ppl')}") from None
    try:
        trained: Any = kenlm.Model(str(model))
    except OSError as error:
        raise InputError(f"{model}: not a KenLM model: {error}", "Give an ARPA file or a binary of KenLM.") from None

    def measure(texts: Sequence[str]) -> Floats:
        bits = [-float(trained.score(" ".join(text.split()))) * np.log2(10) for text in texts]
        return np.array([b / max(len(t.encode("utf-8", "surrogatepass")), 1) for b, t in zip(bits, texts, strict=True)])

    return measure
