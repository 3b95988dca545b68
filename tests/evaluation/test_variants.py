"""Other yardsticks, and length taken out, beside the teacher's verdicts."""

import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mira.config.settings import SelectSettings
from mira.evaluation.yardsticks import compare_variants
from mira.family import FamilyName
from mira.grouping.groups import Group
from mira.run_folder.files import write_json, write_parquet
from mira.run_folder.paths import RunFolder
from mira.stats import spearman

GROUP = "text_group_A"
SOURCES = ("docs", "tests")
SLOTS = ("A1", "A2", "A3")
N = 150
SELECTED = {
    "scopes": {GROUP: {"tokens_kept": 65, "tokens_in": 100, "sources": list(SOURCES)}},
    "sources": {"docs": {"tokens_in": 1000}, "tests": {"tokens_in": 3000}},
}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Two equally good sources; A3 stands 4 above the other slots, and docs' mask removes it. Length has worth."""
    run, rng = RunFolder(tmp_path_factory.mktemp("variants")), np.random.default_rng(0)
    write_json(run.groups, {"groups": [{"name": GROUP, "sources": list(SOURCES)}]})
    cells = [(source, slot, (source, slot) == ("docs", "A3")) for source in SOURCES for slot in SLOTS]
    write_parquet(
        run.reliability, pa.table(dict(zip(("source", "slot", "masked"), zip(*cells, strict=True), strict=True)))
    )
    parts = []
    for source in SOURCES:
        tokens = rng.integers(20, 2000, N)
        good = rng.normal(size=N) + np.log2(tokens) - np.log2(tokens).mean()
        columns = {
            "id": [f"{source}{i}" for i in range(N)], "source": [source] * N, "n_tokens": tokens.astype(np.int32),
            **{s: (good + 5 + 4 * (s == "A3") + 0.3 * rng.normal(size=N)).astype(np.float32) for s in SLOTS},
            "replicate": np.zeros(N, np.int32), "split": ["train"] * N,
            "recommendation": [("drop", "downsample", "keep")[int(g > -0.5) + int(g > 0.5)] for g in good],
        }  # fmt: skip
        parts.append(pa.table(columns))
        write_parquet(run.scores(source) / "part.parquet", parts[-1])
    table = pa.concat_tables(parts)
    write_parquet(run.labels(GROUP), table)
    write_parquet(run.student(GROUP) / "out_of_fold.parquet", table.select(["id", "source", *SLOTS]))
    return SelectSettings(min_slots=1, trim=0), run, table


def measured(made, **select):
    settings, run, _ = made
    return compare_variants(settings.model_copy(update=select), run, [Group(GROUP, FamilyName.TEXT, SOURCES)], SELECTED)


def test_levels_that_a_mask_removes_cost_agreement_across_sources_and_none_within(made):
    found = measured(made)
    assert found.records == 2 * N and set(found.compare_by) == {"own", "shared", "centred"}
    own, shared, centred = (found.compare_by[name] for name in ("own", "shared", "centred"))
    for other in (shared, centred):
        assert other.across_gain.low > 0 and other.across.value > own.across.value + 0.02
        assert abs(other.within_gain.value) < 0.02
        assert other.precision_gain.low > 0
    assert own.across_gain.value == own.precision_gain.value == 0
    for figures in (own, shared, centred):
        for estimate in (figures.within, figures.across, figures.precision):
            assert estimate.low < estimate.value < estimate.high


def test_figures_are_those_of_the_labels(made):
    own = measured(made).compare_by["own"]
    table = made[2]
    scores = np.stack([table[slot].to_numpy() for slot in SLOTS], axis=1).astype(np.float64)
    docs = np.array(table["source"].to_pylist()) == "docs"
    quality = np.where(docs, scores[:, :2].mean(axis=1), scores.mean(axis=1))
    verdict = np.array([("drop", "downsample", "keep").index(v) for v in table["recommendation"].to_pylist()], float)
    assert own.across.value == pytest.approx(spearman(quality, verdict))
    within = np.mean([spearman(quality[rows], verdict[rows]) for rows in (docs, ~docs)])
    assert own.within.value == pytest.approx(within, abs=0.01)
    lengths = table["n_tokens"].to_numpy()
    tokens = lengths * np.where(docs, 1000 / lengths[docs].sum(), 3000 / lengths[~docs].sum())
    order = np.argsort(-quality)
    kept = order[np.cumsum(tokens[order]) <= 0.65 * tokens.sum()]
    assert own.precision.value == pytest.approx(tokens[kept][verdict[kept] == 2].sum() / tokens[kept].sum())


def test_length_that_is_worth_something_costs_agreement_if_it_is_taken_out(made):
    found = measured(made).length
    assert found["none"] == measured(made).compare_by["own"]
    assert found["residual"].within_gain.high < 0 and found["residual"].precision_gain.high < 0
    assert found["strata"].within.value is None and found["strata"].precision_gain.value < 0
    shared = measured(made, compare_by="shared")
    assert shared.length["none"].across.value == shared.compare_by["shared"].across.value


def test_without_predictions_there_is_nothing_to_compare(made, tmp_path):
    select, _, _ = made
    assert compare_variants(select, RunFolder(tmp_path), [Group(GROUP, FamilyName.TEXT, SOURCES)], SELECTED) is None


def test_only_held_out_records_count_where_the_student_cannot_be_refitted(made, tmp_path):
    select, run, table = made
    other = RunFolder(tmp_path / "run")
    shutil.copytree(run.path, other.path)
    (other.student(GROUP) / "out_of_fold.parquet").unlink()
    split = ["held_out" if i % 3 == 0 else "train" for i in range(len(table))]
    at = table.schema.get_field_index("split")
    pq.write_table(table.set_column(at, "split", pa.array(split)), other.labels(GROUP))
    write_parquet(other.student(GROUP) / "held_out.parquet", table.select(["id", "source", *SLOTS]))
    found = compare_variants(select, other, [Group(GROUP, FamilyName.TEXT, SOURCES)], SELECTED)
    assert found.records == 2 * N / 3
