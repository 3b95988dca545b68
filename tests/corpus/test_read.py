import random

import pytest

from mira.config.settings import CorpusSettings
from mira.corpus import Record, fetch, pick, read, sample_ids, shards
from mira.errors import InputError, RunError
from support.corpus_project import Project


@pytest.fixture
def corpus(project: Project) -> CorpusSettings:
    for name in ("b.jsonl", "a.jsonl.gz"):
        rows = [{"id": f"{name[0]}{i}", "text": f"{name} {i} " + "word " * (i % 9)} for i in range(60)]
        project.lines(name, *rows[:30], {"id": "bad"}, rows[3], *rows[30:])
    config = project.config(project.source(["b.jsonl", "a.jsonl.gz"]), shard_bytes=1024)
    project.index(config)
    return config.corpus


def _records(project: Project, corpus: CorpusSettings) -> list[Record]:
    return [record for shard in shards(corpus)["s"] for record in read(corpus, project.run, shard)]


def test_read_gives_valid_records_in_order_of_row(project: Project, corpus: CorpusSettings) -> None:
    first = shards(corpus)["s"][0]
    records = list(read(corpus, project.run, first))
    assert [r.row for r in records] == [*range(30), *range(32, 62)]
    assert [r.id for r in records] == [f"a{i}" for i in range(60)]
    assert [records[i].n_tokens - records[0].n_tokens for i in (1, 8, 9)] == [1, 8, 0]


def test_fetch_gives_records_by_id(project: Project, corpus: CorpusSettings) -> None:
    everything = {r.id: r for r in _records(project, corpus)}
    wanted = random.Random(0).sample(sorted(everything), 17)
    assert fetch(corpus, project.run, "s", [*wanted, wanted[0]]) == [everything[i] for i in sorted(wanted)]
    assert fetch(corpus, project.run, "s", []) == []
    assert list(pick(corpus, project.run, "s", wanted)) == [r for r in _records(project, corpus) if r.id in wanted]
    with pytest.raises(InputError, match="source 's': 2 ids are not valid records of it: bad, zzz"):
        fetch(corpus, project.run, "s", ["a1", "zzz", "bad"])
    assert [r.id for r in fetch(corpus, project.run, "s", ["a1", "zzz"], allow_missing=True)] == ["a1"]


def test_samples(project: Project, corpus: CorpusSettings) -> None:
    sample = sample_ids(project.run, "s", 20, 0, "label")
    assert len(set(sample)) == 20
    assert {i[0] for i in sample} == {"a", "b"}
    assert sample_ids(project.run, "s", 7, 0, "label") == sample[:7]
    assert sample_ids(project.run, "s", 20, 0, "group") != sample
    assert sample_ids(project.run, "s", 20, 1, "label") != sample
    assert sorted(sample_ids(project.run, "s", 1000, 0, "label")) == sorted(r.id for r in _records(project, corpus))


def test_a_sample_does_not_depend_on_files_and_slices(project: Project, corpus: CorpusSettings) -> None:
    sample = sample_ids(project.run, "s", 20, 0, "label")
    project.lines("0.jsonl", *({"id": f"new{i}", "text": "x"} for i in range(20)))
    config = project.config(project.source(["0.jsonl", "a.jsonl.gz", "b.jsonl"]))
    project.index(config)
    grown = sample_ids(project.run, "s", 20, 0, "label")
    old = [i for i in grown if not i.startswith("new")]
    assert old == sample[: len(old)]
    assert 0 < len(old) < 20


def test_a_file_that_changed_is_not_read(project: Project, corpus: CorpusSettings) -> None:
    project.lines("b.jsonl", {"id": "b1", "text": "new"})
    shard = shards(corpus)["s"][-1]
    with pytest.raises(RunError, match=r"is not indexed yet|has changed since it was indexed"):
        list(read(corpus, project.run, shard))
    project.lines("a.jsonl.gz", {"id": "a1", "text": "new"})
    with pytest.raises(RunError, match="has changed since it was indexed"):
        fetch(corpus, project.run, "s", ["a1"])


@pytest.mark.parametrize("rows", [3, 70])
def test_a_file_that_changes_between_listing_and_reading_is_told(project: Project, rows: int) -> None:
    project.lines("c.jsonl", *({"id": str(i), "text": "x"} for i in range(9)))
    config = project.config(project.source("c.jsonl"))
    project.index(config)
    (shard,) = shards(config.corpus)["s"]
    project.lines("c.jsonl", *({"id": str(i), "text": "x"} for i in range(rows)))
    with pytest.raises(RunError, match="has changed while mira was at work"):
        list(read(config.corpus, project.run, shard))


def test_a_run_folder_with_wildcards_in_its_name(project: Project) -> None:
    project.lines("in.jsonl", {"id": "1", "text": "x"})
    odd = Project(project.folder / "it's [odd]*")
    config = odd.config({"name": "s", "path": str(project.folder / "in.jsonl")})
    odd.index(config)
    assert sample_ids(odd.run, "s", 5, 0, "p") == ["1"]
    assert [r.id for r in fetch(config.corpus, odd.run, "s", ["1"])] == ["1"]
