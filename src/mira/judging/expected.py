"""Expected scores: the mean over the probabilities of a score's tokens, which ranks better than the sampled digit.

At a score's place the endpoint's likeliest tokens give a distribution over numbers. With v the integer parts, f the
expected fraction, and all probabilities rescaled to the tokens that are numbers in [0, 10]::

    E = sum over v < 10 of P(v) (v + f)  +  10 P(10)

- **"10" as two tokens.** Where the reply says "1", P(10) = P("1") P("0" | "1"): the next token's alternatives tell.
  Where the reply says another digit, what would follow a "1" was never computed; all of its mass counts as 10 when the
  digit said is 6 or more and as 1 otherwise, for a judge's doubt is about neighbours (ours). With a tokenizer that
  writes "10" as one token, "1" is 1.
- **Halves.** f is taken given the integer part that was said: f = P("." | v) times the mean of the fraction's digit.
  Where the reply has no fraction but "." was likely, the fraction is .5, the only one the prompt allows (ours).
- A place whose alternatives hold no number keeps its digit.
"""

import math
import re
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import accumulate
from typing import NamedTuple

from mira.judging.grammar.normalise import flatten
from mira.judging.grammar.reply import locate_scores
from mira.llm.responses.reply import Token
from mira.rubric.judgement import Judgement

__all__ = ["expected_scores", "with_expected_scores"]

_HALF = 0.5
_SAYS_TEN = 6  # a digit from which on an unexplored "1" is read as the start of "10"


def expected_scores(names: Sequence[str], tokens: Sequence[Token], *, truncated: bool = False) -> list[float | None]:
    """Return one expected score in [0, 10] a slot; None where the slot is not scored or its tokens tell nothing.

    Args:
        names: Dimension names in rubric order.
        tokens: All tokens of the reply, in order, with the likeliest alternatives at each place.
        truncated: The reply ended at its token limit.
    """
    return [mean for _, mean in _read(names, tokens, truncated=truncated)]


def with_expected_scores(
    judgement: Judgement, names: Sequence[str], tokens: Sequence[Token], *, truncated: bool = False
) -> Judgement:
    """Return `judgement` with expected scores if any, and its digits in `raw_scores`.

    A slot keeps its digit where the tokens do not say that digit: some servers report the tokens of thinking that is
    no part of the reply.
    """
    read = _read(names, tokens, truncated=truncated)
    scores = tuple(
        mean if mean is not None and said == digit else digit
        for digit, (said, mean) in zip(judgement.scores, read, strict=True)
    )
    if all(mean is None or said != digit for digit, (said, mean) in zip(judgement.scores, read, strict=True)):
        return judgement  # no token tells of a score: these stay digits, and `raw_scores` empty
    return replace(judgement, scores=scores, raw_scores=judgement.scores)


def _read(names: Sequence[str], tokens: Sequence[Token], *, truncated: bool) -> list[tuple[float | None, float | None]]:
    """Return (the number said, the expected score) a slot."""
    text = "".join(token.text for token in tokens)
    starts = list(accumulate((len(token.text) for token in tokens), initial=0))
    wide = any(re.search("[0-9]{2}", t) for token in tokens for t in (token.text, *(text for text, _ in token.top)))
    read: list[tuple[float | None, float | None]] = []
    for place in locate_scores(text, names, truncated=truncated):
        if place is None:
            read.append((None, None))
            continue
        said = float(flatten(text[slice(*place)]).replace(",", "."))
        read.append((said, _expected(tokens, _Place(*place, starts), ten_is_one_token=wide)))
    return read


class _Place(NamedTuple):
    """Where a score's digits stand in the joined tokens, and where each token starts."""

    start: int
    end: int
    starts: Sequence[int]


def _expected(tokens: Sequence[Token], place: _Place, *, ten_is_one_token: bool) -> float | None:
    first = bisect_right(place.starts, place.start) - 1
    lead = place.start - place.starts[first]
    said = flatten(tokens[first].text)[lead : lead + place.end - place.start]
    numbers = _numbers(tokens[first], lead)
    if said not in numbers:
        return None
    following = tokens[first + 1] if first + 1 < len(tokens) else Token("", 0.0)
    ones = numbers.pop("1", 0.0)
    if ones and not ten_is_one_token:
        ten = _share(following, "0") if said == "1" else float(float(said) >= _SAYS_TEN)
        numbers["10"] = numbers.get("10", 0.0) + ones * ten
        ones *= 1 - ten
    if ones:
        numbers["1"] = ones
    fraction = _fraction(tokens, first + 1) if len(said) == 1 and not following.text.startswith("0") else 0.0
    total = sum(numbers.values())
    if not total > 0:
        return None
    return sum(p * _with_fraction(float(v), fraction) for v, p in sorted(numbers.items())) / total


def _with_fraction(value: float, fraction: float) -> float:
    return value + fraction if value < 10 and value.is_integer() else value


def _is_number(text: str) -> bool:
    return bool(re.fullmatch(r"[0-9]|10|[0-9]\.[0-9]+|10\.0+", text))


def _numbers(token: Token, lead: int) -> dict[str, float]:
    """Return number -> probability at a token's place, of those alternatives that start with the same `lead`."""
    found: dict[str, float] = {}
    for text, probability in _alternatives(token).items():
        # " 8" and "8" are one answer: the space belongs to the separator before it.
        number = flatten(text[lead:] if text[:lead] == token.text[:lead] else text).strip()
        if _is_number(number):
            found[number] = found.get(number, 0.0) + probability
    return found


def _alternatives(token: Token) -> dict[str, float]:
    """Return text -> probability; the token itself is always among them."""
    likely: Mapping[str, float] = {token.text: token.logprob, **dict(token.top)}
    return {text: math.exp(min(logprob, 0.0)) for text, logprob in likely.items()}


def _share(token: Token, start: str) -> float:
    """Return the probability that the text at a token's place starts with `start`, among its known alternatives."""
    likely = _alternatives(token)
    total = sum(likely.values())
    return sum(p for text, p in likely.items() if flatten(text).startswith(start)) / total if total else 0.0


def _fraction(tokens: Sequence[Token], after: int) -> float:
    """Return the expected fraction in [0, 1), given the integer part that was said."""
    if after >= len(tokens):
        return 0.0
    point = _share(tokens[after], ".")
    match = re.match(r"\.([0-9]?)", flatten(tokens[after].text))
    if not match:
        return point * _HALF
    if match[1]:
        return point * int(match[1]) / 10
    digits = _alternatives(tokens[after + 1]) if after + 1 < len(tokens) else {}
    known = {text[0]: 0.0 for text in digits if text[:1].isdecimal()}
    for text, probability in digits.items():
        if text[:1] in known:
            known[text[0]] += probability
    total = sum(known.values())
    mean = sum(int(digit) / 10 * p for digit, p in known.items()) / total if total else _HALF
    return point * mean
