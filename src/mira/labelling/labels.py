"""Stage `label`: teacher judgements of a sample on the fixed anchors, split into training and held-out records."""

from collections.abc import Collection, Iterator, Mapping
from hashlib import blake2b

import pyarrow as pa
import pyarrow.parquet as pq

from mira.config.settings import CorpusSettings, LabelSettings
from mira.corpus import Record, fetch, pick, sample_ids
from mira.errors import RunError
from mira.grouping.groups import Group
from mira.judging.judge import JudgeTask
from mira.run_folder.paths import RunFolder

__all__ = [
    "HELD_OUT",
    "TRAIN",
    "Sample",
    "drawn_sample",
    "judge_tasks",
    "labelled_records",
    "load_labels",
    "split_of",
]

TRAIN, HELD_OUT = "train", "held_out"


Sample = dict[str, dict[str, int]]  # source -> record id -> number of independent judgements


def load_labels(run: RunFolder, group: str, without: Collection[str] = ()) -> pa.Table:
    """Read a group's labels.

    Args:
        run: The run folder.
        group: The group.
        without: Columns to leave out: rationales are most of the bytes.

    Raises:
        RunError: The group has no labels yet.
    """
    path = run.labels(group)
    if not path.is_file():
        raise RunError(f"{path}: there are no labels yet", "Run: mira label CONFIG")
    return pq.read_table(path, columns=[name for name in pq.read_schema(path).names if name not in without])


def labelled_records(corpus: CorpusSettings, run: RunFolder, labels: pa.Table) -> Iterator[Record]:
    """Yield the records of a table of labels, by source; each once.

    Raises:
        MiraError: A record is not in the corpus any more.
    """
    sources, ids = labels["source"].to_pylist(), labels["id"].to_pylist()
    wanted: dict[str, set[str]] = {}
    for source, id in zip(sources, ids, strict=True):
        wanted.setdefault(source, set()).add(id)
    for source in sorted(wanted):
        yield from pick(corpus, run, source, wanted[source])


def split_of(seed: int, source: str, id: str, held_out: float) -> str:
    """Return "train" or "held_out" for a record, by a hash of (seed, source, id)."""
    digest = blake2b(f"split\0{seed}\0{source}\0{id}".encode(), digest_size=8).digest()
    return HELD_OUT if int.from_bytes(digest) / 2**64 < held_out else TRAIN


def drawn_sample(settings: LabelSettings, seed: int, run: RunFolder, group: Group) -> Sample:
    """Draw the records that a live teacher labels; a share of them is judged twice."""
    sample: Sample = {}
    for source in group.sources:
        ids = sample_ids(run, source, settings.sample, seed, "label")
        twice = round(len(ids) * settings.replicates)
        sample[source] = {id: 2 if i < twice else 1 for i, id in enumerate(ids)}
    return sample


def judge_tasks(
    corpus: CorpusSettings,
    run: RunFolder,
    sample: Mapping[str, Mapping[str, int]],
    n_tokens: dict[tuple[str, str], int],
) -> Iterator[JudgeTask]:
    """Yield one task per judgement of the sample; notes each record's tokens in `n_tokens`."""
    for source, counts in sample.items():
        for record in fetch(corpus, run, source, list(counts)):
            n_tokens[source, record.id] = record.n_tokens
            for replicate in range(counts[record.id]):
                yield JudgeTask(record, replicate)
