"""Pairs for `mira evaluate --pairs`: functions of the demo beside mutants that fail their own doctests.

The functions are those of NetworkX in the demo's source `docstring_to_code`: the question is a signature with its
docstring, the answer the body that its authors wrote. A mutant has one token of the body changed and still parses. It
counts as worse only if the docstring's examples pass with the authors' body and fail with the mutant's.

The examples run in processes of their own with a time limit, on a scratch copy of the pinned distribution: this is code
of people who publish it to be run. Corpora in general are not to be run.

    python benchmarks/mutant_pairs.py mira-demo/corpus/docstring_to_code.jsonl \
        ~/.cache/mira/distributions/networkx-3.4.2.tar.gz pairs.jsonl
"""

import argparse
import json
import subprocess
import sys
import tarfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mira.evaluation.mutants import mutant, python_spans
from mira.run_folder.files import write_bytes
from mira.run_folder.scratch import scratch_folder
from mira.stats import generator

PACKAGE = "networkx"
SECONDS = 10
TRIES = 3  # mutants of one function, until one fails its examples
RUN = """
import doctest, importlib, json, os, signal, sys
import networkx as nx

def code_of(code, name):
    for inner in code.co_consts:
        if hasattr(inner, "co_name") and inner.co_name == name:
            return inner
    sys.exit(4)

def run(module, name, source):
    module = importlib.import_module(module)
    shown = getattr(module, name)
    function = getattr(shown, "orig_func", shown)
    if source:
        function.__code__ = code_of(compile(source, "mutant", "exec"), name)
    finder, names = doctest.DocTestFinder(recurse=False), {**vars(module), "nx": nx}
    runner = doctest.DocTestRunner(verbose=False, optionflags=doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS)
    for test in finder.find(function, name, module, names):
        runner.run(test, out=lambda _text: None)
    return 3 if not runner.tries else 1 if runner.failures else 0

for line in sys.stdin:
    child = os.fork()
    if not child:
        status = 4
        signal.alarm(SECONDS)
        try:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            status = run(*json.loads(line))
        finally:
            os._exit(status)
    _, status = os.waitpid(child, 0)
    print(-1 if os.WIFSIGNALED(status) else os.WEXITSTATUS(status), flush=True)
"""


class Runner:
    """Runs the examples of functions, each in a process of its own, forked from one that has imported the package."""

    def __init__(self, folder: Path) -> None:
        script = RUN.replace("SECONDS", str(SECONDS))
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", script], cwd=folder, stdin=pipe, stdout=pipe,
            stderr=subprocess.DEVNULL, text=True,
        )  # fmt: skip

    def outcome(self, module: str, name: str, source: str = "") -> str:
        """Run a function's examples, with its code from another source of the module if one is given.

        Returns:
            "pass", "fail", "none", "timeout", or "error" if they cannot be run.
        """
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps([module, name, source]) + "\n")
        self._process.stdin.flush()
        return {"0": "pass", "1": "fail", "3": "none", "-1": "timeout"}.get(
            self._process.stdout.readline().strip(), "error"
        )


def records(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the functions of the package whose docstring has examples."""
    for line in path.read_text(encoding="utf-8").splitlines():
        record = json.loads(line)
        if record["meta"]["package"] == PACKAGE and ">>>" in record["question"]:
            yield record


def pair_of(
    record: dict[str, Any], folder: Path, runner: Runner, seed: int, counts: Counter[str]
) -> dict[str, Any] | None:
    """Return a pair, or count why the function gives no pair."""
    path, name = record["meta"]["path"], record["meta"]["section"]
    module = path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
    spans = python_spans(record["answer"])
    before = (folder / path).read_text(encoding="utf-8")
    body = record["answer"][spans[0].start : spans[0].stop].rstrip() if spans else ""
    if not body or before.count(body) != 1:
        counts["body not found once"] += 1
        return None
    if (passed := runner.outcome(module, name)) != "pass":
        counts[f"authors' body: {passed}"] += 1
        return None
    for attempt in range(TRIES):
        changed = mutant(body, generator(seed, record["id"], attempt))
        if changed is None:
            counts["no mutant"] += 1
            return None
        found = runner.outcome(module, name, before.replace(body, changed))
        if found == "fail":
            counts["pairs"] += 1
            fields = {"question": record["question"], "answer": record["answer"]}
            worse = {**fields, "answer": record["answer"].replace(body, changed)}
            return {
                "better": fields, "worse": worse, "source": "docstring_to_code", "kind": "mutant_fails_doctest",
                "id": record["id"],
            }  # fmt: skip
        counts[f"mutant: {found}"] += 1
    counts["every mutant survived"] += 1
    return None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", type=Path, help="docstring_to_code.jsonl of the demo")
    parser.add_argument("distribution", type=Path, help="the pinned source distribution of NetworkX")
    parser.add_argument("out", type=Path, help="where the pairs go")
    parser.add_argument("--most", type=int, default=150, help="end after so many pairs")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    counts: Counter[str] = Counter()
    pairs: list[dict[str, Any]] = []
    with scratch_folder() as scratch, tarfile.open(given.distribution) as archive:
        archive.extractall(scratch, filter="data")
        (folder,) = scratch.iterdir()
        runner = Runner(folder)
        for record in records(given.corpus):
            if len(pairs) >= given.most:
                break
            counts["functions"] += 1
            if pair := pair_of(record, folder, runner, given.seed, counts):
                pairs.append(pair)
    write_bytes(given.out, "".join(json.dumps(pair) + "\n" for pair in pairs).encode())
    for what, n in sorted(counts.items()):
        print(f"{n:>5}  {what}")


if __name__ == "__main__":
    main()
