import pytest

from mira.corpus.record import Part, Record
from mira.evaluation.faults import Fault, degrade
from mira.evaluation.planted import plant
from mira.family import FamilyName

LINES = [f"Line {i} explains step number {i} of the procedure in some detail." for i in range(40)]
TEXT = "\n".join(LINES)


def record(text=TEXT, id="r1"):
    return Record(id, "docs", FamilyName.TEXT, (Part("", text),), n_tokens=500)


@pytest.mark.parametrize("fault", list(Fault))
def test_a_copy_is_spoiled_named_and_the_same_every_time(fault):
    copy = degrade(record(), fault, seed=1)
    assert copy == degrade(record(), fault, seed=1)
    assert copy.id == f"r1~{fault}" and copy.source == "docs" and copy.n_tokens == 0
    assert copy.text != TEXT
    if fault != Fault.TRUNCATED:
        assert len(copy.text) == len(TEXT)


def test_what_is_left_of_the_text():
    def spoiled(fault):
        return degrade(record(), fault).text

    assert sorted(spoiled(Fault.SHUFFLED).split("\n")) == sorted(LINES)
    truncated = spoiled(Fault.TRUNCATED)
    assert TEXT.startswith(truncated) and len(truncated) <= len(TEXT) // 4
    assert truncated[-1].isalnum() and TEXT[len(truncated)].isalnum()
    assert spoiled(Fault.DUPLICATED).count(TEXT[: len(TEXT) // 4]) == 4
    assert "Line" not in spoiled(Fault.OFF_FAMILY)
    for fault in (Fault.BOILERPLATE, Fault.GARBAGE):
        assert spoiled(fault).startswith(TEXT[: len(TEXT) // 5])
        assert TEXT[len(TEXT) // 2 :] not in spoiled(fault)


def test_chance_depends_on_seed_and_record():
    copies = {degrade(record(id=i), Fault.SHUFFLED, seed).text for i in ("a", "b") for seed in (0, 1)}
    assert len(copies) == 4


def test_the_longest_part_is_spoiled_and_the_others_stay():
    qa = Record("q", "faq", FamilyName.QA, (Part("Question", "Why?"), Part("Answer", TEXT)))
    copy = degrade(qa, Fault.GARBAGE)
    assert copy.parts[0] == qa.parts[0]
    assert copy.parts[1].label == "Answer" and copy.parts[1].text != TEXT


def test_texts_that_cannot_be_spoiled_are_left_out():
    assert degrade(record("short"), Fault.GARBAGE) is None
    assert degrade(record("same " * 40), Fault.SHUFFLED) is None
    pairs = plant([record(), record("short", "r2"), record("same " * 40, "r3")])
    assert [p.original.id for p in pairs].count("r1") == len(Fault)
    assert not any(p.original.id == "r2" for p in pairs)
    assert all(p.degraded.id == f"{p.original.id}~{p.fault}" for p in pairs)
