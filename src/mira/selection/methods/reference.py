"""Texts that a baseline is fitted to: a source of its own, the top of the teacher's labels, or a corpus sample."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mira.config.settings import CorpusSettings, SourceSettings
from mira.corpus import Record, fetch, records_key, sample_ids, shards
from mira.corpus.parse import Parser
from mira.errors import RunError
from mira.hashing import hash_ids
from mira.run_folder.files import hash_json
from mira.run_folder.paths import RunFolder

__all__ = ["Ids", "corpus_sample", "reference_texts", "top_judged"]

Ids = dict[str, list[str]]
"""Source -> ids."""


def reference_texts(corpus: CorpusSettings, run: RunFolder, source: SourceSettings | Ids) -> tuple[str, Iterator[str]]:
    """Return the identity of reference texts, and the texts.

    Args:
        corpus: How the corpus is read.
        run: The run folder.
        source: A source that is not part of the corpus, or source -> ids of the corpus.

    Raises:
        ConfigError: The source maps a field that its family does not have.
        InputError: The source's path matches nothing.
        RunError: The corpus is not indexed.
    """
    if isinstance(source, SourceSettings):
        alone = replace(corpus, sources=[source], run=run.path / "values" / "reference")
        parts = shards(alone)[source.name]
        identity = hash_json([source.model_dump(mode="json"), [s.fingerprint for s in parts]])
        parser = Parser(source, corpus.max_record_bytes)
        return identity, (r.text for s in parts for r in parser.parse(s) if isinstance(r, Record))
    parts_of = shards(corpus)
    identity = hash_json(
        [source, {s: [records_key(run, part) for part in parts_of.get(s, ())] for s in sorted(source)}]
    )
    return identity, (r.text for name in sorted(source) for r in fetch(corpus, run, name, source[name]))


def corpus_sample(corpus: CorpusSettings, run: RunFolder, n: int, seed: int, purpose: str) -> Ids:
    """Return `n` ids a source, chosen by hash."""
    return {s.name: sorted(sample_ids(run, s.name, n, seed, purpose)) for s in corpus.sources}


def top_judged(corpus: CorpusSettings, run: RunFolder, share: float, seed: int) -> Ids:
    """Return the `share` of labelled records with the best overall score of the teacher, ties by hash.

    Raises:
        RunError: There are no labels with an overall score.
    """
    rows: list[tuple[float, int, str, str]] = []
    for path in sorted((run.path / "labels").glob("*.parquet")):
        table = pq.read_table(path, columns=["id", "source", "replicate", "overall"])
        table = table.filter(pc.and_(pc.equal(table["replicate"], 0), pc.is_valid(table["overall"])))
        rows += [(-row["overall"], _hash(seed, row), row["source"], row["id"]) for row in table.to_pylist()]
    known = {s.name for s in corpus.sources}
    rows = sorted(row for row in rows if row[2] in known)
    if not rows:
        raise RunError(
            f"{run.path / 'labels'} holds no overall score to take the top of",
            "Run `mira label` first, or give a source of your own.",
        )
    chosen: Ids = {}
    for _, _, source, id_ in rows[: max(1, int(share * len(rows)))]:
        chosen.setdefault(source, []).append(id_)
    return {source: sorted(ids) for source, ids in sorted(chosen.items())}


def _hash(seed: int, row: dict[str, Any]) -> int:
    return int(hash_ids(pa.array([row["id"]]), seed, row["source"], "top_judged")[0])
