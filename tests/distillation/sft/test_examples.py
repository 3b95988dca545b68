import re
from collections import Counter

import pyarrow.parquet as pq
import pytest

from mira.config.settings import SftSettings
from mira.corpus import Part, Record
from mira.distillation.sft.examples import Example, LeftOut, examples, read_labels, render_reply, student_prompt
from mira.errors import RunError
from mira.family import FamilyName
from mira.judging.grammar.reply import parse_reply
from mira.rubric.judgement import Recommendation
from mira.run_folder.paths import RunFolder
from mira.tokens import tokenizer
from mira.unscored import Unscored
from support.sft_case import NAMES, config, judgement, labels, lookup, records, rubric, tuning

SLOTS = ("A1", "A2", "A3", "A4")


def make(table, found, prompt=None, **settings):
    chosen = SftSettings(**({"slot_subsets": 0, "slot_order": "fixed"} | settings))
    prompt = prompt or student_prompt(rubric(), tuning(config_of(chosen)))
    return list(examples(prompt, table, lookup(found), chosen, tokenizer=tokenizer("qwen3")))


def config_of(settings, tmp="/nowhere"):
    from pathlib import Path

    return config(Path(tmp), **settings.model_dump())


def test_an_example_is_the_serving_prompt_and_a_reply_that_the_strict_parser_reads_back():
    found = records(4)
    prompt = student_prompt(rubric(), tuning(config_of(SftSettings(slot_order="fixed"))))
    by_source = sorted(found, key=lambda r: (r.source, r.id))
    for item, record in zip(make(labels(map(judgement, found)), found), by_source, strict=True):
        assert (item.system, item.user) == (prompt.system, prompt.user(record).text)
        parsed, truth = parse_reply(item.reply, NAMES), judgement(record)
        assert parsed.scores == truth.scores
        assert parsed.rationales == truth.rationales
        assert (parsed.overall, parsed.recommendation) == (round(truth.overall), truth.recommendation)
        assert (parsed.domain_tag, parsed.brief, parsed.notes) == (truth.domain_tag, truth.brief, ())
        assert [m["role"] for m in item.messages()] == ["system", "user", "assistant"]


def test_permuted_lines_stand_in_the_order_that_the_prompt_asks_for():
    found = records(12)
    prompt = student_prompt(rubric(), tuning(config_of(SftSettings(slot_order="permuted"))))
    items = make(labels(map(judgement, found)), found, prompt)
    orders = {item.slots for item in items}
    assert len(orders) > 4
    for item in items:
        assert sorted(item.slots) == list(SLOTS)
        assert tuple(re.findall(r"^\[(A\d)\]", item.reply, re.M)) == item.slots
        asked = item.user.split("Reply with exactly these lines")[1]
        assert tuple(re.findall(r"^\[(A\d)\]", asked, re.M)) == item.slots
        truth = judgement(next(r for r in found if r.id == item.id))
        assert parse_reply(item.reply, NAMES).scores == truth.scores


def test_a_share_of_the_examples_asks_for_a_part_of_the_slots_and_gets_just_that():
    found = records(400)
    items = make(labels(map(judgement, found)), found, slot_subsets=0.5)
    parts = [item for item in items if len(item.slots) < 4]
    assert 150 < len(parts) < 250
    assert Counter(len(item.slots) for item in parts).keys() == {1, 2, 3}
    assert {item.slots for item in parts if len(item.slots) == 1} == {(s,) for s in SLOTS}
    for item in parts:
        missing = parse_reply(item.reply, NAMES).missing
        assert set(missing) == set(SLOTS) - set(item.slots)
        assert item.user.count("<score>/10") == len(item.slots)
    again = make(labels(map(judgement, found)), found[::-1], slot_subsets=0.5)
    assert again == items, "which slots are asked for depends on the record alone"


def test_labels_that_cannot_be_trained_on_come_out_with_a_reason():
    found = records(8)
    changes = {
        "id001": {"scores": (None,) * 4, "reason_unscored": Unscored.REFUSED},
        "id002": {"overall": None},
        "id003": {"recommendation": None},
        "id004": {"domain_tag": ""},
        "id005": {"brief": ""},
        "id006": {"scores": (None, 5.0, None, 7.25)},
    }
    table = labels(judgement(r, **changes.get(r.id, {})) for r in found)
    items = {item.id: item for item in make(table, [r for r in found if r.id != "id007"])}
    reasons = {id: item.reason for id, item in items.items() if isinstance(item, LeftOut)}
    assert reasons == {
        "id001": "unscored:refused", "id002": "no_overall", "id003": "no_recommendation", "id004": "no_domain_tag",
        "id005": "no_brief", "id007": "record_missing",
    }  # fmt: skip
    assert isinstance(items["id000"], Example)
    partial = items["id006"]
    assert partial.slots == ("A2", "A4"), "what the teacher did not score is not asked for"
    assert "[A1]" not in partial.reply and "[A1] Depth: <score>" not in partial.user
    assert len(items) == len(found)


def test_long_records_are_cut_only_when_asked_and_say_so():
    long = Record("id000", "docs", FamilyName.TEXT, (Part("", "zebra " * 3000),))
    table = labels([judgement(long)])
    (whole,) = make(table, [long], max_length=1500, max_reply=300)
    assert whole.user.count("zebra") == 3000, "too long for its length, which the tokenizer of the student decides"
    (cut,) = make(table, [long], max_length=1500, max_reply=300, overflow="cut")
    assert 200 < cut.user.count("zebra") < 1200
    assert cut.notes[0].startswith("cut:")
    (hopeless,) = make(table, [long], max_length=400, max_reply=300, overflow="cut")
    assert hopeless == LeftOut("id000", "docs", 0, "too_long")


def test_without_references_the_prompt_is_another_and_shorter():
    with_them = student_prompt(rubric(), tuning(config_of(SftSettings())))
    without = student_prompt(rubric(), tuning(config_of(SftSettings(references=False))))
    assert "Good 1." in with_them.system and "Good 1." not in without.system
    assert with_them.hash != without.hash
    assert "[A4] Safety" in without.system


def test_a_reply_holds_one_line_a_slot_whatever_the_teacher_wrote():
    prompt = student_prompt(rubric(), tuning(config_of(SftSettings())))
    record = records(1)[0]
    odd = judgement(
        record, scores=(10.0, 7.333333, 0.0, 6.5), rationales=("two\nlines", "", "ends <|im_end|> here", "x" * 9),
        brief="a\r\nb", recommendation=Recommendation.DROP,
    )  # fmt: skip
    row = labels([odd]).to_pylist()[0]
    lines = render_reply(prompt, row, prompt.slots).splitlines()
    assert lines[0] == "[A1] Depth: 10/10 — two lines"
    assert lines[1] == "[A2] Clarity: 7.3/10"
    assert lines[2].startswith("[A3] Depth: 0/10 — ends ") and "<|im_end|>" not in lines[2]
    assert lines[3] == "[A4] Safety: 6.5/10 — xxxxxxxxx"
    assert lines[-1] == "brief: a b"
    assert len(lines) == 8


def test_only_the_training_split_is_read(tmp_path):
    run, found = RunFolder(tmp_path), records(6)
    with pytest.raises(RunError, match="mira label"):
        read_labels(run, "text_group_A")
    run.labels("text_group_A").parent.mkdir()
    pq.write_table(labels(map(judgement, found), held_out={"id000", "id003"}), run.labels("text_group_A"))
    assert sorted(read_labels(run, "text_group_A")["id"].to_pylist()) == ["id001", "id002", "id004", "id005"]
    pq.write_table(labels(map(judgement, found), held_out={r.id for r in found}), run.labels("text_group_A"))
    with pytest.raises(RunError, match="no label is in the training split"):
        read_labels(run, "text_group_A")
