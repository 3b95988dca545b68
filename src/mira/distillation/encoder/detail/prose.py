"""What prose is made of: sentences, words, paragraphs, repetition; counted, not understood."""

import re
from collections import Counter
from itertools import pairwise

import numpy as np

from mira.distillation.unspaced import is_unspaced, plain_marks, words

__all__ = ["PROSE", "prose"]

_SENTENCE = re.compile(r"(?<=[.!?])\s+(?=[A-Z(\"'`])|\n\s*\n")
_WORD = re.compile(r"[^\W\d_]+(?:'[a-z]+)?")
_COMMON = frozenset(
    """
    the of and to a in is that for it as was with be by on not he i this are or his from at which but have an they you
    were her she all their has we been would there who will more no if out so what up when its about into them than only
    other can some could these two may then do first any my now such like our over me even most made after also did many
    before must through
    """.split()  # noqa: SIM905
)
_LISTS: dict[str, frozenset[str]] = {
    name: frozenset(text.split())
    for name, text in {
        "connector": "however moreover furthermore therefore thus hence although though whereas while meanwhile "
        "besides additionally consequently nevertheless otherwise instead similarly finally",
        "modal": "can could may might must shall should will would cannot",
        "hedge": "maybe perhaps probably likely possibly usually often sometimes generally seems appears roughly about",
        "negation": "not no never none neither nor without cannot don't doesn't isn't aren't won't can't didn't wasn't",
        "intensifier": "very really extremely highly quite so too absolutely completely totally",
        "first": "i me my mine we us our ours",
        "second": "you your yours",
        "third": "he she they them their his her it its",
        "definite": "the this that these those",
        "verb": "use run add set get make see install call create check return write read note ensure provide open "
        "click select enter start build define import update change remove fix specify pass given let try",
    }.items()
}
_MARKS = {
    "comma": r",", "semicolon": r";", "colon": r":(?=\s)", "dash": r"\s[-–—]\s", "parenthesis": r"\([^()\n]{2,}\)",
    "ellipsis": r"\.\.\.|…", "exclamation": r"!(?=\s|$)", "emphasis": r"\*\*[^*\n]+\*\*|__[^_\n]+__",
    "passive": r"\b(?:is|are|was|were|been|being|be) \w+ed\b", "capitals": r"\b[A-Z]{2,}\b",
    "unit": r"\b\d+(?:\.\d+)? ?(?:%|ms|s|kb|mb|gb|px|k|m|x|hours?|minutes?|seconds?|days?)\b",
}  # fmt: skip
_PATTERNS = {name: re.compile(pattern, re.IGNORECASE if name == "unit" else 0) for name, pattern in _MARKS.items()}
_HEADING = re.compile(r"^(#{1,6}) \S", re.MULTILINE)
_ENDS = re.compile(r"[.!?:;]$")

PROSE = (
    "sentences", "sentence_words", "sentence_sd", "sentence_longest", "sentences_short", "sentences_long",
    "sentences_verb_first", "sentences_same_start", "word_chars_sd", "long_words", "common", "words_once",
    "word_entropy", "char_entropy", "pairs_repeated", "triples_repeated", "windowed_variety",
    "paragraphs", "paragraph_words", "paragraph_sd", "paragraphs_one_line", "paragraphs_closed", "paragraphs_repeated",
    "heading_depth", "heading_levels", "first_line_chars", "last_line_chars", "line_ends_closed",
    *(f"words_{name}" for name in _LISTS),
    *(f"marks_{name}" for name in _PATTERNS),
)  # fmt: skip
"""Names of the features, in order."""


def prose(text: str) -> list[float]:
    """Return features of the prose of a text, all finite: shares, rates per word, and logs of counts."""
    unspaced = is_unspaced(text)
    marked = plain_marks(text) if unspaced else text
    found = [w.lower() for w in (words(text) if unspaced else _WORD.findall(text))]
    values = {**_sentences(marked), **_words(found, text), **_paragraphs(marked)}
    counts = Counter(found)
    values |= {f"words_{n}": sum(counts[w] for w in of) / max(len(found), 1) for n, of in _LISTS.items()}
    rate = 100 / max(len(found), 20)
    values |= {f"marks_{n}": float(np.log1p(rate * sum(1 for _ in p.finditer(marked)))) for n, p in _PATTERNS.items()}
    return [values[name] for name in PROSE]


def _log(count: float) -> float:
    return float(np.log1p(count))


def _sentences(text: str) -> dict[str, float]:
    found = [p for piece in _SENTENCE.split(text) if (p := piece.strip())]
    own = [_WORD.findall(piece) for piece in found]
    own = [w for w in own if w] or [[""]]
    lengths = np.array([len(w) for w in own], dtype=np.float64)
    starts = [w[0].lower() for w in own]
    return {
        "sentences": _log(len(own)),
        "sentence_words": _log(lengths.mean()),
        "sentence_sd": _log(lengths.std()),
        "sentence_longest": _log(lengths.max()),
        "sentences_short": float((lengths < 5).mean()),
        "sentences_long": float((lengths > 30).mean()),
        "sentences_verb_first": sum(s in _LISTS["verb"] for s in starts) / len(starts),
        "sentences_same_start": 1 - len(set(starts)) / len(starts),
    }


def _words(found: list[str], text: str) -> dict[str, float]:
    n = max(len(found), 1)
    lengths = np.array([min(len(w), 30) for w in found] or [0], dtype=np.float64)
    counts = Counter(found)
    pairs = list(pairwise(found))
    triples = list(zip(found, found[1:], found[2:], strict=False))
    windows = [found[i : i + 50] for i in range(0, max(len(found) - 49, 1), 50)]
    return {
        "word_chars_sd": float(lengths.std()),
        "long_words": float((lengths > 9).mean()),
        "common": sum(counts[w] for w in _COMMON) / n,
        "words_once": sum(c == 1 for c in counts.values()) / n,
        "word_entropy": _entropy(counts),
        "char_entropy": _entropy(Counter(text)),
        "pairs_repeated": 1 - len(set(pairs)) / max(len(pairs), 1) if pairs else 0.0,
        "triples_repeated": 1 - len(set(triples)) / max(len(triples), 1) if triples else 0.0,
        "windowed_variety": float(np.mean([len(set(w)) / max(len(w), 1) for w in windows])),
    }


def _entropy(counts: "Counter[str]") -> float:
    shares = np.array(list(counts.values()), dtype=np.float64)
    shares /= max(shares.sum(), 1)
    return float(-(shares * np.log2(np.maximum(shares, 1e-12))).sum())


def _paragraphs(text: str) -> dict[str, float]:
    found = [p for piece in re.split(r"\n\s*\n", text) if (p := piece.strip())] or [""]
    lengths = np.array([len(_WORD.findall(p)) for p in found], dtype=np.float64)
    levels = [len(m.group(1)) for m in _HEADING.finditer(text)]
    lines = [line.rstrip() for line in text.splitlines() if line.strip()] or [""]
    return {
        "paragraphs": _log(len(found)),
        "paragraph_words": _log(lengths.mean()),
        "paragraph_sd": _log(lengths.std()),
        "paragraphs_one_line": sum("\n" not in p for p in found) / len(found),
        "paragraphs_closed": sum(bool(_ENDS.search(p)) for p in found) / len(found),
        "paragraphs_repeated": 1 - len(set(found)) / len(found),
        "heading_depth": max(levels, default=0) / 6,
        "heading_levels": len(set(levels)) / 6,
        "first_line_chars": _log(len(lines[0])),
        "last_line_chars": _log(len(lines[-1])),
        "line_ends_closed": sum(bool(_ENDS.search(line)) for line in lines) / len(lines),
    }
