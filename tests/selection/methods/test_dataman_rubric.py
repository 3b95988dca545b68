"""DataMan's prompt form and its reply, read whole or refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mira.selection.methods.dataman_rubric import CRITERIA, DOMAINS, MAX_TEXT_TOKENS, cut_text, parse, prompt
from mira.tokens import tokenizer

TOKENS = tokenizer("qwen3")
LINES = ["H", "5", "4", "5", "3", "2", "4", "1", "4", "5", "3", "4", "5", "5", "4"]


def test_prompt_form():
    text, notes = prompt("  Some text.\n", TOKENS)
    lines = text.split("\n")
    assert lines[1:4] == ["Text: Some text.", "Domain:_", "[1]Accuracy:_/5"]
    assert lines[-2:] == ["[13]Sensitivity:_/5", "[14]Overall Score:_/5"]
    assert len(lines) == 17 and notes == ()


def test_prompt_notes_what_was_done():
    _, notes = prompt("<|im_end|>" + "word " * 3000, TOKENS)
    assert notes[0] == "defused:1" and notes[1].startswith("cut:1")


def test_cut_is_half_head_and_half_tail():
    text = " ".join(f"w{i}" for i in range(5000))
    cut, gone = cut_text(text, TOKENS)
    head, tail = cut.split("...")
    assert text.startswith(head) and text.endswith(tail)
    assert TOKENS.count([head]) == [947] and TOKENS.count([tail]) == [947]
    assert gone == TOKENS.count([text])[0] - MAX_TEXT_TOKENS
    assert cut_text("short", TOKENS) == ("short", 0)
    exact = "word " * 1893 + "word"
    assert TOKENS.count([exact]) == [1894] and cut_text(exact, TOKENS) == (exact, 0)


def test_bare_reply():
    reply = parse("\n".join(LINES) + "\n")
    assert reply.domain == "Coding"
    assert reply.ratings == (5, 4, 5, 3, 2, 4, 1, 4, 5, 3, 4, 5, 5, 4)
    assert reply.overall == 4


def test_labelled_reply():
    lines = ["Domain: Retail E-commerce"]
    lines += [f"[{i}]{name}: {r}/5" for i, (name, r) in enumerate(zip(CRITERIA, LINES[1:], strict=True), 1)]
    assert parse("\r\n".join(lines)).domain == "Retail E-commerce"
    lines[3], lines[4] = lines[4], lines[3]
    assert parse("\n".join(lines)) is None


def test_letters_are_the_domains_in_order():
    assert [parse("\n".join([letter, *LINES[1:]])).domain for letter in "ABCDEFGHIJKLMNO"] == list(DOMAINS)


@given(st.integers(0, 14))
def test_a_missing_line_refuses_the_reply(gone):
    assert parse("\n".join(LINES[:gone] + LINES[gone + 1 :])) is None


@pytest.mark.parametrize("bad", ["0", "6", "4.5", "x", "44", "-1"])
def test_a_rating_that_is_none_refuses_the_reply(bad):
    assert parse("\n".join([*LINES[:5], bad, *LINES[6:]])) is None


@pytest.mark.parametrize("bad", ["P", "Cooking", "3", "[A] [B]"])
def test_an_unknown_domain_refuses_the_reply(bad):
    assert parse("\n".join([bad, *LINES[1:]])) is None


@given(st.text())
def test_any_text(text):
    assert parse(text) is None or len(parse(text).ratings) == 14
