"""Selection by the cascade's scores, and the served students that make them, over real HTTP."""

import re
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError
from rich.console import Console

from mira.cli.tables import print_cascade
from mira.config.settings import CascadeSettings, DistillSettings, EndpointSettings, LengthSettings
from mira.config.tokens import Tokens
from mira.distillation.bundle import push, verify
from mira.distillation.sft.student import bundle_prompt
from mira.errors import ConfigError, InputError, JudgeError, RunError
from mira.progress import Quiet
from mira.rescoring.report import report_cascade
from mira.rescoring.served import run_cascade
from mira.rubric.rubric import Anchor, Reference, Rubric
from mira.run_folder.files import read_json, write_json, write_parquet
from mira.selection.explain.explain import explain
from mira.selection.stage import select
from rescoring.test_cascade import GROUP, Expensive, N, guess_of, truth_of
from rescoring.test_report import judged, kept, made  # noqa: F401
from support.served_case import serving, sft_bundle


def by(config, scores, **settings):
    return config.model_copy(update={"select": config.select.model_copy(update={"scores": scores, **settings})})


def selection(run):
    return {p.name: p.read_bytes() for p in sorted(run.selection("docs").iterdir())}


def test_selection_ranks_by_what_the_cascade_says(made):  # noqa: F811
    config, run = made(errors=1000.0)
    before, first = kept(run), selection(run)
    assert read_json(run.thresholds)["scores"] == "student"
    judged(config, run, Expensive())
    select(config, run, Quiet())
    assert selection(run) == first, "the student's scores are those that count by default"
    merged = by(config, "cascade")
    select(merged, run, Quiet())
    assert read_json(run.thresholds)["scores"] == "cascade"
    after = kept(run)
    threshold = min(truth_of(int(i[2:])) for i in after)
    assert all(truth_of(i) <= threshold for i in range(N) if f"id{i:03}" not in after)
    assert len(before ^ after) > 10
    one = next(iter(after))
    slot = explain(merged, run, one).slots[0]
    assert slot.score == pytest.approx(truth_of(int(one[2:])), abs=1e-5)
    select(config, run, Quiet())
    assert selection(run) == first


def test_a_cascade_of_other_scores_is_refused(made):  # noqa: F811
    config, run = made(errors=1.0)
    merged = by(config, "cascade")
    with pytest.raises(RunError, match=r"not there yet, but select\.scores is cascade") as caught:
        select(merged, run, Quiet())
    assert "mira cascade" in caught.value.hint
    judged(config, run, Expensive())
    select(merged, run, Quiet())
    path = sorted(run.scores("docs").glob("*.parquet"))[1]
    table = pq.read_table(path)
    write_parquet(path, table.set_column(table.schema.get_field_index("A1"), "A1", pa.array([1.0] * len(table), "f4")))
    with pytest.raises(RunError, match="made of other scores"):
        select(merged, run, Quiet())
    select(config, run, Quiet())
    judged(config, run, Expensive())
    select(merged, run, Quiet())


def test_a_second_cascade_asks_for_the_same_records(made):  # noqa: F811
    config, run = made(share=0.2, audit=0.0)
    one, two = Expensive(), Expensive()
    judged(config, run, one)
    sidecars = {p.name: p.read_bytes() for p in run.cascade("docs").iterdir()}
    merged = by(config, "cascade")
    select(merged, run, Quiet())
    after = selection(run)
    judged(merged, run, two)
    assert sorted(one.asked) == sorted(two.asked)
    assert sidecars == {p.name: p.read_bytes() for p in run.cascade("docs").iterdir()}
    change = report_cascade(merged, run, Quiet())["selection"]
    assert selection(run) == after and 0 < change["records"] == len(one.asked)
    assert report_cascade(config, run, Quiet())["selection"] == change, "whatever the run selects by at present"
    assert selection(run) == after
    select(config, run, Quiet())
    assert report_cascade(config, run, Quiet())["selection"] == change


def test_a_cascade_needs_no_selection_of_its_own_where_the_run_ranks_by_it(made):  # noqa: F811
    config, run = made(share=0.2, audit=0.0)
    judged(config, run, first := Expensive())
    for folder in (run.path / "cascade", run.path / "selection", run.path / "values"):
        shutil.rmtree(folder)
    run.thresholds.unlink()
    merged = by(config, "cascade")
    judged(merged, run, again := Expensive())
    assert sorted(first.asked) == sorted(again.asked)
    select(merged, run, Quiet())


def test_by_default_a_tenth_of_the_tokens_is_asked_again(made):  # noqa: F811
    config, run = made(audit=0.0)
    judged(config, run, judge := Expensive())
    assert len(judge.asked) == pytest.approx(0.1 * N, rel=0.2)
    none = DistillSettings(cascade=CascadeSettings(share=0.0, audit=0.02))
    judged(config.model_copy(update={"distill": none}), run, audit := Expensive())
    assert 0 < len(audit.asked) < 0.06 * N
    with pytest.raises(ValidationError, match="share or within_errors, not both"):
        CascadeSettings(share=0.1, errors=1.0)


def test_both_selections_are_made_under_the_settings_of_the_cascade(made):  # noqa: F811
    config, run = made(share=0.2, audit=0.0)
    other = by(config, "student", budget=Tokens.parse("25%"))
    judged(other, run, one := Expensive())
    change = report_cascade(other, run, Quiet())["selection"]
    first = selection(run)
    select(other, run, Quiet())
    judged(other, run, two := Expensive())
    assert sorted(one.asked) == sorted(two.asked), "near the thresholds of the budget that is asked for"
    assert report_cascade(other, run, Quiet())["selection"] == change
    assert selection(run) != first and change["same"] > 0.8
    select(config, run, Quiet())
    assert selection(run) == first
    with pytest.raises(RunError, match="no record is near a threshold") as caught:
        judged(by(config, "student", temperature=1.0), run, Expensive())
    assert "temperature=0" in caught.value.hint


@pytest.mark.parametrize("control", ["residual", "strata"])
def test_records_are_near_the_thresholds_of_their_length(made, control):  # noqa: F811
    config, run = made(share=0.2, audit=0.0)
    length = by(config, "student", length=LengthSettings(control=control))
    judged(length, run, judge := Expensive())
    assert len(judge.asked) == pytest.approx(0.2 * N, rel=0.3)
    result = report_cascade(length, run, Quiet())
    assert result["selection"]["records"] == len(judge.asked)
    assert result["simulated"][GROUP]["points"][-1]["same"] == 1
    print_cascade({}, result, Console(width=200))


def test_a_selection_that_is_not_of_judgements_has_no_cascade(made):  # noqa: F811
    config, run = made()
    for chosen in (by(config, "student", method="random"), by(config, "cascade", method="random")):
        with pytest.raises(RunError, match="select with method mira"):
            judged(chosen, run, Expensive())


def answer(user):
    return truth_of(int(re.search(r"record (\d+) ", user)[1]))


def rubric_of(run):
    references = (Reference("r", 5.0, "a calibration that only the whole prompt shows"),)
    anchors = tuple(Anchor(s, f"Name {s}", 1, references[0], references=references) for s in ("A1", "A2", "A3"))
    rubric = Rubric(GROUP, anchors)
    rubric.save(run.rubric(GROUP))
    return rubric


def with_server(config, url, **cascade):
    endpoint = EndpointSettings(base_url=url, model="student")
    settings = config.distill.cascade.model_copy(update=cascade)
    return config.model_copy(update={"distill": DistillSettings(endpoint=endpoint, cascade=settings)})


def test_an_sft_bundle_is_asked_with_its_own_prompt(made, tmp_path):  # noqa: F811
    config, run = made(errors=1.0, audit=0.0)
    rubric = rubric_of(run)
    bundle = sft_bundle(tmp_path / "bundle", rubric)
    with serving(answer, rubric) as server:
        told = run_cascade(with_server(config, server.url, bundles={GROUP: str(bundle)}), run, Quiet())["docs"]
        assert server.systems == {bundle_prompt(bundle)[1].system}
        assert 0 < told["calls"] == len(server.requests) < N
        released = run_cascade(with_server(config, server.url), run, Quiet())["docs"]
        (whole,) = server.systems - {bundle_prompt(bundle)[1].system}
        assert "only the whole prompt shows" in whole
        assert len(server.requests) == told["calls"] + released["calls"], "replies of one are not taken for the other's"
    rows = [row for p in run.cascade("docs").iterdir() for row in pq.read_table(p).to_pylist()]
    asked = [row for row in rows if row["judge"] != "encoder"]
    assert len(asked) == told["calls"]
    assert all(row["A1"] == pytest.approx(round(truth_of(int(row["id"][2:])), 1), abs=0.051) for row in asked)


def test_what_cannot_be_asked_is_told_before_the_earlier_cascade_is_lost(made, tmp_path):  # noqa: F811
    config, run = made(errors=1.0)
    rubric = rubric_of(run)
    judged(config, run, Expensive())
    before = {p: p.read_bytes() for p in run.cascade("docs").iterdir()}
    with pytest.raises(ConfigError, match="needs a served student for text_group_A"):
        run_cascade(config, run, Quiet())
    bundle = sft_bundle(tmp_path / "bundle", rubric)
    with pytest.raises(ConfigError, match="no group 'text_group_Z'"):
        run_cascade(with_server(config, "http://127.0.0.1:9/v1", bundles={"text_group_Z": str(bundle)}), run, Quiet())
    chosen = with_server(config, "http://127.0.0.1:9/v1", bundles={GROUP: str(bundle)})
    facts = verify(bundle)
    write_json(bundle / "bundle.json", facts | {"prompt": "0" * 16})
    with pytest.raises(InputError, match="trained with prompt"):
        run_cascade(chosen, run, Quiet())
    write_json(bundle / "bundle.json", facts)
    Rubric(GROUP, rubric.anchors[:2]).save(run.rubric(GROUP))
    with pytest.raises(RunError, match="another rubric"):
        run_cascade(chosen, run, Quiet())
    assert before == {p: p.read_bytes() for p in run.cascade("docs").iterdir()}


def test_answers_that_say_nothing_are_counted_and_fail(made):  # noqa: F811
    config, run = made(errors=1.0, audit=0.0)
    with serving(answer, rubric_of(run)) as server:
        server.broken = True
        with pytest.raises(JudgeError, match="stayed unscored"):
            run_cascade(with_server(config, server.url), run, Quiet())
    rows = [row for p in run.cascade("docs").iterdir() for row in pq.read_table(p).to_pylist()]
    assert all(row["A1"] == pytest.approx(guess_of(int(row["id"][2:])), abs=1e-5) for row in rows)


def test_an_sft_bundle_can_be_pushed(tmp_path):
    anchors = (Anchor("A1", "Depth", 1, Reference("r", 5.0, "why")),)
    bundle = sft_bundle(tmp_path / "bundle", Rubric(GROUP, anchors))
    assert verify(Path(push(bundle, str(tmp_path / "there")))) == verify(bundle)
