"""What the syntax tree of Python code says: sizes, nesting, names, documents. Code is parsed, never executed."""

import ast
import re
import textwrap
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import islice

import numpy as np

from mira.distillation.encoder.code_names import code_of

__all__ = ["SYNTAX", "syntax"]

READ_CHARS = 16_384
"""Of longer code, as many characters are parsed, up to the last line that begins a statement: one record must not hold
up the rest."""
MOST_NODES = 20_000

_KINDS: dict[str, tuple[type[ast.AST], ...]] = {
    "function": (ast.FunctionDef, ast.AsyncFunctionDef),
    "class": (ast.ClassDef,),
    "if": (ast.If, ast.IfExp, ast.Match),
    "loop": (ast.For, ast.While, ast.AsyncFor),
    "try": (ast.Try, ast.TryStar),
    "with": (ast.With, ast.AsyncWith),
    "raise": (ast.Raise,),
    "return": (ast.Return,),
    "yield": (ast.Yield, ast.YieldFrom, ast.Await),
    "assert": (ast.Assert,),
    "import": (ast.Import, ast.ImportFrom),
    "assign": (ast.Assign, ast.AnnAssign, ast.AugAssign, ast.NamedExpr),
    "call": (ast.Call,),
    "attribute": (ast.Attribute,),
    "subscript": (ast.Subscript,),
    "arithmetic": (ast.BinOp, ast.UnaryOp),
    "comparison": (ast.Compare, ast.BoolOp),
    "comprehension": (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp),
    "lambda": (ast.Lambda,),
    "container": (ast.List, ast.Tuple, ast.Dict, ast.Set),
    "fstring": (ast.JoinedStr,),
    "pass": (ast.Pass,),
}
_BRANCHES = (ast.If, ast.IfExp, ast.For, ast.While, ast.AsyncFor, ast.ExceptHandler, ast.BoolOp, ast.comprehension)
_SCOPES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Module)
_PROMPT = re.compile(r"^[ \t]*(?:>>>|\.\.\.) ?(.*)$", re.MULTILINE)

SYNTAX = (
    "parsed", "parsed_fence", "parsed_prompt", "broken", "nodes", "statements", "statements_top", "expression_share",
    "depth", "depth_mean", "nesting", "nesting_mean", "node_kinds",
    *(f"nodes_{name}" for name in _KINDS),
    "function_lines", "function_lines_most", "branches", "branches_most", "arguments", "arguments_most", "defaults",
    "annotated", "annotated_returns", "decorated", "documented", "documented_module", "docstring_chars",
    "methods", "private", "tests", "asserts_a_test",
    "names", "names_distinct", "name_chars", "names_short", "names_free", "names_unused", "constants", "magic_numbers",
    "string_chars", "statements_repeated", "calls_distinct", "call_arguments", "keyword_share",
)  # fmt: skip
"""Names of the features, in order."""


def syntax(text: str) -> list[float]:
    """Return features of the Python code in a text, all finite: flags, shares, and logs of counts.

    The whole text is read where it parses, else its fences, else its prompts; all features are 0 where none does.
    """
    where, tree = _parse(text)
    found = dict.fromkeys(SYNTAX, 0.0)
    if where:
        found[where] = 1.0
    if tree is not None:
        found |= _tree(tree)
        found |= _functions(tree)
        found |= _names(tree)
    return [found[name] for name in SYNTAX]


def _parse(text: str) -> tuple[str, ast.Module | None]:
    for where, code in (
        ("parsed", text),
        ("parsed_fence", code_of(text)),
        ("parsed_prompt", "\n".join(_PROMPT.findall(text))),
    ):
        tree = _tree_of(code)
        if tree is not None and _is_code(tree):
            return where, tree
    return ("broken" if re.search(r"^[ \t]*(?:def|class) \w", text, re.MULTILINE) else ""), None


def _is_code(tree: ast.Module) -> bool:
    """A line of prose may parse as a name: code has a statement other than that."""
    return any(not isinstance(n, ast.Expr) or isinstance(n.value, ast.Call | ast.Await) for n in tree.body)


def _tree_of(code: str) -> ast.Module | None:
    if not code.strip():
        return None
    if len(code) > READ_CHARS:
        starts = [m.start() for m in re.finditer(r"^(?=[A-Za-z@])", code[:READ_CHARS], re.MULTILINE)]
        code = code[: starts[-1]] if len(starts) > 1 else ""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # other people's escapes
            return ast.parse(textwrap.dedent(code))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def _log(count: float) -> float:
    return float(np.log1p(count))


def _share(part: float, whole: float) -> float:
    return part / whole if whole else 0.0


def _mean(values: Sequence[float]) -> float:
    return float(sum(values) / len(values)) if values else 0.0


def _levels(tree: ast.Module) -> Iterator[tuple[ast.AST, int, int]]:
    """Yield every node with its depth and the number of statements around it."""
    todo: list[tuple[ast.AST, int, int]] = [(tree, 0, 0)]
    while todo:
        node, depth, nesting = todo.pop()
        yield node, depth, nesting
        inside = nesting + isinstance(node, ast.stmt)
        todo.extend((child, depth + 1, inside) for child in ast.iter_child_nodes(node))


def _tree(tree: ast.Module) -> dict[str, float]:
    kinds: Counter[type[ast.AST]] = Counter()
    depths, nestings = [], []
    for node, depth, nesting in islice(_levels(tree), MOST_NODES):
        kinds[type(node)] += 1
        depths.append(depth)
        if isinstance(node, ast.stmt):
            nestings.append(nesting)
    statements = len(nestings)
    return {
        "nodes": _log(len(depths)),
        "statements": _log(statements),
        "statements_top": _log(len(tree.body)),
        "expression_share": _share(kinds[ast.Expr], statements),
        "depth": _log(max(depths)),
        "depth_mean": _log(_mean(depths)),
        "nesting": _log(max(nestings, default=0)),
        "nesting_mean": _mean(nestings),
        "node_kinds": len(kinds) / 20,
        **{f"nodes_{name}": _log(sum(kinds[kind] for kind in of)) for name, of in _KINDS.items()},
    }


def _functions(tree: ast.Module) -> dict[str, float]:
    nodes = list(islice(ast.walk(tree), MOST_NODES))
    functions = [n for n in nodes if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]
    classes = [n for n in nodes if isinstance(n, ast.ClassDef)]
    lines = [(f.end_lineno or f.lineno) - f.lineno + 1 for f in functions]
    inside = [list(islice(ast.walk(f), MOST_NODES // 10)) for f in functions]
    branches = [sum(isinstance(n, _BRANCHES) for n in found) for found in inside]
    arguments = [[*f.args.posonlyargs, *f.args.args, *f.args.kwonlyargs] for f in functions]
    own = [[a for a in found if a.arg not in ("self", "cls")] for found in arguments]
    defaults = sum(len(f.args.defaults) + sum(d is not None for d in f.args.kw_defaults) for f in functions)
    total = sum(map(len, own))
    documents = [ast.get_docstring(n, clean=False) or "" for n in (*functions, *classes)]
    tests = [found for f, found in zip(functions, inside, strict=True) if f.name.startswith("test")]
    return {
        "function_lines": _log(_mean(lines)),
        "function_lines_most": _log(max(lines, default=0)),
        "branches": _log(_mean(branches)),
        "branches_most": _log(max(branches, default=0)),
        "arguments": _log(_mean([len(a) for a in own])),
        "arguments_most": _log(max(map(len, own), default=0)),
        "defaults": _share(defaults, total),
        "annotated": _share(sum(a.annotation is not None for found in own for a in found), total),
        "annotated_returns": _share(sum(f.returns is not None for f in functions), len(functions)),
        "decorated": _share(sum(bool(f.decorator_list) for f in functions), len(functions)),
        "documented": _share(sum(map(bool, documents)), len(documents)),
        "documented_module": float(bool(ast.get_docstring(tree, clean=False))),
        "docstring_chars": _log(_mean([len(d) for d in documents if d])),
        "methods": _share(sum(isinstance(n, ast.FunctionDef) for c in classes for n in c.body), len(functions)),
        "private": _share(sum(f.name.startswith("_") for f in functions), len(functions)),
        "tests": _share(len(tests), len(functions)),
        "asserts_a_test": _log(_mean([sum(isinstance(n, ast.Assert) for n in found) for found in tests])),
    }


def _names(tree: ast.Module) -> dict[str, float]:
    loaded: Counter[str] = Counter()
    stored: set[str] = set()
    strings, numbers, constants, calls, arguments, keywords = [], 0, 0, Counter[str](), 0, 0
    for node in islice(ast.walk(tree), MOST_NODES):
        if isinstance(node, ast.Name):
            if isinstance(node.ctx, ast.Load):
                loaded[node.id] += 1
            else:
                stored.add(node.id)
        elif isinstance(node, ast.arg):
            stored.add(node.arg)
        elif isinstance(node, _SCOPES[:3]):
            stored.add(node.name)
        elif isinstance(node, ast.alias):
            stored.add((node.asname or node.name).partition(".")[0])
        elif isinstance(node, ast.Constant):
            constants += 1
            if isinstance(node.value, str):
                strings.append(len(node.value))
            elif isinstance(node.value, int | float) and node.value not in (0, 1, 2, -1):
                numbers += 1
        elif isinstance(node, ast.Call):
            calls[_called(node.func)] += 1
            arguments += len(node.args) + len(node.keywords)
            keywords += len(node.keywords)
    every = [*loaded.elements(), *stored]
    bodies = [ast.dump(n) for n in islice((n for n in ast.walk(tree) if isinstance(n, ast.Expr | ast.Assign)), 500)]
    return {
        "names": _log(len(every)),
        "names_distinct": _share(len(set(every)), len(every)),
        "name_chars": _log(_mean([len(n) for n in set(every)])),
        "names_short": _share(sum(len(n) == 1 for n in set(every)), len(set(every))),
        "names_free": _log(len(set(loaded) - stored)),
        "names_unused": _share(len(stored - set(loaded)), len(stored)),
        "constants": _log(constants),
        "magic_numbers": _log(numbers),
        "string_chars": _log(_mean(strings)),
        "statements_repeated": _share(len(bodies) - len(set(bodies)), len(bodies)),
        "calls_distinct": _share(len(calls), calls.total()),
        "call_arguments": _share(arguments, calls.total()),
        "keyword_share": _share(keywords, arguments),
    }


def _called(function: ast.expr) -> str:
    if isinstance(function, ast.Attribute):
        return function.attr
    return function.id if isinstance(function, ast.Name) else ""
