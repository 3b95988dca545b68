from contextlib import contextmanager

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from mira.config.settings import CascadeSettings, Config, DistillSettings, SelectSettings
from mira.corpus import build_index, shards
from mira.errors import InputError, RunError
from mira.progress import Quiet
from mira.rescoring.cascade import audited, cascade, labelled_quality, merge, quality_errors
from mira.rescoring.simulation import simulate
from mira.rubric.judgement import Judgement, judgements_table
from mira.run_folder.files import read_json, write_json, write_parquet
from mira.run_folder.paths import RunFolder
from mira.selection.stage import selection_inputs
from mira.selection.yardstick.yardsticks import Yardstick
from mira.unscored import Unscored

N = 400
SLOTS = ["A1", "A2", "A3"]
GROUP = "text_group_A"


def truth_of(i):
    return (i * 37 % N) / N * 10


def guess_of(i):
    return float(np.clip(truth_of(i) + ((i * 7919) % 101 / 50 - 1), 0, 10))


def sidecar(judgements, rows):
    table = judgements_table(judgements, len(SLOTS)).drop_columns(["rationales", "domain_tag", "brief"])
    return table.append_column("row", pa.array(rows, pa.int64())).append_column(
        "n_tokens", pa.array([5] * len(rows), pa.int32())
    )


def judgement(i, value, judge="encoder"):
    return Judgement(f"id{i:03}", "docs", (value,) * 3, overall=50.0, judge=judge)


class Expensive:
    """A judge that knows the truth, and counts what it was asked."""

    identity, n_slots = "expensive", 3

    def __init__(self, unscored=()):
        self.asked, self.unscored = [], set(unscored)

    def judge(self, tasks):
        for task in tasks:
            self.asked.append(task.record.id)
            i = int(task.record.id[2:])
            if task.record.id in self.unscored:
                yield Judgement.unscored(task.record.id, "docs", 3, Unscored.ENDPOINT_ERROR)
            else:
                yield judgement(i, truth_of(i), "expensive")


@pytest.fixture
def made(tmp_path):
    """A run that is scored by a cheap student, in two shards."""

    def make(**settings):
        lines = [orjson.dumps({"id": f"id{i:03}", "text": f"record {i}"}) + b"\n" for i in range(N)]
        (tmp_path / "docs.jsonl").write_bytes(b"".join(lines))
        config = Config(
            run=tmp_path / "run", sources=[{"name": "docs", "path": str(tmp_path / "docs.jsonl")}],
            shard_bytes=len(b"".join(lines)) // 2 + 1, distill=DistillSettings(cascade=CascadeSettings(**settings)),
            select=SelectSettings(trim=0, min_slots=1),
        )  # fmt: skip
        run = RunFolder(config.run)
        build_index(config, run, Quiet())
        write_json(run.groups, {"groups": [{"name": GROUP, "family": "text", "group": "A", "sources": ["docs"]}]})
        start = 0
        for shard in shards(config.corpus)["docs"]:
            ids = pq.read_table(run.index("docs") / f"{shard.name}.parquet")["id"].to_pylist()
            numbers = [int(id[2:]) for id in ids]
            table = sidecar([judgement(i, guess_of(i)) for i in numbers], list(range(len(ids))))
            write_parquet(run.scores("docs") / f"{shard.name}.parquet", table)
            start += len(ids)
        assert start == N
        labelled = list(range(0, N, 2))
        truth = judgements_table([judgement(i, truth_of(i)) for i in labelled], 3)
        write_parquet(run.labels(GROUP), truth.append_column("n_tokens", pa.array([5] * len(labelled), pa.int32())))
        guess = judgements_table([judgement(i, guess_of(i)) for i in labelled], 3).select(["id", "source", *SLOTS])
        write_parquet(run.student(GROUP) / "out_of_fold.parquet", guess)
        mask = {"source": ["docs"] * 3, "slot": SLOTS, "masked": [False] * 3}
        write_parquet(run.reliability, pa.table(mask))
        return config, run

    return make


def opener(judge):
    @contextmanager
    def open_judge(group):
        assert group == GROUP
        yield judge

    return open_judge


def threshold(run):
    """Return the threshold of the selection that the cascade made for itself."""
    return read_json(run.path / "uncascaded" / "thresholds.json")["sources"]["docs"]["threshold"]


def cascaded(run):
    parts = [pq.read_table(path) for path in sorted(run.cascade("docs").glob("*.parquet"))]
    return pa.concat_tables(parts)


def test_only_what_is_near_the_threshold_or_audited_is_asked(made):
    config, run = made(errors=0.5, audit=0.05)
    judge = Expensive()
    summary = cascade(selection_inputs(config, run, Quiet()), config.distill.cascade, opener(judge))["docs"]
    error = quality_errors(["docs"] * N, *(np.array([f(i) for i in range(N)]) for f in (truth_of, guess_of)))["docs"]
    cut = threshold(run)
    near = {f"id{i:03}" for i in range(N) if abs(guess_of(i) - cut) <= 0.5 * error}
    ids = [f"id{i:03}" for i in range(N)]
    audit = {id for id, yes in zip(ids, audited("docs", ids, 0.05, 0), strict=True) if yes}
    assert 10 < len(near) < 60 and 8 < len(audit) < 35
    slack = {f"id{i:03}" for i in range(N) if abs(abs(guess_of(i) - cut) - 0.5 * error) < 0.05}
    assert set(judge.asked) - slack == (near | audit) - slack
    assert len(judge.asked) == len(set(judge.asked)) == summary["calls"]
    assert summary["records"] == N and summary["saved"] == N - summary["calls"]
    assert summary["audited"] == len(audit)
    expected = [abs(truth_of(int(id[2:])) - guess_of(int(id[2:]))) for id in audit]
    assert summary["audit_difference"] == pytest.approx(np.mean(expected), abs=1e-5)
    assert summary["audit_rho"] > 0.9


def test_the_merged_sidecars_hold_every_record_once_with_the_best_judge(made):
    config, run = made(errors=1.0, audit=0.0)
    judge = Expensive(unscored={"id000"})
    cascade(selection_inputs(config, run, Quiet()), config.distill.cascade, opener(judge))
    merged = cascaded(run)
    cheap = pa.concat_tables(pq.read_table(p) for p in sorted(run.scores("docs").glob("*.parquet")))
    assert merged.schema == cheap.schema
    assert merged["id"].to_pylist() == cheap["id"].to_pylist()
    asked = set(judge.asked) - judge.unscored
    assert 0 < len(asked) < N
    for row in merged.to_pylist():
        i = int(row["id"][2:])
        by_expensive = row["id"] in asked
        assert row["judge"] == ("expensive" if by_expensive else "encoder")
        assert row["A2"] == pytest.approx(truth_of(i) if by_expensive else guess_of(i), abs=1e-5)
        assert row["n_tokens"] == 5
    again = {p: p.read_bytes() for p in run.cascade("docs").iterdir()}
    cascade(selection_inputs(config, run, Quiet()), config.distill.cascade, opener(Expensive(unscored={"id000"})))
    assert again == {p: p.read_bytes() for p in run.cascade("docs").iterdir()}


@pytest.mark.parametrize("share", [0.1, 0.5, 1.0])
def test_a_share_of_the_tokens_takes_the_nearest(made, share):
    config, run = made(share=share, audit=0.0)
    judge = Expensive()
    summary = cascade(selection_inputs(config, run, Quiet()), config.distill.cascade, opener(judge))["docs"]
    assert summary["calls"] == pytest.approx(share * N, abs=0.02 * N + 1)
    cut = threshold(run)
    distances = sorted(abs(guess_of(i) - cut) for i in range(N))
    furthest = max(abs(guess_of(int(id[2:])) - cut) for id in judge.asked)
    assert furthest <= distances[min(N - 1, len(judge.asked))] + 0.05


def test_stages_that_did_not_run_are_told(made):
    config, run = made()
    (run.student(GROUP) / "out_of_fold.parquet").unlink()
    with pytest.raises(RunError, match="the cascade's first student is the encoder"):
        cascade(selection_inputs(config, run, Quiet()), config.distill.cascade, opener(Expensive()))


def test_the_audit_slice_does_not_depend_on_order_or_company():
    ids = [f"r{i}" for i in range(20_000)]
    taken = {id for id, yes in zip(ids, audited("s", ids, 0.1, 7), strict=True) if yes}
    assert 0.09 < len(taken) / len(ids) < 0.11
    some = ids[::-3]
    assert {id for id, yes in zip(some, audited("s", some, 0.1, 7), strict=True) if yes} == taken & set(some)
    assert taken != {id for id, yes in zip(ids, audited("t", ids, 0.1, 7), strict=True) if yes}
    assert not audited("s", ids, 0.0, 7).any() and audited("s", ids, 1.0, 7).all()


def test_small_sources_borrow_the_error_of_all():
    random = np.random.default_rng(0)
    source = ["a"] * 200 + ["b"] * 200 + ["c"] * 5
    truth = np.zeros(405)
    guess = np.concatenate([random.normal(0, 1, 200), random.normal(0, 3, 200), [9.0] * 5])
    truth[0] = np.nan
    found = quality_errors(source, truth, guess)
    assert found["a"] == pytest.approx(1, abs=0.2) and found["b"] == pytest.approx(3, abs=0.5)
    assert found["c"] == pytest.approx(np.sqrt(np.nanmean((truth - guess) ** 2)))


def test_a_judgement_of_another_shard_is_an_error():
    with pytest.raises(InputError, match="id009"):
        merge(sidecar([judgement(1, 2.0)], [0]), [judgement(9, 3.0)])


def test_quality_of_labels_is_that_of_the_selection(made):
    config, run = made()
    table = labelled_quality(config.select, run, GROUP, {"docs": Yardstick(tuple(SLOTS))})
    assert table["truth"].to_pylist() == pytest.approx([truth_of(i) for i in range(0, N, 2)], abs=1e-5)
    masked = labelled_quality(config.select, run, GROUP, {"docs": Yardstick()})
    assert pc.all(pc.is_nan(masked["guess"])).as_py()


def test_more_calls_bring_the_selection_closer_and_nearness_beats_chance():
    random = np.random.default_rng(1)
    n = 600
    truth = random.normal(5, 2, n)
    guess = truth + random.normal(0, 1, n)
    truth[:3] = np.nan
    tokens = random.integers(10, 1000, n)
    scope = ["x" if i % 3 else "y" for i in range(n)]
    points = simulate(truth, guess, tokens, scope, budget=0.5, shares=[0, 0.2, 0.5, 1.0], repeats=60)
    assert [p.calls for p in points] == [0, 119, 298, 597]
    assert [p.saved for p in points] == [597, 478, 299, 0]
    same = [p.same for p in points]
    assert same == sorted(same) and same[-1] == 1.0 and same[0] < 0.85
    assert points[1].same > points[1].same_random + 0.03
    for point in points:
        assert point.low <= point.same + 0.05 and point.high >= point.same - 0.05
    assert points == simulate(truth, guess, tokens, scope, budget=0.5, shares=[0, 0.2, 0.5, 1.0], repeats=60)


def test_a_perfect_cheap_student_needs_no_calls():
    truth = np.arange(100.0)
    (point,) = simulate(truth, truth, np.full(100, 3), ["x"] * 100, budget=0.3, shares=[0.0], repeats=10)
    assert (point.same, point.saved) == (1.0, 100)
