"""Python code with one token changed: it still parses, and means something else. Code is parsed, never executed."""

import ast
import io
import re
import tokenize
import warnings
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

__all__ = ["Span", "mutant", "python_spans"]

_LONGEST = 16_384
"""Longer code is not parsed: one record must not hold up the rest."""
_TRIES = 12
_FENCE = re.compile(r"^([ \t]*)(```|~~~)[ \t]*(\w*)[^\n]*\n(.*?)^[ \t]*\2", re.MULTILINE | re.DOTALL)
_DOCTEST = re.compile(r"^[ \t]*>>> (.+)$", re.MULTILINE)
_PYTHON = frozenset({"", "python", "py", "python3", "pycon"})
_OTHER = {
    "==": "!=", "!=": "==", "<": ">=", ">=": "<", ">": "<=", "<=": ">", "+": "-", "-": "+", "*": "/", "/": "*",
    "//": "%", "%": "//", "+=": "-=", "-=": "+=", "and": "or", "or": "and", "True": "False", "False": "True",
    "min": "max", "max": "min", "any": "all", "all": "any", "break": "continue", "continue": "break",
    "startswith": "endswith", "endswith": "startswith", "lower": "upper", "upper": "lower", "append": "extend",
}  # fmt: skip
_INTEGER = re.compile(r"[0-9]+")


class Span(NamedTuple):
    """Where Python code stands in a text."""

    start: int
    stop: int


def python_spans(text: str) -> list[Span]:
    """Return where a text holds Python code: in fences, after the prompt of a session, or all of it.

    Only code that parses counts. What is indented as the body of a function counts, too.
    """
    fenced = [Span(m.start(4), m.end(4)) for m in _FENCE.finditer(text) if m[3].lower() in _PYTHON]
    found = fenced or [Span(m.start(1), m.end(1)) for m in _DOCTEST.finditer(text)]
    if not found and _statements(text) > 1:
        found = [Span(0, len(text))]
    return [span for span in found if _parsed(text[span.start : span.stop]) is not None]


def mutant(code: str, rng: np.random.Generator) -> str | None:
    """Return code with one operator, constant or name changed, chosen by chance, that parses to something else.

    Returns:
        The mutant; None if no change of a single token gives one.
    """
    before = _parsed(code)
    if before is None:
        return None
    places = list(_places(code))
    for at in rng.permutation(len(places))[:_TRIES]:
        start, stop, instead = places[at]
        made: str = code[:start] + instead + code[stop:]
        if _parsed(made) not in (None, before):
            return made
    return None


def _wrapped(code: str) -> str:
    """Put code that is indented, as the body of a function is, under a line that allows that."""
    first = next((line for line in code.splitlines() if line.strip()), "")
    return f"if 1:\n{code}" if first[:1] in (" ", "\t") else code


def _tree(code: str) -> ast.Module | None:
    if not code.strip() or len(code) > _LONGEST:
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # other people's escapes
            return ast.parse(_wrapped(code))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def _parsed(code: str) -> str | None:
    """Return what code parses to; None if it does not parse."""
    tree = _tree(code)
    try:
        return None if tree is None else str(ast.dump(tree))
    except RecursionError:
        return None


def _statements(code: str) -> int:
    tree = _tree(code)
    return 0 if tree is None else len(tree.body)


def _places(code: str) -> Iterator[tuple[int, int, str]]:
    """Yield start, end and replacement of every token that can be changed."""
    wrapped = _wrapped(code)
    added = len(wrapped) - len(code)
    starts = [0]
    for line in io.StringIO(wrapped, newline=""):
        starts.append(starts[-1] + len(line))
    try:
        tokens = list(tokenize.generate_tokens(io.StringIO(wrapped, newline="").readline))
    except (tokenize.TokenError, SyntaxError):
        return
    for token in tokens:
        instead = _instead(token)
        row, column = token.start
        at = starts[row - 1] + column - added
        if instead and at >= 0 and code[at : at + len(token.string)] == token.string:
            yield at, at + len(token.string), instead


def _instead(token: tokenize.TokenInfo) -> str | None:
    if token.type == tokenize.NUMBER:
        return str(int(token.string) + 1) if _INTEGER.fullmatch(token.string) and len(token.string) < 10 else None
    return _OTHER.get(token.string) if token.type in (tokenize.OP, tokenize.NAME) else None
