"""Cheap structural features of code, markup and prose: what a text looks like, not what it is about."""

import re
import zlib
from collections.abc import Callable, Sequence
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from mira.distillation.unspaced import is_unspaced, plain_marks, words

__all__ = ["LONG_WORD", "RATES", "READ_CHARS", "STRUCTURE", "rates", "structure"]

READ_CHARS = 32_768
"""A longer text is described by its first and last halves of this many characters; its length by the whole."""

LONG_WORD = 30
"""Longer words count as this long: one encoded blob must not set the scale of a feature."""

_WORD = re.compile(r"[^\W\d_]+")

_CHINESE: dict[str, re.Pattern[str]] = {
    name: re.compile(pattern, re.MULTILINE)
    for name, pattern in {
        "list_item": r"^[ \t]*(?:[一二三四五六七八九十]+|[（(][一二三四五六七八九十\d]+[)）]|\d+)[、.．)）]",
        "reason": r"因为|由于|所以|因此|从而|否则|为了|既然|于是",
        "advice": r"应该|应当|必须|避免|注意|警告|重要|不要|建议|切勿|务必",
        "example": r"例如|比如|譬如|举例|例子",
        "change": r"修复|修正|新增|增加|添加|删除|移除|更改|修改|弃用",
        "person": r"[你您我]们?",
    }.items()
}
"""What English patterns look for, in Chinese; counted only in texts of scripts without spaces."""

# Rates: matches a thousand characters, as log(1 + rate), beside the count as log(1 + n).
_PATTERNS: dict[str, re.Pattern[str]] = {
    name: re.compile(pattern, re.MULTILINE)
    for name, pattern in {
        "heading": r"^#{1,6} \S|^[=\-~^*+]{4,}$",
        "list_item": r"^[ \t]*(?:[-*+•]|\d+[.)]) ",
        "code_block": r"^```|^~~~|::$|^\.\. code",
        "inline_code": r"`[^`\n]+`",
        "role": r":\w+:`",
        "link": r"https?://|\]\(",
        "table": r"^[ \t]*\|.*\||^={3,} +={3,}",
        "prompt": r"^[ \t]*(?:>>>|\$|In \[)",
        "version": r"\bv?\d+\.\d+(?:\.\d+)*\b",
        "year": r"\b(?:19|20)\d\d\b",
        "reference": r"#\d+|:(?:issue|pull|ticket|pr):|\bCVE-\d",
        "number": r"\b\d+(?:\.\d+)?\b",
        "function": r"^[ \t]*(?:async )?(?:def|fn|func|function)\b",
        "class": r"^[ \t]*(?:class|struct|interface|impl)\b",
        "import": r"^[ \t]*(?:import|from|#include|use|require)\b",
        "decorator": r"^[ \t]*@\w",
        "assertion": r"\bassert|\bexpect\(|\braises\(",
        "docstring": r"\"\"\"|'''|/\*\*",
        "comment": r"(?:^|\s)(?:#|//) \S",
        "control": r"^[ \t]*(?:if|for|while|with|try|else|elif|except|switch|case)\b",
        "outcome": r"\b(?:return|yield|raise|throw)\b",
        "parameter": r":param|:type|Parameters|Args:|Returns|Raises",
        "annotation": r"\) ?->|\w: (?:int|str|bool|float|list|dict)\b",
        "string": r"\"[^\"\n]+\"|'[^'\n]+'",
        "call": r"\w\(",
        "dotted": r"\b\w+\.\w+",
        "directive": r"^[ \t]*\.\. \w+",
        "todo": r"\b(?:TODO|FIXME|XXX|HACK)\b",
        "reason": r"\b(?:because|since|therefore|so that|thus|hence|in order to|otherwise|instead|why)\b",
        "advice": r"\b(?:should|must|avoid|note|warning|caution|important|never|always|recommended)\b",
        "example": r"\b(?:example|e\.g\.|for instance|such as)\b",
        "change": r"\b(?:fix(?:ed|es)?|add(?:ed|s)?|remov(?:ed|es)|chang(?:ed|es)|deprecat\w+|bug\w*)\b",
        "person": r"\b(?:you|your|we|our|I)\b",
        "name": r"\b[A-Z][a-z]+ [A-Z][a-z]+\b",
        "question": r"\?",
        "sentence": r"[.!?](?:\s|$)",
        "json": r"\"\s*:\s*",
        "tag": r"</?\w+[^>\n]{0,200}>",
        "turn": r"^(?:user|assistant|system|tool|question|answer|think\w*)\b.{0,20}:",
    }.items()
}

_LITERALS: dict[str, tuple[str, ...]] = {
    "code_block": ("```", "~~~", "::", ".. code"),
    "year": ("19", "20"),
    "reference": ("#", ":issue:", ":pull:", ":ticket:", ":pr:", "CVE-"),
    "function": ("def", "fn", "func"),
    "class": ("class", "struct", "interface", "impl"),
    "import": ("import", "from", "#include", "use", "require"),
    "assertion": ("assert", "expect(", "raises("),
    "comment": ("# ", "// "),
    "outcome": ("return", "yield", "raise", "throw"),
    "annotation": ("->", ": int", ": str", ": bool", ": float", ": list", ": dict"),
    "todo": ("TODO", "FIXME", "XXX", "HACK"),
    "reason": (
        "because",
        "since",
        "therefore",
        "so that",
        "thus",
        "hence",
        "in order to",
        "otherwise",
        "instead",
        "why",
    ),
    "advice": ("should", "must", "avoid", "note", "warning", "caution", "important", "never", "always", "recommended"),
    "example": ("example", "e.g.", "for instance", "such as"),
    "change": ("fix", "add", "remov", "chang", "deprecat", "bug"),
    "person": ("you", "we", "our", "I"),
}
"""One of these is in every match of a pattern. To look for them takes a hundredth of the time."""

_SHARES: dict[str, Callable[[str], bool]] = {
    "alpha": str.isalpha,
    "upper": str.isupper,
    "digit": str.isdigit,
    "space": str.isspace,
    "non_ascii": lambda c: not c.isascii(),
    "bracket": lambda c: c in "()[]{}<>",
    "operator": lambda c: c in "=+-*/%&|^~!@$;:\\",
    "quote": lambda c: c in "\"'`",
    "underscore": lambda c: c == "_",
    "stop": lambda c: c in ".,",
}

_SHAPE = (
    "log_chars", "log_words", "log_lines", "line_mean", "line_sd", "line_longest", "blank_lines", "indented_lines",
    "distinct_lines", "word_mean", "distinct_words", "compression", "starts_lower", "ends_open", "brackets_open",
)  # fmt: skip

STRUCTURE: tuple[str, ...] = (
    *_SHAPE,
    *(f"share_{name}" for name in _SHARES),
    *(f"rate_{name}" for name in _PATTERNS),
    *(f"count_{name}" for name in _PATTERNS),
)
"""Names of the features, in order."""


def structure(texts: Sequence[str]) -> npt.NDArray[np.float32]:
    """Return structural features, (len(texts), len(STRUCTURE)), all finite; logs, shares and a mean."""
    return np.array([_row(text) for text in texts], dtype=np.float32).reshape(len(texts), len(STRUCTURE))


def _row(text: str) -> list[float]:
    read = text if len(text) <= READ_CHARS else text[: READ_CHARS // 2] + "\n" + text[-READ_CHARS // 2 :]
    unspaced = is_unspaced(read)
    marked = plain_marks(read) if unspaced else read
    counts = np.array([_count_of(name, marked) for name in _PATTERNS], dtype=np.float64)
    if unspaced:
        counts += [_count(_CHINESE[name], read) if name in _CHINESE else 0 for name in _PATTERNS]
    rates = np.log1p(counts * 1000 / max(len(read), 1))
    return [*_shape(text, read, marked, unspaced=unspaced), *_shares(read), *rates, *np.log1p(counts)]


RATES = (
    *(f"share_{name}" for name in _SHARES),
    *(f"rate_{name}" for name in _PATTERNS),
    "distinct_lines", "indented_lines", "compression",
)  # fmt: skip
"""Names of what `rates` returns, in order: features that do not grow with the text."""


def rates(text: str) -> npt.NDArray[np.float64]:
    """Return the features of a piece of text that do not grow with its length, (len(RATES),)."""
    row = dict(zip(STRUCTURE, _row(text), strict=True))
    return np.array([row[name] for name in RATES])


def _count_of(name: str, text: str) -> int:
    literals = _LITERALS.get(name)
    if literals is not None and not any(literal in text for literal in literals):
        return 0
    return _count(_PATTERNS[name], text)


def _count(pattern: re.Pattern[str], text: str) -> int:
    return sum(1 for _ in pattern.finditer(text))


def _shape(text: str, read: str, marked: str, *, unspaced: bool) -> list[float]:
    lines = read.split("\n")
    lengths = np.array([len(line) for line in lines], dtype=np.float64)
    filled = [line for line in lines if line.strip()]
    found = words(read) if unspaced else [word.lower() for word in _WORD.findall(read)]
    data = read.encode("utf-8", "replace")
    opened = sum(marked.count(c) for c in "([{") - sum(marked.count(c) for c in ")]}")
    return [
        float(np.log1p(len(text))),
        float(np.log1p(len(found))),
        float(np.log1p(len(lines))),
        float(np.log1p(lengths.mean())),
        float(np.log1p(lengths.std())),
        float(np.log1p(lengths.max())),
        1 - len(filled) / len(lines),
        sum(line[0].isspace() for line in filled) / max(len(filled), 1),
        len(set(filled)) / max(len(filled), 1),
        sum(min(len(word), LONG_WORD) for word in found) / max(len(found), 1),
        len(set(found)) / max(len(found), 1) ** 0.7,
        len(zlib.compress(data, 6)) / max(len(data), 1) ** 0.85,
        float(read.lstrip()[:1].islower()),
        float(marked.rstrip()[-1:] not in tuple(".!?)]}`'\"")),
        float(np.clip(opened, -5, 5)) / 5,
    ]


def _shares(read: str) -> list[float]:
    found, counts = np.unique(np.frombuffer(read.encode("utf-32-le", "replace"), dtype="<u4"), return_counts=True)
    if not len(found):
        return [0.0] * len(_SHARES)
    kinds = np.array([_kinds(code) for code in found.tolist()], dtype=np.int64)
    return [int(count) / int(counts.sum()) for count in counts @ kinds]


@lru_cache(maxsize=2**12)
def _kinds(code: int) -> tuple[bool, ...]:
    """Return which of the shares a character counts for."""
    return tuple(is_one(chr(code)) for is_one in _SHARES.values())
