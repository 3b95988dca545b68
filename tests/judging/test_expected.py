"""Expected scores against values worked out by hand."""

from math import log

import pytest

from mira.judging.expected import expected_scores, with_expected_scores
from mira.judging.grammar.reply import parse_reply
from mira.llm.responses.reply import Reply, Token
from mira.rubric.judgement import Judgement

NAMES = ("Foo",)


def token(text, **top):
    """A token with alternatives {text: probability}; the token itself is among them where it is named."""
    likely = tuple((name, log(p)) for name, p in top.items())
    return Token(text, dict(likely).get(text, log(0.9)), likely)


def expect(*score_tokens, names=NAMES, before=("[A1]", " Foo:", " "), after=("/", "10", " — fine", "\n")):
    tokens = [Token(t, 0.0) for t in before] + list(score_tokens) + [Token(t, 0.0) for t in after]
    return expected_scores(names, tokens)[0]


SINGLE = ("/", "1", "0", " — fine", "\n")  # how a tokenizer of single digits writes what follows


def test_mean_over_digits():
    # .6*8 + .3*7 + .1*9 = 7.8
    assert expect(token("8", **{"8": 0.6, "7": 0.3, "9": 0.1})) == pytest.approx(7.8)


def test_mass_on_other_text_is_left_out():
    # (.6*8 + .2*6) / .8 = 7.5
    assert expect(token("8", **{"8": 0.6, "6": 0.2, "N/A": 0.1, "88": 0.1})) == pytest.approx(7.5)


def test_ten_as_one_token():
    # .5*9 + .4*10 + .1*1 = 8.6
    assert expect(token("9", **{"9": 0.5, "10": 0.4, "1": 0.1})) == pytest.approx(8.6)


def test_ten_as_two_tokens_said():
    # P(1)=.7, P(0|1)=.9: .3*9 + .7*(.9*10 + .1*1) = 2.7 + 6.37 = 9.07
    first, second = token("1", **{"1": 0.7, "9": 0.3}), token("0", **{"0": 0.9, "/": 0.1})
    assert expect(first, second, after=SINGLE) == pytest.approx(9.07)


def test_one_said_where_ten_was_possible():
    # P(1)=.8, P(0|1)=.25: .2*2 + .8*(.25*10 + .75*1) = .4 + 2.6 = 3.0
    first, slash = token("1", **{"1": 0.8, "2": 0.2}), token("/", **{"/": 0.75, "0": 0.25})
    assert expect(first, slash, after=SINGLE[1:]) == pytest.approx(3.0)


def test_unexplored_one_is_ten_beside_a_high_digit_and_one_beside_a_low_digit():
    # .6*9 + .4*10 = 9.4;  .6*2 + .4*1 = 1.6
    assert expect(token("9", **{"9": 0.6, "1": 0.4}), after=SINGLE) == pytest.approx(9.4)
    assert expect(token("2", **{"2": 0.6, "1": 0.4}), after=SINGLE) == pytest.approx(1.6)


def test_halves_said():
    # integer part .9*8 + .1*7 = 7.9; P(.)=.8, fraction digit certain: .8*.5 = .4
    first, point, five = (
        token("8", **{"8": 0.9, "7": 0.1}),
        token(".", **{".": 0.8, "/": 0.2}),
        token("5", **{"5": 1.0}),
    )
    assert expect(first, point, five) == pytest.approx(8.3)


def test_half_not_said_but_likely():
    # 8 + P(.)*.5 = 8 + .4*.5 = 8.2
    assert expect(token("8", **{"8": 1.0}), token("/", **{"/": 0.6, ".": 0.4}), after=("10", " — x")) == pytest.approx(
        8.2
    )


def test_fraction_digits_are_averaged():
    # P(.)=1; (.75*.5 + .25*.0) = .375
    first, point = token("6", **{"6": 1.0}), token(".", **{".": 1.0})
    assert expect(first, point, token("5", **{"5": 0.75, "0": 0.25})) == pytest.approx(6.375)


def test_ten_takes_no_fraction():
    # .5*(9+.5) + .5*10 = 9.75
    first, point, five = token("9", **{"9": 0.5, "10": 0.5}), token(".", **{".": 1.0}), token("5", **{"5": 1.0})
    assert expect(first, point, five) == pytest.approx(9.75)


def test_token_with_its_space():
    # .5*8 + .5*6 = 7
    alternatives = {" 8": 0.5, " 6": 0.3, "6": 0.2}
    assert expect(token(" 8", **alternatives), before=("[A1]", " Foo:")) == pytest.approx(7.0)


def test_without_alternatives_the_digit_is_certain():
    assert expect(Token("8", -0.3)) == pytest.approx(8.0)


def test_score_inside_a_larger_token_tells_nothing():
    assert expect(token(" 8/10", **{" 8/10": 0.5, " 7": 0.5}), before=("[A1]", " Foo:"), after=(" — x",)) is None


def test_unscored_slot_has_no_expectation():
    assert expect(token("11", **{"11": 0.5, "9": 0.5})) is None
    tokens = [Token("[A2] Bar: ", 0.0), Token("5", 0.0), Token("/10", 0.0)]
    assert expected_scores(("Foo", "Bar"), tokens) == [None, 5.0]
    assert expected_scores(NAMES, []) == [None]


def test_each_slot_finds_its_own_tokens():
    content = []
    for text, top in [
        ("[A2] Bar 3: ", {}), ("4", {"4": 0.5, "5": 0.5}), ("/10 — 7/10 of it\n", {}),
        ("[A1] Foo: ", {}), ("9", {"9": 0.75, "8": 0.25}), ("/10 — x", {}),
    ]:  # fmt: skip
        top_logprobs = [{"token": t, "logprob": log(p)} for t, p in top.items()]
        content.append({"token": text, "logprob": log(0.5), "top_logprobs": top_logprobs})
    text = "".join(t["token"] for t in content)
    body = {"choices": [{"message": {"content": text}, "logprobs": {"content": content}, "finish_reason": "stop"}]}
    tokens = Reply.from_completion(body).tokens
    assert expected_scores(("Foo", "Bar 3"), tokens) == pytest.approx([8.75, 4.5])


def test_judgement_keeps_its_digits():
    tokens = [Token("[A1] Foo: ", 0.0), token("8", **{"8": 0.5, "7": 0.5}), Token("/10 — x\n[A2] Bar: none", 0.0)]
    text = "".join(t.text for t in tokens)
    judgement = parse_reply(text, ("Foo", "Bar")).judgement("r", "s")
    mean = with_expected_scores(judgement, ("Foo", "Bar"), tokens)
    assert isinstance(mean, Judgement)
    assert mean.scores == (pytest.approx(7.5), None)
    assert mean.raw_scores == (8, None)
    assert mean.missing == judgement.missing


def test_tokens_that_say_something_else_change_nothing():
    judgement = parse_reply("[A1] Foo: 8/10 — x", NAMES).judgement("r", "s")
    tokens = [Token("[A1] Foo: ", 0.0), token("7", **{"7": 0.5, "6": 0.5}), Token("/10 — x", 0.0)]
    assert with_expected_scores(judgement, NAMES, tokens).scores == (8,)
