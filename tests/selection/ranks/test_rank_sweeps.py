"""Cutoffs from rank files are those from values, whatever the number of sweeps, and most rows are never read."""

from functools import partial
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest

from mira.config.settings import SelectSettings
from mira.config.tokens import Tokens
from mira.run_folder.paths import RunFolder
from mira.selection import cuts
from mira.selection.ordering import rank_keys, value_of_key, values_of_keys
from mira.selection.ranks import kept, rank_file, rank_sweeps
from mira.selection.ranks.rank_file import merged_heads, ranks_path, read_head, read_ranks
from mira.selection.ranks.rank_sweeps import RankSweeps
from mira.selection.retention import retain
from mira.selection.sweeps import Sweeps
from mira.selection.values import Summary, values_path, values_writer

SHARDS, ROWS = 3, 120


def map_plainly(function, items):
    return [function(item) for item in items]


@pytest.fixture(scope="module", params=["fine", "coarse", "one value", "wide"])
def world(request, tmp_path_factory):
    """Values and rank files of two sources, in small row groups and runs, and cutoffs that take many sweeps."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rank_file, "_GROUP", 16)
        patch.setattr(rank_file, "_RUN", 150)
        patch.setattr(rank_file, "SAMPLE", 20)
        patch.setattr(cuts, "_FETCH", 3)
        yield made(request.param, tmp_path_factory.mktemp("world"))


def made(kind, folder):
    rng = np.random.default_rng([0, *kind.encode()])
    run, summaries, paths, ranks, heads = RunFolder(folder), [], {}, {}, {}
    for source in ("ant", "bee"):
        paths[source], ranks[source], found = [], [], []
        for at in range(SHARDS):
            n = ROWS if at else 0  # one shard without records
            values = {
                "fine": rng.normal(6, 1, n), "coarse": rng.integers(1, 6, n) * 1.0, "one value": np.zeros(n),
                "wide": rng.normal(0, 1, n) * 10.0 ** rng.integers(-9, 9, n),
            }[kind]  # fmt: skip
            values[rng.random(n) < 0.1] = np.nan
            ties, tokens = rng.integers(0, 2**63, n).astype(np.uint64) * 2, rng.integers(1, 900, n).astype(np.int32)
            nothing = pa.nulls(n, pa.string()).dictionary_encode()
            path = values_path(run, "m", source, f"{at}")
            path.parent.mkdir(parents=True, exist_ok=True)
            with values_writer(path) as writer:
                columns = [pa.array(values, from_pandas=True), pa.array(ties), pa.array(tokens), nothing, nothing]
                writer.write_table(pa.table(columns, names=["value", "tie", "n_tokens", "reason", "stratum"]))
            has = ~np.isnan(values)
            summary = Summary(
                source, f"{at}", "x", n, 0, n, int(tokens.sum()), int(has.sum()), int(tokens[has].sum())
            )  # fmt: skip
            target = ranks_path(run, "m", source, f"{at}")
            target.parent.mkdir(parents=True, exist_ok=True)
            rank_file._write(target, path, summary)
            told = read_head(target)
            assert told is not None and told[0] == summary
            found.append(told[1])
            summaries.append(summary)
            paths[source].append(path)
            ranks[source].append(target)
        heads[source] = merged_heads(found)
    return SimpleNamespace(run=run, summaries=summaries, paths=paths, ranks=ranks, heads=heads)


CASES = [
    {"budget": "30%"},
    {"budget": "3%", "scope": "source"},
    {"budget": "100%"},
    {"budget": 1},
    {"budget": "50%", "source_min": {"ant": "70%"}, "source_max": {"bee": "40%"}},
    {"budget": "20%", "fit": "skip"},
    {"budget": 5000, "fit": "skip", "source_max": {"ant": 1200}, "source_min": {"bee": 3000}},
    {"budget": 700, "fit": "skip", "scope": "source"},
    {"budget": "30%", "to_median": True},
    {"budget": "30%", "temperature": 0.3},
    {"budget": "30%", "length": {"control": "strata", "strata": 4}},
    {"budget": "30%", "length": {"control": "residual"}},
]


@pytest.mark.parametrize("given", CASES, ids=str)
def test_cutoffs_are_those_of_values(world, given):
    given = dict(given)
    to_median = given.pop("to_median", False)
    settings = SelectSettings.model_validate({"scope": "global", **given})
    records = sum(summary.ranked_records for summary in world.summaries)
    find = partial(retain, settings, world.summaries, {}, to_median=to_median, map_shards=map_plainly)
    expected = find(paths=world.paths, sweeps=Sweeps(world.paths, records, map_plainly))
    found = find(paths=world.ranks, sweeps=RankSweeps(world.ranks, world.heads, map_plainly, records))
    assert found == expected
    shards = [SimpleNamespace(name=f"{at}") for at in range(SHARDS)]
    plan = SimpleNamespace(
        heads=world.heads,
        folder="m",
        shards=dict.fromkeys(world.heads, shards),
        rule=lambda source: SimpleNamespace(parts=tuple(found.of_source(source))),
    )
    quick = kept_tokens(SimpleNamespace(run=world.run, score=None), plan)
    for source, tokens in quick.items():
        (rule,) = found.of_source(source)
        rows = [row for path in world.ranks[source] for row in read_ranks(path)]
        whole = sum(int(r.n_tokens[rule.keeps(rank_keys(r.values), r.ties, r.n_tokens)].sum()) for r in rows)
        assert tokens == whole
    plain = not to_median and not {"fit", "temperature", "length"} & given.keys()
    assert (set(quick) == {"ant", "bee"}) == plain


def kept_tokens(inputs, plan):
    original = kept.map_shards
    kept.map_shards = lambda _settings, function, items: map_plainly(function, items)
    try:
        return kept.kept_below(inputs, plan)
    finally:
        kept.map_shards = original


def test_of_a_narrow_interval_few_rows_are_read(world, monkeypatch):
    read = []

    def counted(path, ranges):
        for part in rank_file.read_rows(path, ranges):
            read.append(len(part[0]))
            yield part

    monkeypatch.setattr(rank_sweeps, "read_rows", counted)
    settings = SelectSettings(scope="global", budget=Tokens.parse("30%"))
    records = sum(summary.ranked_records for summary in world.summaries)
    retain(
        settings, world.summaries, {}, world.ranks, map_plainly,
        sweeps=RankSweeps(world.ranks, world.heads, map_plainly, records),
    )  # fmt: skip
    values = {float(v) for paths in world.ranks.values() for path in paths for r in read_ranks(path) for v in r.values}
    if len(values) > 1000:
        assert 0 < sum(read) < records


def test_the_sample_has_the_records_of_the_smallest_tie_hashes(world):
    for source, head in world.heads.items():
        rows = [row for path in world.ranks[source] for row in read_ranks(path)]
        every = sorted((int(t), int(n)) for row in rows for t, n in zip(row.ties, row.n_tokens, strict=True))
        told = sorted(zip(head.sample.ties.tolist(), head.sample.tokens.tolist(), strict=True))
        assert told == [entry for entry in every if entry[0] <= head.sampled]
        assert len(told) >= 20


def test_keys_give_their_values_back():
    values = np.array([0.0, -0.0, 1.5, -1.5, 5e-324, -1e308, 1e308])
    assert values_of_keys(rank_keys(values)).tolist() == values.tolist()
    assert [value_of_key(int(key)) for key in rank_keys(values)] == values.tolist()
