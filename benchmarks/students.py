"""Records per second on one core: encoder students by length of the record, beside a linear model on hashed n-grams.

    python benchmarks/students.py [--records 200] [--labels 300] [--json FILE]
    python benchmarks/students.py --train 100000 [--json FILE]

The second form trains one student on that many labels, as `mira distill` does, and prints its time and peak memory.

Texts are cut out of the Python standard library, so that everyone has the same kind of text. Labels are arbitrary,
since speed does not depend on them. The linear model does what a fastText-style filter does: hash word n-grams, one
layer.
"""

import argparse
import resource
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import orjson
import pyarrow as pa
from sklearn.feature_extraction.text import HashingVectorizer
from threadpoolctl import threadpool_limits

from mira.config.settings import DistillSettings
from mira.corpus.record import Part, Record
from mira.distillation.encoder import student as encoder
from mira.distillation.encoder.student import EncoderStudent, train_encoder
from mira.embedding import MiniLM
from mira.family import FamilyName
from mira.progress import Quiet
from mira.rubric.judgement import Judgement, judgements_table
from mira.rubric.rubric import Anchor, Reference, Rubric
from mira.rubric.slots import slot_names

LENGTHS = (500, 2_000, 8_000, 32_000)
SLOTS = 15


def records(chars: int, n: int) -> list[Record]:
    """Cut n texts of `chars` characters out of the standard library."""
    found: list[Record] = []
    for path in sorted(Path(sysconfig.get_paths()["stdlib"]).glob("*.py")):
        text = path.read_text(encoding="utf-8", errors="replace")
        for start in range(0, len(text) - chars, chars):
            found.append(Record(f"{path.stem}-{start}", "stdlib", FamilyName.TEXT, (Part("", text[start:][:chars]),)))
            if len(found) == n:
                return found
    return found


def student(folder: Path, n: int, candidate: int) -> EncoderStudent:
    """Train a student of one candidate's features on arbitrary labels."""
    texts = records(2_000, n)
    scores = np.random.default_rng(0).integers(0, 21, (len(texts), SLOTS + 1)) / 2
    judgements = [
        Judgement(r.id, r.source, tuple(map(float, row[:-1])), overall=float(row[-1]) * 10)
        for r, row in zip(texts, scores, strict=True)
    ]
    labels = judgements_table(judgements, SLOTS)
    labels = labels.append_column("n_tokens", pa.array([500] * len(texts), pa.int32()))
    labels = labels.append_column("split", pa.array(["held_out" if i % 5 == 0 else "train" for i in range(len(texts))]))
    slots = [Anchor(f"A{i}", "name", 1, Reference("r", 5.0, "reason")) for i in range(1, SLOTS + 1)]
    candidates, encoder.BLOCKS = encoder.BLOCKS, encoder.BLOCKS[candidate : candidate + 1]
    try:
        embedder = MiniLM(threads=1)
        train_encoder(labels, texts, Rubric.build("bench", slots), embedder, DistillSettings(), 0, folder, Quiet())
    finally:
        encoder.BLOCKS = candidates
    return EncoderStudent.load(folder, threads=1)


def floor() -> Callable[[Sequence[Record]], object]:
    """Hashed word 1- and 2-grams into one linear layer of 16 outputs."""
    features = HashingVectorizer(ngram_range=(1, 2), n_features=2**18, alternate_sign=False)
    weights = np.random.default_rng(0).normal(size=(2**18, SLOTS + 1)).astype(np.float32)
    return lambda batch: features.transform([r.text for r in batch]) @ weights


def rate(score: Callable[[Sequence[Record]], object], batch: Sequence[Record]) -> float:
    """Return records per second: the better of two passes over `batch`."""
    score(batch[:8])
    best = float("inf")
    for _ in range(2):
        started = time.perf_counter()
        score(batch)
        best = min(best, time.perf_counter() - started)
    return len(batch) / best


class Excerpts:
    """n records of 1,000 to 3,000 characters of the standard library, made anew on every pass over them."""

    def __init__(self, n: int) -> None:
        paths = sorted(Path(sysconfig.get_paths()["stdlib"]).glob("*.py"))
        self._text = "\n".join(path.read_text(encoding="utf-8", errors="replace") for path in paths)
        random = np.random.default_rng(0)
        self._lengths = random.integers(1_000, 3_001, n)
        self._starts = random.integers(0, len(self._text) - 3_000, n)

    def __iter__(self) -> Iterator[Record]:
        for i, (start, length) in enumerate(zip(self._starts.tolist(), self._lengths.tolist(), strict=True)):
            parts = (Part("", self._text[start : start + length]),)
            yield Record(f"{i:06d}", f"source_{i % 5}", FamilyName.TEXT, parts)


WORDS = (
    "def ",
    "self",
    "import",
    "return",
    "#",
    '"""',
    "if ",
    "for ",
    "raise",
    "class ",
    "=",
    "(",
    "[",
    ".",
    "the ",
    "_",
)


def train(n: int, folder: Path) -> dict[str, object]:
    """Train a student on n labels: how often a word occurs, with noise. Return what it took."""
    texts, noise = Excerpts(n), np.random.default_rng(1).normal(0, 1, (n, len(WORDS)))
    counts = np.array([[np.log1p(record.text.count(word)) for word in WORDS] for record in texts])
    scores = np.round(np.clip(5 + 2 * (counts - counts.mean(0)) + noise, 0, 10) * 2) / 2
    scores[:, -1] *= 10
    table = {"id": [r.id for r in texts], "source": [r.source for r in texts]}
    table |= {name: scores[:, j] for j, name in enumerate([*slot_names(SLOTS), "overall"])}
    table["split"] = ["held_out" if i % 5 == 0 else "train" for i in range(n)]
    slots = [Anchor(f"A{i}", "name", 1, Reference("r", 5.0, "reason")) for i in range(1, SLOTS + 1)]
    before, cpu, started = _peak_mb(), time.process_time(), time.perf_counter()
    trained = train_encoder(
        pa.table(table), texts, Rubric.build("bench", slots), MiniLM(), DistillSettings(), 0, folder, Quiet()
    )
    return {
        "labels": n,
        "seconds": round(time.perf_counter() - started, 1),
        "cpu_seconds": round(time.process_time() - cpu, 1),
        "peak_mb": round(_peak_mb()),
        "peak_mb_before": round(before),
        "features": trained["features"],
        "rho_held_out": round(trained["held_out"]["rho"], 3),
    }


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3)


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=200)
    parser.add_argument("--labels", type=int, default=300)
    parser.add_argument("--train", type=int, metavar="LABELS", help="train one student instead, on so many labels")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    if arguments.train:
        with tempfile.TemporaryDirectory() as folder:
            trained = train(arguments.train, Path(folder) / "student")
        print(*(f"{name}: {value}" for name, value in trained.items()), sep="\n")
        if arguments.json:
            arguments.json.write_bytes(orjson.dumps(trained, option=orjson.OPT_INDENT_2))
        return
    with threadpool_limits(1), tempfile.TemporaryDirectory() as folder:
        names = [b.name for b in encoder.BLOCKS]
        students = {n: student(Path(folder) / n, arguments.labels, i).predict for i, n in enumerate(names)}
        rows = []
        for name, score in {"word n-grams, linear (floor)": floor(), **students}.items():
            speeds = {length: rate(score, records(length, arguments.records)) for length in LENGTHS}
            rows.append({"student": name, "records_per_s_per_core": speeds})
            print(f"{name:32s}" + "".join(f"{speeds[length]:10,.0f}" for length in LENGTHS), flush=True)
    print(f"{'characters per record':32s}" + "".join(f"{length:10,}" for length in LENGTHS))
    if arguments.json:
        arguments.json.write_bytes(orjson.dumps(rows, option=orjson.OPT_INDENT_2 | orjson.OPT_NON_STR_KEYS))


if __name__ == "__main__":
    main()
