"""Mutants of Python code: they parse, mean something else, and differ by one token."""

import ast

import numpy as np
import pytest

from mira.evaluation.mutants import mutant, python_spans

BODY = "    for i in range(3):\n        if i == 1 and True:\n            return min(i, 2)\n"


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_a_mutant_parses_to_something_else_and_differs_in_one_token() -> None:
    found = {mutant(BODY, rng(seed)) for seed in range(40)}
    assert BODY not in found and None not in found and len(found) > 4
    for made in found:
        ast.parse(f"def f():\n{made}")
        assert sum(a != b for a, b in zip(made.split(), BODY.split(), strict=True)) == 1
    assert mutant(BODY, rng(3)) == mutant(BODY, rng(3))


@pytest.mark.parametrize("code", ["", "x", "a = '1 == 2'", "not python at all", "(" * 5000, "\0", "# 1 == 2\nx = y"])
def test_code_without_a_token_to_change_or_that_does_not_parse(code: str) -> None:
    assert mutant(code, rng()) is None


def test_comments_and_strings_stay() -> None:
    code = '"""1 == 2"""  # 3 == 4\nx = 1 == 2\n'
    for seed in range(10):
        made = mutant(code, rng(seed))
        assert made is not None and made.startswith('"""1 == 2"""  # 3 == 4\n')


def test_code_is_found_in_fences_sessions_and_as_the_whole_text() -> None:
    fenced = f"Do so:\n\n```python\n{BODY}```\n\n```bash\nls == 1\n```\n"
    (span,) = python_spans(fenced)
    assert fenced[span.start : span.stop] == BODY
    session = "An example:\n\n>>> 1 + 1\n2\n>>> broken (\n"
    (span,) = python_spans(session)
    assert session[span.start : span.stop] == "1 + 1"
    assert python_spans("import a\nb = a.c(1)\n") == [(0, 20)]
    assert python_spans("Prose has words and no code.") == []


def test_code_is_never_executed(tmp_path) -> None:
    trap = tmp_path / "trap"
    code = f"import pathlib\npathlib.Path({str(trap)!r}).touch()\nx = 1 + 1\n"
    assert mutant(code, rng()) and python_spans(code)
    assert not trap.exists()
