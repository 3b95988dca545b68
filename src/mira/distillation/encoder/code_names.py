"""Which names a piece of Python code defines and which it takes from elsewhere."""

import ast
import builtins
import re
import textwrap
import warnings
from dataclasses import dataclass, field

__all__ = ["Names", "code_of", "read_names"]

READ_CHARS = 16_384
"""Longer code is not parsed: one record must not hold up the rest."""
_FENCE = re.compile(r"^[ \t]*(?:```|~~~)[^\n]*\n(.*?)(?:^[ \t]*(?:```|~~~)|\Z)", re.MULTILINE | re.DOTALL)
_BUILT_IN = frozenset(dir(builtins)) | {"self", "cls"}


@dataclass(frozen=True, slots=True)
class Names:
    """Names of a piece of code.

    Attributes:
        parsed: Whether it is Python; otherwise all else is empty.
        defined: Names that it binds: assignments, imports, parameters, definitions, loops.
        free: Names that it reads and does not bind; built-in ones are left out.
        attributes: Attributes that it reads or sets.
        calls: Number of calls.
        statements: Number of statements.
        kinds: Different kinds of statements.
    """

    parsed: bool
    defined: frozenset[str] = frozenset()
    free: frozenset[str] = frozenset()
    attributes: frozenset[str] = frozenset()
    calls: int = 0
    statements: int = 0
    kinds: frozenset[str] = field(default=frozenset())


def code_of(text: str) -> str:
    """Return the fenced code of a text, blocks joined by newlines; "" if missing."""
    return "\n".join(textwrap.dedent(block) for block in _FENCE.findall(text))


def read_names(code: str) -> Names:
    """Parse Python code, which may be the body of a function and may be indented. It is never executed."""
    if not code.strip() or len(code) > READ_CHARS:
        return Names(False)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # other people's escapes
            tree = ast.parse(textwrap.dedent(code))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return Names(False)
    stored: set[str] = set()
    loaded: set[str] = set()
    attributes: set[str] = set()
    kinds: set[str] = set()
    calls = statements = 0
    for node in ast.walk(tree):
        if isinstance(node, ast.stmt):
            statements += 1
            kinds.add(type(node).__name__)
        if isinstance(node, ast.Name):
            (loaded if isinstance(node.ctx, ast.Load) else stored).add(node.id)
        elif isinstance(node, ast.Attribute):
            attributes.add(node.attr)
        elif isinstance(node, ast.arg):
            stored.add(node.arg)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            stored.add(node.name)
        elif isinstance(node, ast.alias):
            stored.add((node.asname or node.name).partition(".")[0])
        elif isinstance(node, ast.ExceptHandler) and node.name:
            stored.add(node.name)
        elif isinstance(node, ast.Call):
            calls += 1
    free = frozenset(loaded - stored - _BUILT_IN)
    return Names(True, frozenset(stored), free, frozenset(attributes), calls, statements, frozenset(kinds))
