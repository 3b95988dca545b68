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
    assert tokens == {"texts": 2, "too_short": 1, "ngrams": grams, "common": 0, "only_common": 0, "records": 3}
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


NOTICES = {
    "en": "permission is hereby granted free of charge to any person obtaining a copy of this software and its files",
    "zh": "特此免费授予任何获得本软件及其相关文档文件副本的人不受限制地处理本软件的权利",
    "th": "อนุญาตให้บุคคลใดก็ตามที่ได้รับสำเนาของซอฟต์แวร์นี้ใช้งานได้โดยไม่มีค่าใช้จ่าย",
    "km": "ការអនុញ្ញាតត្រូវបានផ្តល់ជូនដោយឥតគិតថ្លៃដល់បុគ្គលណាម្នាក់ដែលទទួលបានច្បាប់ចម្លង",
}


def question(i):
    return f"how many of the {i} apples that tom{i} had this morning are left if he gave {i % 7} to his sister"


@pytest.mark.parametrize(("texts", "shared"), [(100, 100), (100, 50), (8, 8), (3, 3)])
def test_a_notice_that_many_texts_of_a_benchmark_share_is_not_looked_for(tmp_path, texts, shared):
    records = {f"notice_{k}": f"Some text of its own. {notice}. And an end." for k, notice in NOTICES.items()}
    records |= {f"leak{i}": f"An exercise: {question(i)}?" for i in range(3)}
    world = World(tmp_path, {"s": [records]})
    every = " \n ".join(NOTICES.values())
    lines = [{"q": question(i), "notice": every if i < shared else ""} for i in range(texts)]
    summary = bench(world, ("b", world.benchmark("b.jsonl", *lines), []))
    assert set(world.column("contaminated_by")) == {"s/leak0", "s/leak1", "s/leak2"}
    assert summary["benchmarks"]["b"]["common"] > 0
    assert summary["benchmarks"]["b"]["only_common"] == 0
    bench(world, ("b", world.benchmark("b.jsonl", *lines), []), common_texts=0)
    assert len(world.column("contaminated_by")) == 3 + len(NOTICES)


def test_a_passage_of_few_questions_and_a_text_that_is_there_many_times_are_looked_for(tmp_path):
    world = World(tmp_path, {"s": [{"passage": OTHER, "copy": QUESTION}]})
    lines = [{"q": question(i), "p": OTHER if i < 8 else ""} for i in range(40)] + [{"q": QUESTION}] * 60
    summary = bench(world, ("b", world.benchmark("b.jsonl", *lines), []))
    assert set(world.column("contaminated_by")) == {"s/passage", "s/copy"}
    assert summary["benchmarks"]["b"]["common"] == 0


def test_texts_of_nothing_but_common_ngrams_are_counted(tmp_path):
    world = World(tmp_path, {"s": [{"a": QUESTION}]})
    lines = [{"q": f"{QUESTION} {'very ' * i}"} for i in range(20)]
    counts = bench(world, ("b", world.benchmark("b.jsonl", *lines), []))["benchmarks"]["b"]
    assert (counts["only_common"], counts["common"]) == (10, 13)  # of 20 texts, more than 10 share up to 9 times "very"
    assert world.column("contaminated_by") == {}
