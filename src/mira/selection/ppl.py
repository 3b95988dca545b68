"""Perplexity filter: bits per byte under a language model, and a slice of it (Marion et al. 2023, arXiv 2309.04564).

Offline, the model is a byte n-gram model trained here on a reference sample: the packaged KenLM (kenlm-ex) answers
queries but cannot train. A KenLM model made elsewhere is used as it is: a text is one sentence, its words split at
white space. Which slice and model the paper used is unpublished; the defaults are ours.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from mira.config import Config
from mira.corpus import Shard, read
from mira.errors import ConfigError, InputError
from mira.files import hash_file, hash_json, read_json, write_json
from mira.progress import Log
from mira.run import RunFolder
from mira.selection.blocks import Block
from mira.selection.byte_model import ByteModel
from mira.selection.keys import Floats
from mira.selection.reference import corpus_sample, reference_texts, top_judged
from mira.selection.values import Ranked

__all__ = ["Ppl", "bits_per_byte", "fit_ppl"]

_TEXTS = 256


@dataclass(frozen=True)
class Ppl:
    """Ranks records by bits per byte.

    The value is minus the bits per byte (slice `low`), or the bits per byte (`high`, and `middle`, where retention
    ranks by the distance to the pool's median).

    Attributes:
        model: Path of the model: .npz of `ByteModel`, or KenLM's.
        fit: Identity of the model.
        slice: low, middle or high.
    """

    model: Path
    fit: str
    slice: str
    name: str = "ppl"
    has_quality: bool = True
    reads_text: bool = True

    @property
    def to_median(self) -> bool:
        """Whether what is nearest to the pool's median is best."""
        return self.slice == "middle"

    def identity(self, config: Config, run: RunFolder, shard: Shard) -> str:
        """The model, the slice's direction, and the shard's content."""
        return hash_json([self.fit, self.slice == "low", shard.fingerprint])

    def rank(self, config: Config, run: RunFolder, shard: Shard, blocks: Iterator[Block]) -> Iterator[Ranked]:
        """Value every record by its bits per byte."""
        measure = _load(self.model)
        records = read(config, run, shard)
        sign = -1.0 if self.slice == "low" else 1.0
        for block in blocks:
            parts, n = [], len(block)
            while n > 0:
                parts.append(measure([record.text for record in islice(records, min(n, _TEXTS))]))
                n -= _TEXTS
            yield Ranked(sign * np.concatenate(parts))


def bits_per_byte(model: Path, texts: Sequence[str]) -> Floats:
    """Return each text's bits per byte under a model file.

    Raises:
        ConfigError: The model is KenLM's and kenlm is not installed.
        InputError: The model cannot be read.
    """
    return _load(model)(texts)


def fit_ppl(config: Config, run: RunFolder, log: Log) -> Ppl:
    """Train the n-gram model, unless that is done already or a model is given.

    Raises:
        ConfigError: kenlm is needed and not installed.
        InputError: The given model cannot be read, or the reference's path matches nothing.
        RunError: The corpus is not indexed, or there are no labels to take the top of.
    """
    settings = config.select.ppl
    if settings.model != "ngram":
        path = Path(settings.model).expanduser()
        if not path.is_file():
            raise InputError(f"select.ppl.model: {path} is not a file", "Give a KenLM model, or `ngram`.")
        _load(path)
        return Ppl(path, hash_file(path), settings.slice)
    chosen = (
        corpus_sample(config, run, settings.sample, "ppl") if settings.reference == "sample"
        else top_judged(config, run, settings.target_share) if settings.reference == "top_judged"
        else settings.reference
    )  # fmt: skip
    identity, texts = reference_texts(config, run, chosen)
    identity = hash_json([identity, settings.order])
    path, told = run.path / "values" / "ppl" / "model.npz", run.path / "values" / "ppl" / "fit.json"
    if not (path.is_file() and told.is_file() and read_json(told) == {"identity": identity}):
        log.note("select: training the n-gram model")
        told.unlink(missing_ok=True)
        ByteModel.train(texts, settings.order).save(path)
        write_json(told, {"identity": identity})
    return Ppl(path, identity, settings.slice)


def _load(model: Path) -> Callable[[Sequence[str]], Floats]:
    stat = model.stat()
    return _load_once(model, stat.st_size, stat.st_mtime_ns)


@lru_cache(maxsize=1)
def _load_once(model: Path, _size: int, _changed: int) -> Callable[[Sequence[str]], Floats]:
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
        raise ConfigError(
            f"select.ppl.model: {model} needs KenLM", "Install it with: pip install 'mira-select[ppl]'"
        ) from None
    try:
        trained: Any = kenlm.Model(str(model))
    except OSError as error:
        raise InputError(f"{model}: not a KenLM model: {error}", "Give an ARPA file or a binary of KenLM.") from None

    def measure(texts: Sequence[str]) -> Floats:
        bits = [-float(trained.score(" ".join(text.split()))) * np.log2(10) for text in texts]
        return np.array([b / max(len(t.encode("utf-8", "surrogatepass")), 1) for b, t in zip(bits, texts, strict=True)])

    return measure
