from contextlib import contextmanager

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mira.config.settings import CascadeSettings, Config, DistillSettings, SelectSettings
from mira.corpus import build_index, shards
from mira.errors import RunError
from mira.progress import Quiet
from mira.rescoring.cascade import cascade
from mira.rescoring.report import SHARES, report_cascade
from mira.rubric.judgement import judgements_table
from mira.rubric.rubric import Anchor, Reference, Rubric
from mira.run_folder.files import read_json, write_json, write_parquet
from mira.run_folder.paths import RunFolder
from mira.selection.stage import select, selection_inputs
from rescoring.test_cascade import GROUP, SLOTS, Expensive, N, guess_of, judgement, sidecar, truth_of


@pytest.fixture
def made(tmp_path):
    """A run of 400 records in two shards that a cheap student scored, with a real selection of half the tokens."""

    def make(**settings):
        texts = [f"record {i} " + "word " * (i % 7) for i in range(N)]
        lines = [orjson.dumps({"id": f"id{i:03}", "text": text}) + b"\n" for i, text in enumerate(texts)]
        (tmp_path / "docs.jsonl").write_bytes(b"".join(lines))
        config = Config(
            run=tmp_path / "run", sources=[{"name": "docs", "path": str(tmp_path / "docs.jsonl")}],
            shard_bytes=len(b"".join(lines)) // 2 + 1, distill=DistillSettings(cascade=CascadeSettings(**settings)),
            select=SelectSettings(trim=0, min_slots=1, write_selected=False),
        )  # fmt: skip
        run = RunFolder(config.run)
        build_index(config, run, Quiet())
        group = {"name": GROUP, "family": "text", "group": "A", "sources": ["docs"], "cosines": []}
        write_json(run.groups, {"groups": [group]})
        anchors = tuple(Anchor(s, s, 1, Reference("r", 5.0, "why")) for s in SLOTS)
        Rubric(GROUP, anchors).save(run.rubric(GROUP))
        for shard in shards(config.corpus)["docs"]:
            index = pq.read_table(run.index("docs") / f"{shard.name}.parquet")
            numbers = [int(id[2:]) for id in index["id"].to_pylist()]
            scores = sidecar([judgement(i, guess_of(i)) for i in numbers], index["row"])
            scores = scores.set_column(scores.schema.get_field_index("n_tokens"), "n_tokens", index["n_tokens"])
            write_parquet(run.scores("docs") / f"{shard.name}.parquet", scores)
        labelled = list(range(0, N, 2))
        truth = judgements_table([judgement(i, truth_of(i)) for i in labelled], 3)
        tokens = pa.array([5 + i % 7 for i in labelled], pa.int32())
        write_parquet(run.labels(GROUP), truth.append_column("n_tokens", tokens))
        guess = judgements_table([judgement(i, guess_of(i)) for i in labelled], 3).select(["id", "source", *SLOTS])
        write_parquet(run.student(GROUP) / "out_of_fold.parquet", guess)
        write_parquet(run.reliability, pa.table({"source": ["docs"] * 3, "slot": SLOTS, "masked": [False] * 3}))
        select(config, run, Quiet())
        return config, run

    return make


def judged(config, run, judge):
    @contextmanager
    def open_judge(_group):
        yield judge

    cascade(selection_inputs(config, run, Quiet()), config.distill.cascade, open_judge)


def kept(run):
    tables = [pq.read_table(p) for p in sorted(run.selection("docs").glob("*.parquet"))]
    return {row["id"] for t in tables for row in t.to_pylist() if row["kept"]}


def test_before_anything_is_spent_there_is_a_simulation(made):
    config, run = made()
    result = report_cascade(config, run, Quiet())
    assert result == read_json(run.cascade_report) and result["selection"] is None
    told = result["simulated"][GROUP]
    assert told["records"] == N / 2 and told["budget"] == pytest.approx(0.5, abs=0.01)
    assert "200 labelled records" in told["note"]
    points = told["points"]
    assert [p["share"] for p in points] == list(SHARES)
    assert points[0]["same"] < points[3]["same"] <= points[-1]["same"] == 1
    assert points[3]["same"] > points[3]["same_random"]
    assert all(p["calls"] + p["saved"] == N / 2 for p in points)


def test_the_selection_moves_as_far_as_the_expensive_student_says(made):
    config, run = made(errors=1000.0)
    before = kept(run)
    judged(config, run, Expensive())
    change = report_cascade(config, run, Quiet())["selection"]
    view = RunFolder(run.path / change["folder"])
    assert change["records"] == N
    assert kept(run) == before, "the run's own selection stays"
    after = kept(view)
    threshold = min(truth_of(int(i[2:])) for i in after)
    assert all(truth_of(i) <= threshold for i in range(N) if f"id{i:03}" not in after)
    assert (change["gained"], change["lost"]) == (len(after - before), len(before - after))
    assert change["gained"] > 5
    tokens = dict(
        pair
        for p in run.selection("docs").glob("*.parquet")
        for pair in zip(*pq.read_table(p, columns=["id", "n_tokens"]).to_pydict().values(), strict=True)
    )
    expected = sum(tokens[i] for i in after & before) / sum(tokens[i] for i in after | before)
    assert change["same"] == pytest.approx(expected) and change["sources"]["docs"]["same"] == change["same"]
    first = run.cascade_report.read_bytes()
    report_cascade(config, run, Quiet())
    assert run.cascade_report.read_bytes() == first


def test_few_calls_near_the_threshold_bring_most_of_the_change(made):
    config, run = made(errors=1.0, audit=0.0)
    ideal_config, ideal_run = config, run
    judged(config, run, Expensive())
    near = report_cascade(config, run, Quiet())["selection"]
    some = kept(RunFolder(run.path / "cascaded"))
    everything = config.model_copy(
        update={"distill": config.distill.model_copy(update={"cascade": CascadeSettings(errors=1000.0)})}
    )
    judged(everything, ideal_run, Expensive())
    report_cascade(ideal_config, ideal_run, Quiet())
    ideal = kept(RunFolder(run.path / "cascaded"))
    assert near["records"] < 0.3 * N
    gap = len(kept(run) ^ ideal)
    assert gap > 10 and len(some ^ ideal) < 0.6 * gap


def test_without_answers_nothing_changes(made):
    config, run = made(errors=1.0, audit=0.1)
    judged(config, run, Expensive(unscored={f"id{i:03}" for i in range(N)}))
    change = report_cascade(config, run, Quiet())["selection"]
    assert change["same"] == 1 and change["gained"] == change["lost"] == 0
    assert change["records"] == 0


def test_stages_that_did_not_run_are_told(made):
    config, run = made()
    run.labels(GROUP).unlink()
    with pytest.raises(RunError, match="no group has labels"):
        report_cascade(config, run, Quiet())


def test_sources_weigh_as_in_the_corpus():
    from mira.rescoring.report import _as_in_corpus

    table = pa.table({"source": ["a", "a", "b"], "n_tokens": pa.array([10, 30, 5], pa.int32())})
    assert _as_in_corpus(table, {"a": 4000, "b": 100}).tolist() == [1000, 3000, 100]
    assert np.issubdtype(_as_in_corpus(table, {"a": 1, "b": 1}).dtype, np.integer)
