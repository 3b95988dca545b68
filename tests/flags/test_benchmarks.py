import gzip

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mira.errors import ConfigError, InputError
from support.flags_world import World

QUESTION = "write a function that returns the sum of all even numbers in a list of integers"
ANSWER = "def total(values): return sum(v for v in values if v % 2 == 0) # the even ones of them all"
OTHER = "which planet of the solar system is the one with the largest number of known moons today"


@pytest.fixture
def world(tmp_path):
    texts = {
        "leak": f"Intro. {QUESTION.upper()}!\n\nMore words follow here, none of which any benchmark has.",
        "all": QUESTION,
        "both": f"{QUESTION} {OTHER}",
        "clean": "Nothing of it is here; " + " ".join(reversed(QUESTION.split())),
        "part": " ".join(QUESTION.split()[:12]),
        "short": "sum of all",
    }
    return World(tmp_path, {"docs": [texts]})


def bench(world, *files, **flags):
    return world.flag(benchmarks=[{"name": n, "path": p, "fields": f} for n, p, f in files], **flags)


def test_records_that_share_an_ngram_are_flagged_with_the_benchmark_and_the_share(world):
    code = world.benchmark("code.jsonl", {"prompt": QUESTION, "id": OTHER}, {"prompt": "too short"})
    space = world.benchmark("space.jsonl", {"q": {"text": OTHER}})
    summary = bench(world, ("code", code, ["prompt"]), ("space", space, ["q.text"]))
    assert world.column("contaminated_by") == {
        "docs/leak": ["code"], "docs/all": ["code"], "docs/both": ["code", "space"],
    }  # fmt: skip
    grams, words = len(QUESTION.split()) - 12, len(world_words(world))
    overlap = world.column("overlap")
    assert overlap["docs/all"] == 1
    assert overlap["docs/leak"] == pytest.approx(grams / (words - 12))
    assert overlap["docs/clean"] == overlap["docs/part"] == overlap["docs/short"] == 0
    tokens = {r: t for r, t in summary["benchmarks"]["code"].items() if r != "tokens"}
    assert tokens == {"texts": 2, "too_short": 1, "ngrams": grams, "records": 3}
    assert summary["benchmarks"]["space"]["records"] == 1
    counted = summary["sources"]["docs"]
    assert counted["contaminated"]["records"] == 3
    assert counted["contaminated"]["tokens"] == summary["benchmarks"]["code"]["tokens"] < counted["records"]["tokens"]


def world_words(world):
    text = orjson.loads((world.folder / "input" / "docs" / "part_000.jsonl").read_bytes().split(b"\n")[0])["text"]
    return text.split()


def test_length_of_ngrams_and_least_overlap_are_settings(world):
    code = world.benchmark("code.jsonl", {"prompt": QUESTION})
    bench(world, ("code", code, []), ngram_words=3)
    assert set(world.column("contaminated_by")) == {"docs/leak", "docs/all", "docs/both", "docs/part", "docs/short"}
    bench(world, ("code", code, []), min_overlap=0.5)
    assert set(world.column("contaminated_by")) == {"docs/all"}


def test_every_format_and_all_strings_of_an_object(world):
    folder = world.folder
    (folder / "a.jsonl.gz").write_bytes(gzip.compress(orjson.dumps({"x": [{"y": ["no", QUESTION]}]})))
    pq.write_table(pa.table({"n": [1], "text": [OTHER]}), folder / "b.parquet")
    (folder / "c.txt").write_text(f"Title\n\n{QUESTION}\n")
    names = ["a.jsonl.gz", "b.parquet", "c.txt", "?.txt"]
    bench(world, *((name, str(folder / name), []) for name in names))
    assert world.column("contaminated_by")["docs/both"] == names


def test_benchmarks_are_read_again_when_they_change(world):
    code = world.benchmark("code.jsonl", {"prompt": OTHER})
    assert bench(world, ("code", code, []))["read"] == 1
    assert bench(world, ("code", code, []))["read"] == 0
    world.benchmark("code.jsonl", {"prompt": QUESTION})
    assert bench(world, ("code", code, []))["read"] == 1
    assert "docs/leak" in world.column("contaminated_by")
    assert bench(world, ("renamed", code, []))["benchmarks"]["renamed"]["records"] == 3


@pytest.mark.parametrize(
    ("lines", "fields", "words"),
    [
        ([b'{"text": "a"}', b"{broken"], [], r"b.jsonl:2: not JSON"),
        ([b'{"prompt": "a"}'], ["text"], r"no text in text[\s\S]*Its fields are prompt"),
        ([b"[1]"], [], r"b.jsonl:1: not a JSON object"),
    ],
)
def test_a_bad_benchmark_is_an_error_with_file_and_line(world, lines, fields, words):
    path = world.folder / "b.jsonl"
    path.write_bytes(b"\n".join(lines) + b"\n")
    with pytest.raises(InputError, match=words):
        bench(world, ("b", str(path), fields))


@pytest.mark.parametrize("name", ["gone.jsonl", "gone*.txt", "gone.txt"])
def test_a_missing_benchmark_is_named(world, name):
    with pytest.raises(InputError, match=r"flags.benchmarks: mine: .*gone"):
        bench(world, ("mine", str(world.folder / name), []))


def test_names_of_benchmarks_differ(world):
    code = world.benchmark("code.jsonl", {"prompt": QUESTION})
    with pytest.raises(ConfigError, match="a name is used twice"):
        bench(world, ("code", code, []), ("code", code, []))
