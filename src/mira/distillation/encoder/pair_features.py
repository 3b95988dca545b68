"""What an answer does with its question, as numbers: overlap, names used and never defined, code, lengths.

Read from a record's parts alone, the same for every source. All of it is ours.
"""

import re
from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from mira.distillation.encoder.code_names import Names, code_of, read_names
from mira.distillation.encoder.structure import STRUCTURE, structure
from mira.distillation.unspaced import is_unspaced, pairs_of_words, plain_marks

__all__ = ["PAIR", "pair_features"]

_BETWEEN = (
    "length_ratio", "words_of_question_used", "words_of_answer_known", "overlap", "pairs_of_answer_known",
    "names_of_question", "names_used", "names_used_share", "names_new", "names_new_share", "numbers_known",
    "code_share_question", "code_share_answer", "code_parsed", "code_broken", "code_statements", "code_calls",
    "code_kinds", "code_free", "code_free_known", "code_attributes_known", "code_free_unknown",
    "code_parameters_used", "returns_asked_and_given", "raises_asked_and_given",
    "answer_repeats_itself", "asks", "asks_how", "asks_why",
)  # fmt: skip
PAIR = (
    *_BETWEEN,
    *(f"question_{name}" for name in STRUCTURE),
    *(f"answer_{name}" for name in STRUCTURE),
)
"""Names of the features, in order: between the two, then the structure of each."""

READ_CHARS = 32_768
"""Of a longer question or answer, the first and last halves of this many characters are read."""
_WORD = re.compile(r"[^\W\d_]{2,}")
_NAME = re.compile(r"\b[A-Za-z_]\w*(?:_\w+|[a-z][A-Z]\w*)\b|(?<=`)[A-Za-z_]\w*(?=`)|\b[A-Za-z_]\w*(?=\()")
_NUMBER = re.compile(r"\b\d+(?:\.\d+)?\b")
_PARAMETER = re.compile(r"^[ \t]*(?:async )?def \w+\((.{0,1000}?)\)\s*(?:->[^\n]*)?:", re.MULTILINE | re.DOTALL)
_ARGUMENT = re.compile(r"(?:^|,)\s*\**([A-Za-z_]\w*)")
_RETURNS = re.compile(r"\breturn(?:s|ed)?\b|\byields?\b", re.IGNORECASE)
_HOW, _WHY = re.compile(r"\bhow\b", re.IGNORECASE), re.compile(r"\bwhy\b", re.IGNORECASE)
_HOW_CHINESE, _WHY_CHINESE = re.compile("怎么|怎样|如何"), re.compile("为什么|为何")
_RAISES = re.compile(r"\braises?\b|\bException\b|\b\w+Error\b", re.IGNORECASE)


def pair_features(question: str, answer: str) -> list[float]:
    """Return the features of a question and its answer, all finite: shares, flags, and logs of counts and ratios."""
    asked, said = _read(question), _read(answer)
    words = [pairs_of_words(t) if is_unspaced(t) else [w.lower() for w in _WORD.findall(t)] for t in (asked, said)]
    code = code_of(said)
    names = read_names(code)
    between = [*_lengths(question, answer), *_words(*words), *_names(asked, said), *_code(asked, said, code, names)]
    between += [
        _repeats(words[1]),
        float("?" in (plain_marks(asked) if is_unspaced(asked) else asked)),
        float(bool(_HOW.search(asked) or (is_unspaced(asked) and _HOW_CHINESE.search(asked)))),
        float(bool(_WHY.search(asked) or (is_unspaced(asked) and _WHY_CHINESE.search(asked)))),
    ]
    return [*between, *structure([question])[0].tolist(), *structure([answer])[0].tolist()]


def _read(text: str) -> str:
    return text if len(text) <= READ_CHARS else text[: READ_CHARS // 2] + "\n" + text[-READ_CHARS // 2 :]


def _log(count: float) -> float:
    return float(np.log1p(count))


def _share(part: float, whole: float) -> float:
    return part / whole if whole else 0.0


def _lengths(question: str, answer: str) -> list[float]:
    return [float(np.log((len(answer) + 20) / (len(question) + 20)))]


def _words(asked: Sequence[str], said: Sequence[str]) -> list[float]:
    left, right = set(asked), set(said)
    both = len(left & right)
    known = set(pairwise(asked))
    pairs = list(pairwise(said))
    return [
        _share(both, len(left)),
        _share(both, len(right)),
        _share(both, len(left | right)),
        _share(sum(p in known for p in pairs), len(pairs)),
    ]


def _names(asked: str, said: str) -> list[float]:
    left, right = set(_NAME.findall(asked)), set(_NAME.findall(said))
    numbers = set(_NUMBER.findall(said))
    new = right - left
    return [
        _log(len(left)),
        _log(len(left & right)),
        _share(len(left & right), len(left)),
        _log(len(new)),
        _share(len(new), len(right)),
        _share(len(numbers & set(_NUMBER.findall(asked))), len(numbers)),
    ]


def _code(asked: str, said: str, code: str, names: Names) -> list[float]:
    known = set(re.findall(r"[A-Za-z_]\w*", asked))
    parameters = {a for m in _PARAMETER.finditer(asked) for a in _ARGUMENT.findall(m[1])} - {"self", "cls"}
    used = {p for p in parameters if re.search(rf"\b{p}\b", said)}
    gives_back = names.kinds & {"Return"} or "yield" in code
    return [
        _share(len(code_of(asked)), len(asked)),
        _share(len(code), len(said)),
        float(bool(code) and names.parsed),
        float(bool(code) and not names.parsed),
        _log(names.statements),
        _log(names.calls),
        len(names.kinds) / 10,
        _log(len(names.free)),
        _share(len(names.free & known), len(names.free)),
        _share(len(names.attributes & known), len(names.attributes)),
        _log(len(names.free - known)),
        _share(len(used), len(parameters)) if parameters else 0.5,
        _agreeing(bool(_RETURNS.search(asked)), bool(gives_back), bool(code)),
        _agreeing(bool(_RAISES.search(asked)), "Raise" in names.kinds, bool(code)),
    ]


def _agreeing(asked: bool, given: bool, has_code: bool) -> float:
    """Return 1 where both or neither, 0 where the answer falls short, 1/2 where it gives more or has no code."""
    if not has_code or (given and not asked):
        return 0.5
    return float(given == asked)


def _repeats(said: Sequence[str]) -> float:
    runs = list(zip(said, said[1:], said[2:], strict=False))
    return 1 - _share(len(set(runs)), len(runs)) if runs else 0.0
