"""What the encoder student sees of a record, and how it is scaled.

Blocks: hashed character n-grams (TF-IDF), structural features, what a record's parts do to each other (families
of more than one part), the source, by choice of cross-validation the embedding of the text, and by setting more
statistics of it (`detail`).
"""

from collections.abc import Iterable, Iterator, Sequence
from copy import copy
from dataclasses import dataclass, replace
from itertools import islice, pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt

from mira.arrays import SparseRows
from mira.corpus.record import Record
from mira.distillation.encoder.detail import detail
from mira.distillation.encoder.ngrams import BUCKETS, hashed_ngrams
from mira.distillation.encoder.parts import part_features
from mira.distillation.encoder.structure import STRUCTURE, structure
from mira.embedding.embedder import Embedder

__all__ = ["CHUNK", "FeatureStore", "Features", "Scaling", "featurise"]

Array = npt.NDArray[np.float64]
CHUNK = 512
CLIP = 4.0
"""Standardised structural features are clipped to this many standard deviations (ours)."""


@dataclass(frozen=True, slots=True)
class Features:
    """Features of n records.

    Attributes:
        ngrams: (n, BUCKETS).
        structure: (n, len(STRUCTURE)).
        embedding: (n, dim); dim is 0 where embeddings are not used.
        sources: Each record's source.
        parts: (n, features of the family's parts); no columns for text.
        detail: (n, features of `detail`); no columns where they are not used.
    """

    ngrams: SparseRows
    structure: Array
    embedding: Array
    sources: tuple[str, ...]
    parts: Array
    detail: Array

    def __len__(self) -> int:
        return len(self.sources)

    def take(self, rows: npt.NDArray[np.int64]) -> "Features":
        """Return the features of `rows`."""
        return Features(
            self.ngrams[rows], self.structure[rows], self.embedding[rows], tuple(self.sources[i] for i in rows),
            self.parts[rows], self.detail[rows],
        )  # fmt: skip

    def without_embedding(self) -> "Features":
        """Return the same features with an embedding of no columns."""
        return replace(self, embedding=np.zeros((len(self), 0)))

    @classmethod
    def stack(cls, pieces: Sequence["Features"]) -> "Features":
        """Return the rows of all pieces, in order."""
        from scipy import sparse  # noqa: PLC0415 - slow to import

        return cls(
            sparse.vstack([p.ngrams for p in pieces], format="csr"),
            np.vstack([p.structure for p in pieces]),
            np.vstack([p.embedding for p in pieces]),
            tuple(source for p in pieces for source in p.sources),
            np.vstack([p.parts for p in pieces]),
            np.vstack([p.detail for p in pieces]),
        )


def featurise(records: Sequence[Record], embedder: Embedder | None, detailed: bool = False) -> Features:
    """Return unscaled features of the records.

    Without an embedder, the embedding has no columns; `detail` has none unless `detailed`.

    A record's features depend on the record only, to the last bit.
    """
    texts = [record.text for record in records]
    embedding = embedder.embed(texts).astype(np.float64) if embedder else np.zeros((len(texts), 0))
    return Features(
        hashed_ngrams(texts), structure(texts).astype(np.float64), embedding, tuple(r.source for r in records),
        part_features(records), detail(records) if detailed else np.zeros((len(texts), 0)),
    )  # fmt: skip


class FeatureStore:
    """Unscaled features of many records on disk, in chunks, so that memory does not grow with their number.

    Args:
        folder: An empty folder for the chunks.
        records: The records; row i of the store is record i.
        embedder: See `featurise`.
        chunk_rows: Records per chunk.
        detailed: See `featurise`.
    """

    def __init__(
        self,
        folder: Path,
        records: Iterable[Record],
        embedder: Embedder | None,
        chunk_rows: int = CHUNK,
        detailed: bool = False,
    ) -> None:
        self._files: list[Path] = []
        self._embedding = True
        self._starts = [0]
        stream = iter(records)
        while chunk := list(islice(stream, chunk_rows)):
            path = folder / f"{len(self._files)}.npz"
            _save(path, featurise(chunk, embedder, detailed))
            self._files.append(path)
            self._starts.append(self._starts[-1] + len(chunk))

    def __len__(self) -> int:
        return self._starts[-1]

    def chunks(self) -> Iterator[tuple[slice, Features]]:
        """Yield the rows of each chunk and their features, in order."""
        for path, start, stop in zip(self._files, self._starts, self._starts[1:], strict=False):
            features = _load(path)
            yield slice(start, stop), features if self._embedding else features.without_embedding()

    def without_embedding(self) -> "FeatureStore":
        """Return the same store with embeddings left out."""
        view = copy(self)
        view._embedding = False
        return view

    def take(self, rows: npt.NDArray[np.int64]) -> Features:
        """Return the features of `rows`, which must ascend."""
        pieces = []
        for span, features in self.chunks():
            inside = rows[(rows >= span.start) & (rows < span.stop)] - span.start
            if len(inside):
                pieces.append(features.take(inside))
        return Features.stack(pieces)


def _save(path: Path, features: Features) -> None:
    matrix = features.ngrams
    np.savez(
        path, data=matrix.data, indices=matrix.indices.astype(np.uint16), indptr=matrix.indptr,
        structure=features.structure, embedding=features.embedding, sources=np.array(features.sources),
        parts=features.parts, detail=features.detail,
    )  # fmt: skip


def _load(path: Path) -> Features:
    from scipy import sparse  # noqa: PLC0415 - slow to import

    with np.load(path, allow_pickle=False) as file:
        sources = tuple(str(s) for s in file["sources"])
        parts = (file["data"], file["indices"].astype(np.int32), file["indptr"])
        matrix = sparse.csr_matrix(parts, shape=(len(sources), BUCKETS))
        return Features(matrix, file["structure"], file["embedding"], sources, file["parts"], file["detail"])


@dataclass(frozen=True, slots=True)
class Scaling:
    """Statistics of the records that a student is fitted on; no label enters.

    Attributes:
        idf: Inverse document frequency of each bucket: ln((1 + n) / (1 + df)) + 1, (BUCKETS,).
        mean: Mean of the structural features.
        deviation: Their standard deviation, at least 1e-6.
        centre: Mean embedding.
        length: Root mean square distance of the embeddings from it, at least 1e-6.
        parts_mean: Mean of the parts' features.
        parts_deviation: Their standard deviation, at least 1e-6.
        detail_mean: Mean of the features of `detail`.
        detail_deviation: Their standard deviation, at least 1e-6.
    """

    idf: Array
    mean: Array
    deviation: Array
    centre: Array
    length: float
    parts_mean: Array
    parts_deviation: Array
    detail_mean: Array
    detail_deviation: Array

    @classmethod
    def fit(cls, store: FeatureStore, rows: npt.NDArray[np.bool_]) -> "Scaling":
        """Return the statistics of the rows where `rows` is true."""
        n = int(rows.sum())
        document_frequency, width, details = np.zeros(BUCKETS), 0, 0
        sums: list[Array] = []
        for span, features in store.chunks():
            keep = np.flatnonzero(rows[span])
            if len(keep):
                part = features.take(keep)
                document_frequency += np.bincount(part.ngrams.indices, minlength=BUCKETS)
                every = np.hstack([part.structure, part.embedding, part.parts, part.detail])
                sums.append(np.stack([every.sum(0), (every**2).sum(0)]))
                width, details = part.parts.shape[1], part.detail.shape[1]
        total = np.sum(sums, axis=0) / n
        mean, variance = total[0], np.maximum(total[1] - total[0] ** 2, 0)
        d, e, f = len(STRUCTURE), len(mean) - width - details, len(mean) - details
        return cls(
            idf=np.log((1 + n) / (1 + document_frequency)) + 1,
            mean=mean[:d],
            deviation=np.maximum(np.sqrt(variance[:d]), 1e-6),
            centre=mean[d:e],
            length=max(float(np.sqrt(variance[d:e].sum())), 1e-6),
            parts_mean=mean[e:f],
            parts_deviation=np.maximum(np.sqrt(variance[e:f]), 1e-6),
            detail_mean=mean[f:],
            detail_deviation=np.maximum(np.sqrt(variance[f:]), 1e-6),
        )

    def apply(self, features: Features) -> Features:
        """Return scaled features: n-gram rows of unit length; the squared length of a structure row is about 1."""
        matrix = features.ngrams.astype(np.float64)
        matrix.data *= self.idf[matrix.indices]
        for a, b in pairwise(matrix.indptr):
            matrix.data[a:b] /= max(float(np.sqrt(np.sum(matrix.data[a:b] ** 2))), 1e-12)
        standard = np.clip((features.structure - self.mean) / self.deviation, -CLIP, CLIP)
        parts = np.clip((features.parts - self.parts_mean) / self.parts_deviation, -CLIP, CLIP)
        detail = np.zeros((len(features), 0))
        if features.detail.shape[1]:
            detail = np.clip((features.detail - self.detail_mean) / self.detail_deviation, -CLIP, CLIP)
        return Features(
            matrix,
            standard / np.sqrt(len(STRUCTURE)),
            (features.embedding - self.centre) / self.length,
            features.sources,
            parts / np.sqrt(max(parts.shape[1], 1)),
            detail / np.sqrt(max(detail.shape[1], 1)),
        )
