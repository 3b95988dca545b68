"""Pairs for `mira evaluate --pairs`: functions of the demo beside mutants that fail their own doctests.

The functions are those of NetworkX in the demo's source `docstring_to_code`: the question is a signature with its
docstring, the answer the body that its authors wrote. A mutant has one token of the body changed and still parses. It
counts as worse only if the docstring's examples pass with the authors' body and fail with the mutant's.

The examples run in subprocesses with a time limit, in a scratch copy of the pinned distribution: this is code of people
who publish it to be run. Corpora in general are not to be run.

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
SECONDS = 30
TRIES = 3  # mutants of one function, until one fails its examples
RUN = """
import doctest, importlib, sys
import networkx as nx
module = importlib.import_module(sys.argv[1])
found = module
for name in sys.argv[2].split("."):
    found = getattr(found, name)
found = getattr(found, "orig_func", found)
names = {**vars(module), "nx": nx}
tests = [t for t in doctest.DocTestFinder(recurse=False).find(found, sys.argv[2], module, names) if t.examples]
runner = doctest.DocTestRunner(verbose=False, optionflags=doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS)
for test in tests:
    runner.run(test, out=lambda _text: None)
sys.exit(3 if not runner.tries else 1 if runner.failures else 0)
"""


def outcome(folder: Path, module: str, name: str) -> str:
    """Run a function's examples: "pass", "fail", "none" or "timeout"."""
    command = [sys.executable, "-W", "ignore", "-c", RUN, module, name]
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, timeout=SECONDS, check=False)
    except subprocess.TimeoutExpired:
        return "timeout"
    return {0: "pass", 3: "none"}.get(done.returncode, "fail")


def records(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the functions of the package whose docstring has examples."""
    for line in path.read_text(encoding="utf-8").splitlines():
        record = json.loads(line)
        if record["meta"]["package"] == PACKAGE and ">>>" in record["question"]:
            yield record


def pair_of(record: dict[str, Any], folder: Path, seed: int, counts: Counter[str]) -> dict[str, Any] | None:
    """Return a pair, or count why the function gives no pair."""
    path, name = record["meta"]["path"], record["meta"]["section"]
    file, module = folder / path, path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
    spans = python_spans(record["answer"])
    before = file.read_text(encoding="utf-8")
    body = record["answer"][spans[0].start : spans[0].stop].rstrip() if spans else ""
    if not body or before.count(body) != 1:
        counts["body not found once"] += 1
        return None
    passed = outcome(folder, module, name)
    if passed != "pass":
        counts[f"authors' body: {passed}"] += 1
        return None
    for attempt in range(TRIES):
        changed = mutant(body, generator(seed, record["id"], attempt))
        if changed is None:
            counts["no mutant"] += 1
            return None
        file.write_text(before.replace(body, changed), encoding="utf-8")
        try:
            found = outcome(folder, module, name)
        finally:
            file.write_text(before, encoding="utf-8")
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
        for record in records(given.corpus):
            if len(pairs) >= given.most:
                break
            counts["functions"] += 1
            if pair := pair_of(record, folder, given.seed, counts):
                pairs.append(pair)
    write_bytes(given.out, "".join(json.dumps(pair) + "\n" for pair in pairs).encode())
    for what, n in sorted(counts.items()):
        print(f"{n:>5}  {what}")


if __name__ == "__main__":
    main()
