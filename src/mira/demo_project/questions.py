"""RatingJob with answers: functions by their docstrings, and documentation whose title asks a question."""

import ast
import re
from collections.abc import Iterable, Iterator
from itertools import pairwise
from pathlib import PurePosixPath
from typing import Any

from mira.demo_project.corpus import is_underline
from mira.demo_project.sessions import Definition

__all__ = ["doc_questions", "docstring_to_code"]

SHORTEST_DOC = 60
"""Characters that a docstring needs to say what a function does."""
FEWEST_LINES = 3
"""Lines of a function's body."""
QUESTION = re.compile(r"^(how|why|what|when|where|which|who|can|could|does|do|did|is|are|should|will|i'm|my)\b.*", re.I)


def docstring_to_code(
    package: str, path: PurePosixPath, text: str, definitions: Iterable[Definition]
) -> Iterator[dict[str, Any]]:
    """Yield one record a function: its signature and docstring, and the body that its authors wrote."""
    lines = text.split("\n")
    for node in definitions:
        if isinstance(node, ast.ClassDef):
            continue
        doc = ast.get_docstring(node, clean=False)
        if not doc or len(doc) < SHORTEST_DOC or len(node.body) < 2:
            continue
        first, last = min([node.lineno, *(d.lineno for d in node.decorator_list)]), node.body[0].end_lineno
        head = "\n".join(lines[first - 1 : last])
        body = "\n".join(lines[last : node.end_lineno])
        if len(body.strip().split("\n")) < FEWEST_LINES:
            continue
        task = f"Write the body of `{node.name}` in `{path.as_posix()}` of the package `{package}`."
        yield {
            "question": f"{task}\n\n```python\n{head}\n```",
            "answer": f"```python\n{body.rstrip()}\n```",
            "meta": {"package": package, "path": path.as_posix(), "section": node.name},
        }


def doc_questions(package: str, path: PurePosixPath, text: str) -> Iterator[dict[str, Any]]:
    """Yield one record for each section of a document whose title is a question."""
    lines = text.split("\n")
    heads = [i - 1 for i in range(1, len(lines)) if is_underline(lines[i], lines[i - 1])]
    for start, stop in pairwise([*heads, len(lines)]):
        title = lines[start].strip()
        body = "\n".join(lines[start + 2 : stop]).strip()
        body = re.sub(r"\n\.\. _[^\n]+:\s*\Z", "", body).strip()  # the next section's label
        asks = title.endswith("?") or (QUESTION.match(title) and len(title.split()) >= 3)
        if asks and body:
            yield {
                "question": f"{title}\n\n(about the Python package `{package}`)",
                "answer": body,
                "meta": {"package": package, "path": path.as_posix(), "section": title},
            }
