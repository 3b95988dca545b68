"""Gold sets of the small-LM proxy, and what must stay out of every arm because of them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mira.arrays import Words
from mira.config.settings import CorpusSettings, ProxySettings
from mira.corpus import fetch
from mira.errors import ConfigError, RunError
from mira.grouping.groups import Group, load_groups
from mira.hashing import hash_ids, hash_spans
from mira.rubric.judgement import Recommendation
from mira.run_folder.paths import RunFolder
from mira.selection.methods.reference import reference_texts

__all__ = ["GoldSet", "Overlap", "gold_sets"]

_WINDOW = 64
_TABLE_BITS = 22

_Text = tuple[bytes, tuple[str, str] | None]  # with the record's key, if the corpus has it


@dataclass(frozen=True)
class GoldSet:
    """Texts that no arm is trained on, and on which every model is measured.

    Attributes:
        name: "<group>/keep", "<group>/drop", or the name of a source in `evaluate.proxy.gold`.
        kind: "keep": held-out records that the teacher would keep; "drop": that it would drop, the control; "given".
        texts: UTF-8, each cut to the size's `record_bytes`.
        whole: The same texts uncut.
        ids: (source, id) of the records; empty where the texts are not the corpus's own.
    """

    name: str
    kind: str
    texts: tuple[bytes, ...]
    whole: tuple[bytes, ...]
    ids: tuple[tuple[str, str], ...] = ()

    @property
    def bytes(self) -> int:
        """Bytes that are measured."""
        return sum(map(len, self.texts))


def gold_sets(
    settings: ProxySettings,
    corpus: CorpusSettings,
    run: RunFolder,
    *,
    gold_bytes: int,
    record_bytes: int,
    seed: int,
) -> list[GoldSet]:
    """Collect the gold sets: two per group out of the held-out labels, and those of `evaluate.proxy.gold`.

    A "keep" set holds held-out records with the teacher's verdict keep, the highest overall score first; where a group
    has no such record, the best quarter by overall score. A "drop" set holds those with the verdict drop, the lowest
    score first. Ties go by a hash of the id.

    Args:
        settings: Further gold sets.
        corpus: How the corpus is read.
        run: A run folder with labels, or settings with gold files.
        gold_bytes: No record is added to a set once it has that many bytes.
        record_bytes: Of each record, only the first bytes are measured.
        seed: Of the hash.

    Returns:
        Sets that are not empty; groups in the order of groups.json, then the given ones.

    Raises:
        ConfigError: Two given sets have one name, or the name of a macro mean ("keep", "drop").
        RunError: There is no gold set at all.
        InputError: A given source's path matches nothing.
    """
    names = [source.name for source in settings.gold]
    if len({*names, "keep", "drop"}) < len(names) + 2:
        raise ConfigError(
            f"evaluate.proxy.gold: the names {', '.join(names)} are not distinct",
            "Give every gold set a name of its own, other than keep and drop.",
        )
    sets = [
        _filled(name, kind, texts, gold_bytes, record_bytes)
        for group in _groups(run)
        for name, kind, texts in _judged(corpus, run, group, seed)
    ]
    for source in settings.gold:
        texts = (text.encode("utf-8", "surrogatepass") for text in reference_texts(corpus, run, source)[1])
        sets.append(_filled(source.name, "given", [(text, None) for text in texts], gold_bytes, record_bytes))
    found = [s for s in sets if s.bytes]
    if not any(s.kind != "drop" for s in found):
        raise RunError(
            f"{run.path}: there are no held-out labels with an overall score, and no gold files",
            "Run `mira label` first, or name gold files under evaluate.proxy.gold.",
        )
    return found


def _groups(run: RunFolder) -> list[Group]:
    return list(load_groups(run)) if run.groups.is_file() else []


def _judged(corpus: CorpusSettings, run: RunFolder, group: Group, seed: int) -> Iterator[tuple[str, str, list[_Text]]]:
    """Yield name, kind and texts of a group's sets."""
    if not run.labels(group.name).is_file():
        return
    table = pq.read_table(
        run.labels(group.name), columns=["id", "source", "replicate", "overall", "recommendation", "split"]
    )
    wanted = pc.and_(pc.equal(table["split"], "held_out"), pc.equal(table["replicate"], 0))
    wanted = pc.and_(wanted, pc.is_in(table["source"], value_set=pa.array(group.sources, pa.string())))
    rows = table.filter(pc.and_(wanted, pc.is_valid(table["overall"]))).to_pylist()
    for row in rows:
        row["tie"] = int(hash_ids(pa.array([row["id"]]), seed, row["source"], "proxy gold")[0])
    rows.sort(key=lambda row: (-row["overall"], row["tie"]))
    keep = [r for r in rows if r["recommendation"] == Recommendation.KEEP] or rows[: -(-len(rows) // 4)]
    drop = [r for r in reversed(rows) if r["recommendation"] == Recommendation.DROP]
    for kind, chosen in (("keep", keep), ("drop", drop)):
        yield f"{group.name}/{kind}", kind, _texts(corpus, run, [(r["source"], r["id"]) for r in chosen])


def _texts(corpus: CorpusSettings, run: RunFolder, keys: Sequence[tuple[str, str]]) -> list[_Text]:
    """Return the texts of records, in this order; those that have left the corpus are left out."""
    found = {}
    for source in sorted({source for source, _ in keys}):
        ids = [i for s, i in keys if s == source]
        for record in fetch(corpus, run, source, ids, allow_missing=True):
            found[source, record.id] = record.text.encode("utf-8", "surrogatepass")
    return [(found[key], key) for key in keys if key in found]


def _filled(name: str, kind: str, texts: Sequence[_Text], most: int, record_bytes: int) -> GoldSet:
    chosen: list[_Text] = []
    filled = 0
    for text, key in texts:
        if filled >= most:
            break
        if text:
            chosen.append((text, key))
            filled += min(len(text), record_bytes)
    return GoldSet(
        name,
        kind,
        tuple(text[:record_bytes] for text, _ in chosen),
        tuple(text for text, _ in chosen),
        tuple(key for _, key in chosen if key is not None),
    )


class Overlap:
    """Tells which texts share too much with gold: copies, near-copies, and texts that hold or are held by one.

    Texts are compared by their windows of 64 bytes, white space made one blank each; a shorter text by the whole of it.
    Rule and threshold are ours.

    Args:
        texts: The gold texts, uncut.
        share: Least share of a text's windows that lie in gold, or of one gold text's windows that lie in the text,
            for it to count as overlapping; in (0, 1].
    """

    def __init__(self, texts: Sequence[bytes], share: float) -> None:
        self._share = share
        per_text = [np.unique(_hashes(text)) for text in texts]
        self._sizes = np.array([len(hashes) for hashes in per_text], np.int64)
        hashes = np.concatenate([np.zeros(0, np.uint64), *per_text])
        owners = np.repeat(np.arange(len(texts)), self._sizes)
        order = np.argsort(hashes, kind="stable")
        self._hashes, self._owners = hashes[order], owners[order]
        self._table = np.zeros(1 << _TABLE_BITS, bool)
        self._table[_slot(self._hashes)] = True

    def __call__(self, text: bytes) -> bool:
        """Tell whether a text overlaps with gold."""
        own = _hashes(text)
        hits = own[self._table[_slot(own)]]
        if not len(hits):
            return False
        first, after = (np.searchsorted(self._hashes, hits, side) for side in ("left", "right"))
        inside = after > first
        if inside.sum() >= self._share * len(own):
            return True
        found = np.isin(self._hashes, hits[inside])
        covered = np.bincount(self._owners[found], minlength=len(self._sizes))
        return bool((covered[covered > 0] >= self._share * self._sizes[covered > 0]).any())


def _hashes(text: bytes) -> Words:
    """Hash every window of a text."""
    plain = b" ".join(text.split())
    width = min(_WINDOW, len(plain))
    if not width:
        return np.zeros(0, np.uint64)
    starts = np.arange(len(plain) - width + 1)
    return hash_spans(np.frombuffer(plain, np.uint8), starts, starts + width)


def _slot(hashes: Words) -> npt.NDArray[np.int64]:
    return (hashes >> np.uint64(64 - _TABLE_BITS)).astype(np.int64)
