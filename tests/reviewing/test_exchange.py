import csv
from pathlib import Path

import orjson
import pytest

from mira.errors import ConfigError, InputError
from mira.reviewing.exchange import Imported, export_forms, import_forms
from mira.reviewing.journal import read_all
from support.report_project import project
from support.review_world import Review


def export(review: Review, path: Path, **more) -> list[dict]:
    export_forms(review.config.corpus, review.run, review.sample, path, **more)
    if path.suffix == ".jsonl":
        return [orjson.loads(line) for line in path.read_bytes().splitlines()]
    with path.open(encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file))


def fill(path: Path, rows: list[dict]) -> Path:
    if path.suffix == ".jsonl":
        path.write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows))
    else:
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    return path


def load(review: Review, *paths: Path, **more) -> Imported:
    return import_forms(review.run, review.sample, paths, **more)


@pytest.mark.parametrize("name", ["forms.csv", "forms.jsonl"])
def test_forms_go_out_blind_and_come_back(review: Review, tmp_path: Path, name: str) -> None:
    review.judge("bob", lambda card: "keep")
    rows = export(review, tmp_path / name)
    assert [row["id"] for row in rows] == [card.id for card in review.sample.cards]
    assert set(rows[0]) == {"place", "source", "id", "reviewer", "verdict", "note", "text"}
    assert all("record" in row["text"] and not row["verdict"] for row in rows)  # nothing of bob's
    for row in rows[:3]:
        row |= {"verdict": "Keep ", "note": "good\nlines"}
    found = load(review, fill(tmp_path / f"filled-{name}", rows), reviewer="ann")
    assert found == Imported(rows=60, new=3, blank=57)
    ann = read_all(review.run).latest("ann")
    assert [key[1] for key in ann] == [row["id"] for row in rows[:3]]
    assert {(one.verdict, one.note) for one in ann.values()} == {("keep", "good\nlines")}


def test_slots_go_out_and_come_back(review: Review, tmp_path: Path) -> None:
    rows = export(review, tmp_path / "forms.csv", slots=True)
    assert rows[0]["rubric"].startswith("A1 Name 0 plain; A2")
    rows[0] |= {"verdict": "keep", "A1": "7", "A3": "2.5", "reviewer": "ann"}
    assert load(review, fill(tmp_path / "in.csv", rows)).new == 1
    (one,) = read_all(review.run).latest("ann").values()
    assert one.scores == {"A1": 7.0, "A3": 2.5}
    again = export(review, tmp_path / "again.csv", slots=True, reviewer="ann")
    assert (again[0]["verdict"], again[0]["A1"], again[0]["reviewer"]) == ("keep", "7.0", "ann")
    assert load(review, tmp_path / "again.csv") == Imported(rows=60, unchanged=1, blank=59)


def test_the_journal_of_another_machine_can_be_imported(review: Review, tmp_path: Path) -> None:
    review.judge("ann", lambda card: "keep", n=5, scores={"A2": 4.0})
    copied = tmp_path / "ann.jsonl"
    (review.run.human / "ann.jsonl").rename(copied)
    assert load(review, copied) == Imported(rows=5, new=5)
    assert load(review, copied) == Imported(rows=5, unchanged=5)
    assert {one.scores["A2"] for one in read_all(review.run).latest("ann").values()} == {4.0}


def test_a_later_row_counts_and_a_repeated_one_is_counted(review: Review, tmp_path: Path) -> None:
    a, b = review.sample.cards[:2]
    rows = [{"source": a.source, "id": a.id, "reviewer": "ann", "verdict": v} for v in ("keep", "keep", "drop")]
    rows.append({"source": b.source, "id": b.id, "reviewer": "ann", "verdict": "drop"})
    first, second = fill(tmp_path / "1.jsonl", rows), fill(tmp_path / "2.jsonl", rows[:1])
    found = load(review, first, second)
    assert found == Imported(rows=5, new=2, changed=2, repeated=1)
    assert read_all(review.run).latest("ann")[a.key].verdict == "keep"


WRONG = {
    "unknown id": ({"id": "nobody"}, "in.jsonl:2: id: 'nobody' of source"),
    "other source": ({"source": "dog"}, "of source 'dog' is not in the sample"),
    "no id": ({"id": ""}, "in.jsonl:2: id: empty"),
    "no reviewer": ({"reviewer": " "}, "in.jsonl:2: reviewer: empty; name one with --reviewer"),
    "no name": ({"reviewer": "a\u202eb"}, "this is not a name"),
    "verdict": ({"verdict": "perhaps"}, "in.jsonl:2: verdict: 'perhaps'; expected keep, drop, skip"),
    "no verdict": ({"verdict": "", "A1": 3}, "verdict: empty, but slots are scored"),
    "score": ({"A1": 11}, "in.jsonl:2: A1: '11'; expected a number from 0 to 10"),
    "score text": ({"A1": "good"}, "A1: 'good'"),
    "score nan": ({"scores": {"A1": "nan"}}, "A1: 'nan'"),
    "score bool": ({"A1": True}, "A1: 'True'"),
    "slot": ({"A9": 3}, "A9: the rubric of source"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_wrong_row_is_named_and_nothing_is_taken(review: Review, tmp_path: Path, wrong: str) -> None:
    card = review.sample.cards[0]
    good = {"source": card.source, "id": card.id, "reviewer": "ann", "verdict": "keep"}
    change, message = WRONG[wrong]
    path = fill(tmp_path / "in.jsonl", [good, good | change])
    with pytest.raises(InputError) as refused:
        load(review, path)
    assert message in str(refused.value)
    assert "nothing was imported" in str(refused.value)
    assert not read_all(review.run).history


def test_all_kinds_of_wrong_rows_are_counted(review: Review, tmp_path: Path) -> None:
    card = review.sample.cards[0]
    good = {"source": card.source, "id": card.id, "reviewer": "ann", "verdict": "keep"}
    rows = [good | change for change, _ in WRONG.values()] * 2
    with pytest.raises(InputError) as refused:
        load(review, fill(tmp_path / "in.jsonl", rows))
    text = str(refused.value)
    assert "4 unknown ids" in text and "2 rows without an id" in text and "2 rows without a reviewer" in text
    assert "16 wrong values" in text and "and 14 more" in text


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", b"name,verdict\n", r"a\.csv:1: the columns are name, verdict"),
        ("a.csv", b"", "the columns are missing"),
        ("a.csv", b"id,verdict\nx,keep,more\n", r"a\.csv:2: 3 cells, but 2 columns"),
        ("a.csv", b'id,verdict\n"x,keep\n', "not CSV"),
        ("a.csv", b"id,verdict\n\xff,keep\n", "this is not UTF-8"),
        ("a.jsonl", b"{\n", r"a\.jsonl:1: this is not JSON"),
        ("a.jsonl", b"[1]\n", "this is not an object"),
    ],
)
def test_files_that_cannot_be_read_are_refused(
    review: Review, tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=message):
        load(review, tmp_path / name, reviewer="ann")


def test_semicolons_and_long_texts_are_read(review: Review, tmp_path: Path) -> None:
    card = review.sample.cards[0]
    text = "word\n" * 60_000  # longer than the csv module's limit
    (tmp_path / "a.csv").write_text(f'id;verdict;text\n"{card.id}";drop;"{text}"\n')
    assert load(review, tmp_path / "a.csv", reviewer="ann").new == 1
    assert read_all(review.run).latest("ann")[card.key].verdict == "drop"


def test_the_line_of_a_row_is_where_it_begins(review: Review, tmp_path: Path) -> None:
    card = review.sample.cards[0]
    (tmp_path / "a.csv").write_text(f'id,verdict,note\n{card.id},keep,"two\nlines"\n{card.id},maybe,\n')
    with pytest.raises(InputError, match=r"a\.csv:4: verdict: 'maybe'"):
        load(review, tmp_path / "a.csv", reviewer="ann")


def test_a_form_is_never_overwritten(review: Review, tmp_path: Path) -> None:
    export(review, tmp_path / "forms.csv")
    with pytest.raises(ConfigError, match="exists already"):
        export(review, tmp_path / "forms.csv")
    with pytest.raises(ConfigError, match=r"ends in \.csv or \.jsonl"):
        export(review, tmp_path / "forms.xlsx")


def test_a_spreadsheet_takes_no_text_for_a_formula(tmp_path: Path) -> None:
    texts = {"ant": [f"=HYPERLINK(A{i}) and more words" for i in range(40)]}
    import numpy as np

    from support.report_project import Project

    made = Project(tmp_path, texts, {"ant": np.linspace(1, 9, 40)[:, None] + np.zeros(4)}, word="=1+1")
    assert made.id("ant", 1) == "ant-001-=1+1"
    review = Review.of(made, sample=10)
    rows = export(review, tmp_path / "forms.csv")
    assert all(row["text"].startswith("'=HYPERLINK") for row in rows)
    rows[0]["verdict"] = "keep"
    assert load(review, fill(tmp_path / "in.csv", rows), reviewer="-ann").new == 1


def test_one_id_in_two_sources_needs_the_source(tmp_path: Path) -> None:
    made = project(tmp_path, records=20, sources=("ant", "bee"))
    review = Review.of(made, sample=40)
    cards = [card for card in review.sample.cards if card.source == "ant"]
    row = {"id": cards[0].id, "verdict": "keep"}
    assert load(review, fill(tmp_path / "a.jsonl", [row]), reviewer="ann").new == 1  # "ant-..." is of one source
