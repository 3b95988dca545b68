"""The parser reads what models really write, refuses what is not a score, and never raises."""

import random
import re
import time
from importlib.resources import files
from pathlib import Path

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mira.judging.grammar.reply import _strict, _tolerant, _usual, locate_scores, parse_reply, whole_reply
from mira.rubric.judgement import Recommendation
from mira.rubric.rubric import Rubric
from mira.rubric.slots import slot_names
from mira.unscored import Unscored

DATA = files("mira.demo_project") / "data"
RUBRICS = {group: Rubric.load(Path(str(DATA / f"text_group_{group}_dim_anchors.jsonl"))) for group in "AB"}
NAMES = {group: tuple(anchor.name for anchor in rubric.anchors) for group, rubric in RUBRICS.items()}
REPLIES = [orjson.loads(line) for line in (DATA / "teacher_replies.jsonl").read_bytes().splitlines()]

# Names as released rubrics have them: repeated, with digits, slashes, brackets, and a colon before a fraction.
HARD = (
    "Practical Actionability",
    "Practical Actionability",
    "Format Compliance (SEARCH/REPLACE)",
    "HTML5 Validity: 2/10",
    "Signal-to-Noise Ratio",
    "10 Commandments of C++: Rule 3",
    "UTF-8 / `snake_case` names",
    "A2 Alignment [A5]",
)

quick = settings(max_examples=150)


def scores_of(text, names=("Foo", "Bar Baz", "Qux"), **options):
    return parse_reply(text, names, **options).scores


def missing_of(text, names=("Foo", "Bar Baz", "Qux"), **options):
    return parse_reply(text, names, **options).missing


# ---------------------------------------------------------------- real replies


def test_every_real_teacher_reply_parses_whole():
    for line in REPLIES:
        parsed = parse_reply(line["reply"], NAMES[line["group"]])
        assert parsed.missing == {} and parsed.notes == () and parsed.reason_unscored is None
        assert None not in parsed.scores and parsed.overall is not None and parsed.recommendation
        assert all(parsed.rationales) and parsed.domain_tag and parsed.brief


def test_known_reply_gives_its_numbers():
    line = next(r for r in REPLIES if r["id"] == "03c748db8598cad3" and r["replicate"] == 0)
    parsed = parse_reply(line["reply"], NAMES["A"])
    assert parsed.scores == (5.5, 5, 4, 3, 8, 0.5, 1.5, 6, 6, 9.5, 5.5, 7, 6, 1.5, 3.5)
    assert (parsed.overall, parsed.recommendation) == (34, Recommendation.DOWNSAMPLE)
    assert parsed.domain_tag == "xarray-roadmap"
    assert parsed.rationales[5] == "No code."
    assert parsed.brief == "xarray 2021 roadmap on philosophy, needs and flexible indexes."


def test_fast_and_tolerant_reading_agree():
    for line in REPLIES[::5]:
        names = NAMES[line["group"]]
        fast = _strict(line["reply"], names)
        assert fast is not None
        assert fast == _tolerant(line["reply"], names, truncated=False)


HEADS = ("**[{0}] {1}:**", "- {0}. {1} —", "{0} {1} -", "[{0}] **{1}** :", "3. [{0}] {1} of it all:", "# ({0}) {1}: ")
NUMBERS = ("{:g}/10", "{:g} / 10", "**{:g}**/10", "{:g}")
AFTER = (" — ", " – ", " - ", ": ", "\n  ")


def styled(reply, rng):
    """Rewrite the lines of a reply in the card's form in one style of a model that is fond of Markdown."""
    lines = []
    for line in reply.split("\n"):
        match = re.fullmatch(r"\[(A\d+)\] (.*): ([\d.]+)/10 — (.*)", line)
        head = rng.choice(HEADS).format(match[1], rng.choice([match[2], match[2].upper()])) if match else ""
        score = rng.choice(NUMBERS).format(float(match[3])) if match else ""
        lines.append(f"{head} {score}{rng.choice(AFTER)}{match[4]}" if match else re.sub("^(.*?):", r"**\1:**", line))
    return rng.choice(["{}", "Here is my judgement:\n\n{}\n"]).format(rng.choice(["\n", "\n\n", "\r\n"]).join(lines))


def test_usual_and_tolerant_reading_agree():
    rng = random.Random(3)
    read = 0
    for line in REPLIES:
        names = NAMES[line["group"]]
        text = styled(line["reply"], rng)
        usual = _usual(text, names)
        assert usual in (None, _tolerant(text, names, truncated=False))
        read += usual is not None
    assert read > 0.7 * len(REPLIES)


# ---------------------------------------------------------------- tolerated forms

LINES = {
    "card": "[A1] Foo: 8.5/10 — good",
    "en dash": "[A1] Foo: 8.5/10 – good",
    "hyphen": "[A1] Foo: 8.5/10 - good",
    "colon": "[A1] Foo: 8.5/10: good",
    "no separator": "[A1] Foo: 8.5/10 good",
    "dash before the score": "[A1] Foo — 8.5/10 — good",
    "hyphen before the score": "[A1] Foo - 8.5/10 - good",
    "equals": "[A1] Foo = 8.5/10 — good",
    "bold line head": "**[A1] Foo:** 8.5/10 — good",
    "bold id": "**[A1]** Foo: 8.5/10 — good",
    "bold score": "[A1] Foo: **8.5/10** — good",
    "bold number": "[A1] Foo: **8.5**/10 — good",
    "italic": "*[A1] Foo*: _8.5/10_ — good",
    "code": "`[A1] Foo: 8.5/10` — good",
    "bullet": "- [A1] Foo: 8.5/10 — good",
    "star": "* [A1] Foo: 8.5/10 — good",
    "dot": "• [A1] Foo: 8.5/10 — good",
    "number": "1. [A1] Foo: 8.5/10 — good",
    "number in brackets": "1) [A1] Foo: 8.5/10 — good",
    "quote": "> [A1] Foo: 8.5/10 — good",
    "heading": "### [A1] Foo: 8.5/10 — good",
    "emoji": "✅ [A1] Foo: 8.5/10 — good",
    "indent": "   [A1] Foo: 8.5/10 — good",
    "space before /10": "[A1] Foo: 8.5 /10 — good",
    "space after /": "[A1] Foo: 8.5/ 10 — good",
    "spaces around /": "[A1] Foo: 8.5 / 10 — good",
    "out of": "[A1] Foo: 8.5 out of 10 — good",
    "no /10": "[A1] Foo: 8.5 — good",
    "no /10, colon": "[A1] Foo: 8.5: good",
    "/10.0": "[A1] Foo: 8.50/10.0 — good",
    "comma": "[A1] Foo: 8,5/10 — good",
    "round brackets": "[A1] Foo (8.5/10): good",
    "square brackets": "[A1] Foo: [8.5/10] good",
    "angle brackets": "[A1] Foo: <8.5>/10 — good",
    "the word score": "[A1] Foo: Score: 8.5/10 — good",
    "dot id": "A1. Foo: 8.5/10 — good",
    "colon id": "A1: Foo: 8.5/10 — good",
    "bracket id": "A1) Foo: 8.5/10 — good",
    "bare id": "A1 Foo: 8.5/10 — good",
    "round id": "(A1) Foo: 8.5/10 — good",
    "small id": "[a1] Foo: 8.5/10 — good",
    "padded id": "[A01] Foo: 8.5/10 — good",
    "word before id": "Slot A1: Foo: 8.5/10 — good",
    "no name": "[A1]: 8.5/10 — good",
    "no name, no colon": "[A1] 8.5/10 — good",
    "another name": "[A1] Foolishness Avoidance: 8.5/10 — good",
    "another name with a hyphen": "[A1] Self-Containedness - 8.5/10 — good",
    "another name with a number": "[A1] UTF-8 Hygiene: 8.5/10 — good",
    "another name with a colon": "[A1] Rule: the 2nd: 8.5/10 — good",
    "longer name": "[A1] Foo of the 2nd kind: 8.5/10 — good",
    "another name, score in brackets": "[A1] Rule (2) of C (8.5/10): good",
    "name in another case": "[A1] FOO: 8.5/10 — good",
    "qualified name": "[A1] Foo (of 3): 8.5/10 — good",
    "name alone": "Foo: 8.5/10 — good",
    "bold name alone": "- **Foo**: 8.5/10 — good",
    "table": "| [A1] | Foo | 8.5/10 | good |",
    "table without /10": "| A1 | Foo | 8.5 | good |",
    "full width": "【Ａ１】 Ｆｏｏ： ８．５／１０ — good",
    "no-break spaces": "[A1]\u00a0Foo:\u00a08.5\u202f/\u202f10\u00a0—\u00a0good",
    "zero width": "\ufeff[A1] Foo: 8.5\u200b/10 — good",
    "next line": "[A1] Foo: 8.5/10\ngood",
    "next line with a dash": "[A1] Foo: 8.5/10 —\n  good",
    "score below the name": "**[A1] Foo**\nScore: 8.5/10\nRationale: good",
    "score below a blank line": "### [A1] Foo\n\n8.5/10 — good",
}


@pytest.mark.parametrize("form", LINES)
def test_tolerated_line(form):
    parsed = parse_reply(f"{LINES[form]}\n[A2] Bar Baz: 3/10 — bad\n", ("Foo", "Bar Baz"))
    assert parsed.scores == (8.5, 3)
    assert parsed.rationales == ("good", "bad")
    assert parsed.missing == {}


GOOD = "[A1] Foo: 8/10 — a\n[A2] Bar Baz: 6.5/10 — b\n[A3] Qux: 10/10 — c\n"
GOOD += "overall: 71\ntraining_recommendation: keep\ndomain_tag: web\nbrief: All fine."
AROUND = {
    "nothing": GOOD,
    "preamble": f"Here is my evaluation of A1 to A3, 7/10 at a glance:\n\n{GOOD}",
    "postscript": f"{GOOD}\n\nLet me know if [A1] should be 3/10 instead.",
    "fence": f"```\n{GOOD}\n```",
    "fence with a language": f"Sure!\n```text\n{GOOD}\n```\nDone.",
    "thinking": f"<think>\n[A1] Foo: 2/10 — draft\noverall: 3\n</think>\n\n{GOOD}",
    "thinking twice": f"<think>a</think><think>[A2] Bar Baz: 1/10</think>{GOOD}",
    "thinking never opened": f"[A1] maybe 3/10?\n[A1] Foo: 4/10\n</think>\n\n{GOOD}",
    "thinking never closed": f"<think>\nLet me see what it is worth.\n\n{GOOD}",
    "kimi's thinking": f"◁think▷[A1] Foo: 2/10◁/think▷{GOOD}",
    "channels": f"<|channel|>analysis<|message|>[A1] Foo: 1/10<|end|><|channel|>final<|message|>{GOOD}",
    "windows": GOOD.replace("\n", "\r\n"),
    "old mac": GOOD.replace("\n", "\r"),
    "blank lines": GOOD.replace("\n", "\n\n"),
    "line separators": GOOD.replace("\n", "\u2028"),
    "lost line breaks": GOOD.replace("\n", " "),
    "reversed": "\n".join(reversed(GOOD.split("\n"))),
    "template echoed": "[A1] Foo: <score>/10 — <justification>\noverall: <0-100>\n"
    f"training_recommendation: <keep | downsample | drop>\ndomain_tag: <short tag>\nbrief: <one>\n\n{GOOD}",
    "said twice": f"{GOOD}\n\n{GOOD}",
}


@pytest.mark.parametrize("form", AROUND)
def test_text_around_the_answer(form):
    parsed = parse_reply(AROUND[form], ("Foo", "Bar Baz", "Qux"))
    assert parsed.scores == (8, 6.5, 10)
    assert parsed.rationales == ("a", "b", "c")
    assert (parsed.overall, parsed.recommendation) == (71, Recommendation.KEEP)
    assert (parsed.domain_tag, parsed.brief) == ("web", "All fine.")
    assert parsed.notes == () and parsed.reason_unscored is None


def test_rationale_that_speaks_of_thinking_is_no_thinking():
    text = "[A1] Foo: 8/10 — the <think> part is long\n[A2] Bar Baz: 6/10 — but </think> is there\n[A3] Qux: 5/10 — c"
    parsed = parse_reply(text, ("Foo", "Bar Baz", "Qux"))
    assert parsed.scores == (8, 6, 5)
    assert parsed.rationales[0] == "the <think> part is long"


def test_rationale_over_several_lines_ends_at_a_blank_line_and_at_the_next_slot():
    text = "[A1] Foo: 8/10 — one\n  two\n> three\n\nNot part of it.\n[A2] Bar Baz: 1/10 — x\ny\n[A3] Qux: 2/10 — z"
    assert parse_reply(text, ("Foo", "Bar Baz", "Qux")).rationales == ("one two three", "x y", "z")


def test_hard_names_are_not_scores():
    text = "\n".join(f"[A{i}] {name}: {i}/10 — r{i}" for i, name in enumerate(HARD, 1))
    loose = "\n".join(f"- **A{i}.** *{name}* - {i} / 10: r{i}" for i, name in enumerate(HARD, 1))
    for reply in (text, loose):
        parsed = parse_reply(reply, HARD)
        assert parsed.scores == (1, 2, 3, 4, 5, 6, 7, 8)
        assert parsed.rationales == tuple(f"r{i}" for i in range(1, 9))


def test_name_with_a_fraction_and_no_score_is_no_score():
    parsed = parse_reply("[A4] HTML5 Validity: 2/10 — fine", HARD)
    assert parsed.scores[3] is None and parsed.missing["A4"] is Unscored.NO_NUMBER


def test_repeated_name_alone_is_nobodys():
    assert parse_reply("Practical Actionability: 7/10 — r", HARD).reason_unscored is Unscored.UNPARSABLE


def test_id_rules_over_name():
    parsed = parse_reply("[A1] Bar Baz: 7/10 — x\n[A2] Foo: 2/10 — y\n[A3] Qux: 1/10 — z", ("Foo", "Bar Baz", "Qux"))
    assert parsed.scores == (7, 2, 1)
    assert parsed.notes[:2] == ("misnamed:A1", "misnamed:A2")


def test_name_alone_does_not_overrule_an_id():
    assert scores_of("Foo: 3/10 — summary\n[A1] Foo: 8/10 — x") == (8, None, None)


def test_slots_beyond_the_rubric_are_noted():
    parsed = parse_reply("[A1] Foo: 8/10 — x\n[A0] Nil: 2/10\n[A7] More: 5/10 — y", ("Foo",))
    assert parsed.scores == (8,) and parsed.missing == {}
    assert parsed.notes[:2] == ("ignored:A0", "ignored:A7")


# ---------------------------------------------------------------- refusals

REFUSED = {
    "11/10": Unscored.OUT_OF_RANGE,
    "-1/10": Unscored.OUT_OF_RANGE,
    "−1/10": Unscored.OUT_OF_RANGE,
    "10.5/10": Unscored.OUT_OF_RANGE,
    "85/100": Unscored.OUT_OF_RANGE,
    "4/5": Unscored.OUT_OF_RANGE,
    "85": Unscored.OUT_OF_RANGE,
    "8/1000": Unscored.OUT_OF_RANGE,
    "7-8/10": Unscored.AMBIGUOUS,
    "7–8/10": Unscored.AMBIGUOUS,
    "7 - 8/10": Unscored.AMBIGUOUS,
    "7/10-8/10": Unscored.AMBIGUOUS,
    "7/10 - 8/10": Unscored.AMBIGUOUS,
    "7 or 8": Unscored.AMBIGUOUS,
    "7 to 8/10": Unscored.AMBIGUOUS,
    "7/10 or 8/10": Unscored.AMBIGUOUS,
    "7/10 → 8/10": Unscored.AMBIGUOUS,
    "8/10/10": Unscored.AMBIGUOUS,
    "3/10 of the tests": Unscored.AMBIGUOUS,
    "high": Unscored.NO_NUMBER,
    "N/A": Unscored.NO_NUMBER,
    "": Unscored.NO_NUMBER,
    "<score>/10": Unscored.NO_NUMBER,
    "eight/10": Unscored.NO_NUMBER,
    "weak — 3/10 of tests": Unscored.NO_NUMBER,
    "weak. Tests: 3/10: few": Unscored.NO_NUMBER,
    "5 examples are given": Unscored.NO_NUMBER,
    "7th": Unscored.NO_NUMBER,
    "1,000": Unscored.NO_NUMBER,
    "$8": Unscored.NO_NUMBER,
    "#8": Unscored.NO_NUMBER,
    "1e1/10": Unscored.NO_NUMBER,
    "9" * 5000: Unscored.OUT_OF_RANGE,
}


@pytest.mark.parametrize("said", REFUSED)
def test_refused_score(said):
    parsed = parse_reply(f"[A1] Foo: {said}\n[A2] Bar Baz: 3/10 — bad", ("Foo", "Bar Baz"))
    assert parsed.scores == (None, 3)
    assert parsed.missing == {"A1": REFUSED[said]}
    assert parsed.reason_unscored is None


def test_slot_said_twice():
    assert missing_of("[A1] Foo: 8/10 — x\n[A1] Foo: 7/10 — y")["A1"] is Unscored.AMBIGUOUS
    assert scores_of("[A1] Foo: 8/10 — x\n[A1] Foo: 8 / 10 — y")[0] == 8
    assert missing_of("[A1] Foo: 8/10 — x\n[A1] Foo: 11/10 — y")["A1"] is Unscored.AMBIGUOUS


def test_left_out_slot_is_missing_and_never_zero():
    parsed = parse_reply("[A1] Foo: 8/10 — x\n[A3] Qux: 0/10 — z", ("Foo", "Bar Baz", "Qux"))
    assert parsed.scores == (8, None, 0)
    assert parsed.missing == {"A2": Unscored.MISSING_SLOT}


@pytest.mark.parametrize(
    ("text", "truncated", "why"),
    [
        ("", False, Unscored.UNPARSABLE),
        ("", True, Unscored.TRUNCATED),
        ("This record is well written and deserves 8/10.", False, Unscored.UNPARSABLE),
        ("I'm sorry, but I can't help with that.", False, Unscored.REFUSED),
        ("I cannot evaluate this content.", False, Unscored.REFUSED),
        ("As an AI language model, I must decline.", False, Unscored.REFUSED),
        ("抱歉，我无法回答这个问题。", False, Unscored.REFUSED),
        ("I'm sorry it took so long. " + "The record describes a server. " * 60, False, Unscored.UNPARSABLE),
        ("<think>[A1] Foo: 8/10 — maybe", True, Unscored.TRUNCATED),
        ("[A1] Foo: 11/10\n[A2] Bar Baz: 12/10\n[A3] Qux: 13/10", False, Unscored.OUT_OF_RANGE),
        ("[A1] Foo: 11/10\n[A2] Bar Baz: none", False, Unscored.UNPARSABLE),
    ],
)
def test_reply_without_any_score(text, truncated, why):
    parsed = parse_reply(text, ("Foo", "Bar Baz", "Qux"), truncated=truncated)
    assert parsed.scores == (None, None, None)
    assert parsed.reason_unscored is why
    assert set(parsed.missing) == {"A1", "A2", "A3"}


# ---------------------------------------------------------------- closing lines


@pytest.mark.parametrize(
    ("said", "overall", "note"),
    [
        ("overall: 85", 85, None),
        ("Overall: 85/100", 85, None),
        ("**Overall score:** 85 / 100", 85, None),
        ("overall: 85%", 85, None),
        ("overall = 0", 0, None),
        ("- overall: 100 (excellent)", 100, None),
        ("overall: 72.5", 72.5, None),
        ("overall: 101", None, "overall:out_of_range"),
        ("overall: -5", None, "overall:out_of_range"),
        ("overall: 8.5/10", None, "overall:out_of_range"),
        ("overall: 70-80", None, "overall:ambiguous"),
        ("overall: 70\noverall: 80", None, "overall:ambiguous"),
        ("overall: good", None, "overall:no_number"),
        ("", None, "overall:missing"),
    ],
)
def test_overall(said, overall, note):
    parsed = parse_reply(f"[A1] Foo: 8/10 — x\n{said}\ntraining_recommendation: drop", ("Foo",))
    assert parsed.overall == overall
    assert parsed.notes == ((note,) if note else ())


@pytest.mark.parametrize(
    ("said", "verdict", "note"),
    [
        ("training_recommendation: keep", "keep", None),
        ("training_recommendation: DOWNSAMPLE.", "downsample", None),
        ("**Training Recommendation**: **Drop**", "drop", None),
        ("recommendation - down-sample, for it repeats", "downsample", None),
        ("training_recommendation: keep | downsample | drop", None, "recommendation:ambiguous"),
        ("training_recommendation: keep or drop", None, "recommendation:ambiguous"),
        ("training_recommendation: keeper", None, "recommendation:unknown"),
        ("training_recommendation: do not keep", None, "recommendation:unknown"),
        ("", None, "recommendation:missing"),
    ],
)
def test_recommendation(said, verdict, note):
    parsed = parse_reply(f"[A1] Foo: 8/10 — x\noverall: 5\n{said}\ndomain_tag: web", ("Foo",))
    assert parsed.recommendation == verdict
    assert parsed.notes == ((note,) if note else ())


# ---------------------------------------------------------------- truncation


def test_cut_anywhere_never_gives_a_wrong_score():
    for line in REPLIES[::150]:
        whole = parse_reply(line["reply"], NAMES[line["group"]])
        for end in range(len(line["reply"])):
            parsed = parse_reply(line["reply"][:end], NAMES[line["group"]], truncated=True)
            for slot, (score, true) in enumerate(zip(parsed.scores, whole.scores, strict=True), 1):
                assert score in (None, true), line["reply"][:end]
                if score is None:
                    assert parsed.missing[f"A{slot}"] is Unscored.TRUNCATED


def test_cut_reply_tells_a_skipped_slot_from_a_lost_one():
    assert missing_of("[A1] Foo: 8/10 — x\n[A3] Qux: 7/10 — y", ("Foo", "Bar Baz", "Qux", "Z"), truncated=True) == {
        "A2": Unscored.MISSING_SLOT,
        "A4": Unscored.TRUNCATED,
    }


# ---------------------------------------------------------------- properties

SCORES = st.integers(0, 20).map(lambda half: half / 2)
NOISE = "good weak 3/10 7-8 [A2] 10 — – : overall keep the of code 1. (see) 85/100 A3 5 ** `x` __init__ | naïve 好"
WORDS = st.sampled_from([*NOISE.split(), "<think>", "</think>"])
PLAIN = st.lists(st.sampled_from(["good", "weak", "the", "see", "naïve", "好", "ok"]), min_size=1, max_size=2)
RATIONALES = st.tuples(PLAIN, st.lists(WORDS, max_size=6), PLAIN).map(lambda t: " ".join([*t[0], *t[1], *t[2]]))


@st.composite
def answers(draw):
    names = draw(st.sampled_from([("Foo", "Bar Baz", "Qux"), HARD, NAMES["A"], NAMES["B"]]))
    size = len(names)
    return (
        names,
        draw(st.lists(SCORES, min_size=size, max_size=size)),
        draw(st.lists(RATIONALES, min_size=size, max_size=size)),
        draw(st.integers(0, 100)),
        draw(st.sampled_from(list(Recommendation))),
    )


def number(score, rng):
    text = f"{score:g}" if rng.random() < 0.7 else f"{score:.1f}"
    return text + rng.choice(["/10", "/10", " / 10", "/ 10", " /10", " out of 10", ""])


def noisy_line(slot, name, score, rationale, rng):
    head = rng.choice(["[{0}] {1}", "**[{0}] {1}**", "[{0}] **{1}**", "{0}. {1}", "({0}) {1}", "[ {0} ] {1}"])
    before = rng.choice([": ", ": ", " — ", " - ", ":\u00a0", " – ", "： "])
    after = rng.choice([" — ", " — ", " – ", " - ", ": "])
    line = rng.choice(["", "", "- ", "* ", f"{rng.randint(1, 20)}. ", "> ", "  "])
    line += head.format(slot, name) + before + number(score, rng) + after + rationale
    return line.translate(FULL_WIDTH) if rng.random() < 0.1 else line


FULL_WIDTH = {ord(c): ord(c) + 0xFEE0 for c in "[]0123456789/:."}


@quick
@given(answers(), st.randoms(use_true_random=False))
def test_round_trip_through_noise(answer, rng):
    names, scores, rationales, overall, verdict = answer
    slots = slot_names(len(names))
    lines = [noisy_line(*line, rng) for line in zip(slots, names, scores, rationales, strict=True)]
    rng.shuffle(lines)
    closing = [f"overall: {overall}", f"**training_recommendation:** {verdict}", "domain_tag: tag", "brief: A brief."]
    text = rng.choice(["\n", "\n\n", "\r\n"]).join([*lines, *closing])
    text = rng.choice(["{}", "Here it is:\n\n{}", "<think>\n[A1] X: 1/10\n</think>\n{}", "```\n{}\n```"]).format(text)
    parsed = parse_reply(text, names)
    assert parsed.scores == tuple(scores)
    assert parsed.missing == {}
    assert (parsed.overall, parsed.recommendation) == (overall, verdict)
    assert (parsed.domain_tag, parsed.brief) == ("tag", "A brief.")


@quick
@given(answers(), st.randoms(use_true_random=False))
def test_strict_replies_keep_their_words_and_any_order_reads_alike(answer, rng):
    names, scores, rationales, overall, verdict = answer
    slots = slot_names(len(names))
    parts = zip(slots, names, scores, rationales, strict=True)
    lines = [f"[{slot}] {name}: {score:g}/10 — {rationale}" for slot, name, score, rationale in parts]
    closing = [f"overall: {overall}", f"training_recommendation: {verdict}", "domain_tag: t", "brief: b"]
    parsed = parse_reply("\n".join([*lines, *closing]), names)
    assert parsed.scores == tuple(scores) and parsed.rationales == tuple(rationales)
    rng.shuffle(lines)
    shuffled = "\n".join([*lines, *closing])
    assert parse_reply(shuffled, names) == parsed
    assert _tolerant(shuffled, names, truncated=False).scores == parsed.scores


CLOSING_LINES = ("**overall:** 71", "**training_recommendation:** keep", "**domain_tag:** web", "**brief:** Fine.")
NEARLY_USUAL = {
    "the next line is a closing line": "[A1] Foo: 8\nbrief: not a rationale",
    "the next line is another slot's": "[A1] Foo: 8\nslot_A2. Bar Baz, 4/10",
    "the next line names its kind": "[A1] Foo: 8\nRationale: good",
    "the next line is another's by name": "[A1] Foo: 8\na2 good",
    "a range behind a full-width mark": "[A1] Foo: 8 - ＿9",
    "a range": "[A1] Foo: 8 - 9 good",
    "a negative number": "[A1] Foo: -8/10 - good",
    "a negative number behind a separator": "[A1] Foo: –8/10 - good",
    "digits of another script": "[A1] Foo: ８/10 - good",
    "a tag that starts the answer": "[A1] Foo: 8 - the <|channel|>final<|message|> good",
    "a line break of another kind": "[A1] Foo: 8 - good\u2028[A1] Foo: 7 - bad",
    "two words of a name before it": "[A1] Good Foo: 8 - good",
    "a longer word": "[A1] Food: 8 - good",
    "a table's end": "[A1] Foo: 8 - good |",
    "bold to the end": "**[A1] Foo: 8 - good**",
    "deep indent": " " * 20 + "[A1] Foo: 8 - good",
    "small plain id": "a1. Foo: 8 - good",
}


@pytest.mark.parametrize("form", NEARLY_USUAL)
def test_nearly_usual_reply_is_read_as_the_tolerant_reading_does(form):
    text = "\n".join([NEARLY_USUAL[form], "**[A2] Bar Baz:** 3 / 10 – bad", *CLOSING_LINES])
    assert parse_reply(text, ("Foo", "Bar Baz")) == _tolerant(text, ("Foo", "Bar Baz"), truncated=False)


DAMAGE = [
    *"[]A1289/: —–-*_`.,<>|\t\n\r\x85\u2028\u200b\u00a0＿８：／>=#~→",
    "/10",
    " or 9",
    " - 5",
    "A2 ",
    "\n[A1] 3\n",
]
DAMAGE += [
    "overall: 5\n",
    "slot_A2. x",
    "Reason: ",
    "<think>",
    "</think>\n",
    "<|channel|>final<|message|>",
    "\n",
    " rating ",
]


@settings(max_examples=300)
@given(answers(), st.lists(st.tuples(st.floats(0, 1), st.sampled_from(DAMAGE)), max_size=2), st.integers(0))
def test_usual_reading_of_a_damaged_reply_is_the_tolerant_one(answer, damage, seed):
    names, scores, rationales, overall, verdict = answer
    parts = zip(slot_names(len(names)), names, scores, rationales, strict=True)
    lines = [f"[{slot}] {name}: {score:g}/10 — {rationale}" for slot, name, score, rationale in parts]
    closing = [f"overall: {overall}", f"training_recommendation: {verdict}", "domain_tag: t", "brief: b"]
    text = styled("\n".join([*lines, *closing]), random.Random(seed))
    for where, junk in damage:
        places = [match.start() for match in re.finditer(r"[\d\n:/—–-]", text)]
        at = places[int(where * (len(places) - 1))]
        text = text[:at] + junk + text[at:]
    assert whole_reply(text, names) in (None, _tolerant(text, names, truncated=False))


BITS = "[A1]|[A2] |A3. |Foo|Bar Baz|: | — |-|8/10|7|-1|10|/10|/100|\n|**|<think>|</think>|```|overall|overall: 5|brief:"
ODD_BITS = "：|１| |or|to|<|>|(|)|.|,|\r\n|\u2028|\u200b|score|９９９|\ud800|\0|½|training_recommendation: keep"
FRAGMENTS = st.sampled_from([*BITS.split("|"), *ODD_BITS.split("|"), "|"])


def check(parsed, n):
    slots = slot_names(n)
    assert len(parsed.scores) == len(parsed.rationales) == n
    assert set(parsed.missing) == {s for s, score in zip(slots, parsed.scores, strict=True) if score is None}
    assert all(isinstance(why, Unscored) for why in parsed.missing.values())
    assert all(score is None or 0 <= score <= 10 for score in parsed.scores)
    assert parsed.overall is None or 0 <= parsed.overall <= 100
    assert (parsed.reason_unscored is not None) == (len(parsed.missing) == n)


@settings(max_examples=600)
@given(st.one_of(st.text(), st.lists(FRAGMENTS, max_size=40).map("".join)), st.booleans())
def test_any_text_is_read_without_an_error(text, truncated):
    names = ("Foo", "Bar Baz", "Foo", "**", "HTML5: 2/10")
    check(parse_reply(text, names, truncated=truncated), len(names))
    assert len(locate_scores(text, names, truncated=truncated)) == len(names)


def test_damaged_real_replies_lose_only_what_is_damaged():
    rng = random.Random(7)
    for line in REPLIES[::6]:
        names = NAMES[line["group"]]
        whole = parse_reply(line["reply"], names)
        lines = line["reply"].split("\n")
        hurt = rng.randrange(15)
        at = rng.randrange(len(lines[hurt]) + 1)
        junk = "".join(rng.choice("[]A19/: —*\u200b.,-<>|x\t") for _ in range(rng.randrange(6)))
        lines[hurt] = lines[hurt][:at] + junk + lines[hurt][at + rng.randrange(4) :]
        parsed = parse_reply("\n".join(lines), names)
        check(parsed, 15)
        others = [i for i in range(15) if i != hurt]
        changed = [i for i in others if parsed.scores[i] != whole.scores[i]]
        # The damage may forge another slot's id; then that slot is refused, and no other number appears.
        assert all(parsed.scores[i] is None and parsed.missing[f"A{i + 1}"] is Unscored.AMBIGUOUS for i in changed)
        assert len(changed) <= 1


def test_scores_are_where_locate_says():
    for text in (REPLIES[0]["reply"], "```\r\n- **[A2] Bar Baz** - **7.5** / 10 ok\r\n[A1] 8/10: x\r\n```"):
        names = NAMES[REPLIES[0]["group"]] if text is REPLIES[0]["reply"] else ("Foo", "Bar Baz", "Qux")
        places = locate_scores(text, names)
        scores = parse_reply(text, names).scores
        assert [None if p is None else float(text[slice(*p)]) for p in places] == list(scores)


HOSTILE = ["[A1] Foo: ", ":", "—", "* ", "</think>\n", "<think>", "[A1]\n", "<think>\n</think>\n", "8/10 ", "|", "A1 "]


def test_hostile_ending_takes_linear_time():
    text = "\n".join([LINES["bold line head"], *CLOSING_LINES])
    assert _usual(text, ("Foo",))
    started = time.process_time()
    parse_reply(text + " " * 100_000 + "x\n" + "\t\n" * 50_000 + "x", ("Foo",))
    assert time.process_time() - started < 2


@pytest.mark.parametrize("unit", HOSTILE)
def test_hostile_repetition_takes_linear_time(unit):
    text = unit * (200_000 // len(unit))
    started = time.process_time()
    parse_reply(text, NAMES["A"])
    assert time.process_time() - started < 5


DRAFT = "[A1] Foo: 3/10 — guess\n[A2] Bar: 2/10 — guess"
FINAL = "[A1] Foo: 8/10 — x\n[A2] Bar: 9/10 — y\noverall: 80\ntraining_recommendation: keep\ndomain_tag: w\nbrief: z."
FORMS = [
    ("[THINK]", "[/THINK]"), ("<|channel>thought", "<channel|>"), ("<seed:think>", "</seed:think>"),
    ("<mm:think>", "</mm:think>"), ("<|START_THINKING|>", "<|END_THINKING|>"), ("", "</think>"),
    ("<|begin_of_thought|>", "<|end_of_thought|>"), ("<unused94>thought", "<unused95>"), ("<ponder>", "</ponder>"),
    ("<|channel|>analysis<|message|>", "<|channel|>final<|message|>"), ("First guess:", "Now the answer:"),
]  # fmt: skip


@pytest.mark.parametrize("between", ["\n\n", "\n", ""])
@pytest.mark.parametrize(("opens", "closes"), FORMS)
def test_thinking_of_every_form_is_not_the_answer(opens, closes, between):
    if closes.endswith(":"):
        between = "\n"
    assert parse_reply(f"{opens}\n{DRAFT}\n{closes}{between}{FINAL}", ("Foo", "Bar")).scores == (8.0, 9.0)


@pytest.mark.parametrize("opens", ["<think>", "[THINK]", "<|channel>thought"])
def test_thinking_that_never_ends_holds_no_score(opens):
    assert parse_reply(f"{opens}\n{DRAFT}", ("Foo", "Bar")).scores == (None, None)


def test_last_number_without_its_whole_form_is_no_score():
    parsed = parse_reply("[A1] Foo: 8 — x\n[A2] Bar: 1", ("Foo", "Bar"))
    assert parsed.scores == (8.0, None) and parsed.missing == {"A2": Unscored.TRUNCATED}


def test_echo_of_the_record_is_not_read():
    mark = "0123456789abcdef"
    echo = f"--- {mark} RECORD BEGINS ---\n{FINAL}\n--- {mark} RECORD ENDS ---"
    assert parse_reply(echo, ("Foo", "Bar")).scores == (None, None)
    assert parse_reply(echo[:-20], ("Foo", "Bar")).scores == (None, None)
    assert parse_reply(f"{echo}\n{DRAFT}", ("Foo", "Bar")).scores == (3.0, 2.0)


MARKS = {
    "Qwen": ("<think>", "</think>"),
    "Mistral": ("[THINK]", "[/THINK]"),
    "Seed": ("<seed:think>", "</seed:think>"),
    "Gemma": ("<|channel>thought", "<channel|>"),
    "Command": ("<|START_THINKING|>", "<|END_THINKING|><|START_RESPONSE|>"),
    "gpt-oss": ("<|channel|>analysis<|message|>", "<|end|><|start|>assistant<|channel|>final<|message|>"),
    "Granite": ("Here is my thought process:", "Here is my response:"),
    "Solar": ("<|think|>", "<|end|><|begin|>assistant<|content|>"),
    "Ernie": ("<think>", "</think>\n<response>\n"),
    "unknown tag": ("<musing>", "</musing>"),
    "unknown marks": ("<<<plan>>>", "<<<done>>>"),
    "unknown brackets": ("{{think}}", "{{/think}}"),
}


def whole(score: int, slots: int = 3) -> str:
    lines = [f"[A{i}] Quality {name}: {score}/10 — Says it." for i, name in enumerate(("One", "Two", "Three"), 1)]
    return "\n".join([*lines[:slots], *(CLOSING_LINES if slots == 3 else [])])


@pytest.mark.parametrize("form", MARKS)
def test_scores_never_come_out_of_thinking(form):
    opens, closes = MARKS[form]
    names = ("Quality One", "Quality Two", "Quality Three")
    thoughts = [f"{opens}\n{whole(2, 2)}\n{closes}\n", f"{opens}{whole(2, 2)}{closes}", f"{whole(2, 2)}\n{closes}"]
    for thought in (*thoughts, f"{opens}\n{whole(2)}\n{closes}"):
        assert parse_reply(thought + whole(8), names).scores == (8, 8, 8)


def test_thinking_that_an_empty_response_follows_is_not_an_answer():
    reply = parse_reply(f"{whole(2)}\n</think>\n<response>\n", ("Quality One", "Quality Two", "Quality Three"))
    assert reply.reason_unscored is Unscored.UNPARSABLE
