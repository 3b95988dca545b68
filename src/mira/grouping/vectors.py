"""One vector per source: the mean embedding of a sample of its records, kept while the source stays as it is."""

import numpy as np
from numpy.typing import NDArray

from mira.config.settings import CorpusSettings, EmbeddingSettings
from mira.corpus import fetch, sample_ids, shards, source_key
from mira.embedding import load_embedder
from mira.progress import Log
from mira.run_folder.cache import Cache
from mira.run_folder.files import hash_json
from mira.run_folder.paths import RunFolder

__all__ = ["Vectors", "source_vectors", "unit"]

Vectors = NDArray[np.float32]
_VERSION = 1  # raised when the same records would give another vector


def source_vectors(
    corpus: CorpusSettings, embedding: EmbeddingSettings, sample: int, seed: int, run: RunFolder, log: Log
) -> dict[str, Vectors]:
    """Return source -> the mean embedding of its sample, float32.

    A source whose content, sample and embedder are those of an earlier call is neither read nor embedded again.

    Args:
        corpus: How the sources are read.
        embedding: How texts become vectors.
        sample: Records per source.
        seed: Of the sample.
        run: The run folder; the sources must be indexed.
        log: Where progress goes.

    Raises:
        MiraError: A source is not indexed, or the embedder cannot be used.
    """
    embedder, found = load_embedder(embedding), shards(corpus)
    vectors: dict[str, Vectors] = {}
    with (
        Cache(run.cache / "vectors") as cache,
        log.task("embedding a sample of each source", len(corpus.sources)) as task,
    ):
        for name in (source.name for source in corpus.sources):
            records = source_key(corpus, run, name, found[name])
            key = hash_json([_VERSION, embedder.identity, sample, seed, records])
            kept = cache.get(key)
            if kept is not None and len(kept) == 4 * embedder.dim:
                vectors[name] = np.frombuffer(kept, "<f4")
            else:
                ids = sample_ids(run, name, sample, seed, "group")
                texts = [record.text for record in fetch(corpus, run, name, ids)]
                vectors[name] = embedder.embed(texts).mean(axis=0)
                cache.put(key, vectors[name].astype("<f4").tobytes())
            task.advance()
    return vectors


def unit(vector: Vectors) -> Vectors:
    """Return the vector at length 1."""
    return np.asarray(vector / np.linalg.norm(vector))
