"""Runs that are unfinished, damaged or hostile; wrong addresses; searches that are stopped."""

import json
import re
import time
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from mira.run_folder.lock import lock_file, unlock_file
from mira.run_view import Run, open_run
from mira.viewer.filters import Wanted
from mira.viewer.site import Site
from mira.viewer.text_search import Search
from support.report_project import PageReader, Project, project
from view.conftest import HERE, client_of
from view.test_numbers import PATHS, text_of


@pytest.fixture(scope="module")
def unfinished(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Indexed and scored, and not selected from."""
    made = project(tmp_path_factory.mktemp("unfinished"), sources=["ant", "bee"])
    return open_run(made.run.path, settings=made.config())


def test_a_run_without_a_selection_shows_how_far_it_is(unfinished: Run) -> None:
    client = client_of(unfinished)
    text = text_of(client.get("/").text)
    assert "Nothing is selected yet" in text and "ant 30 30 0" in text
    held = lock_file(unfinished.folder.lock)
    try:
        working = text_of(client.get("/").text)
    finally:
        unlock_file(held)
    assert "is working in this run folder" in working
    refused = client.get("/selection")
    assert refused.status_code == 409 and "nothing is selected yet" in refused.text
    records = text_of(client.get("/records").text)
    assert "60 records" in records and "pending" in records
    record = text_of(client.get("/record?source=ant&id=ant-003-plain").text)
    assert "pending" in record and "rationale ant 3 A1 plain" in record
    assert client.get("/lengths?y=A1").status_code == 200


def test_a_new_selection_is_noticed(tmp_path: Path) -> None:
    made = project(tmp_path, sources=["ant"])
    made.select(budget="50%")
    client = client_of(open_run(made.run.path, settings=made.config(budget="50%")))
    first = text_of(client.get("/records?state=kept").text)
    made.select(budget="20%")
    assert text_of(client.get("/records?state=kept").text) != first
    assert client.get("/selection").status_code == 200


def test_settings_that_changed_since_are_refused(tmp_path: Path) -> None:
    made = project(tmp_path, sources=["ant", "bee"])
    made.select(budget="50%", scope="source")
    client = client_of(open_run(made.run.path, settings=made.config(budget="50%", scope="global")))
    refused = client.get("/selection")
    assert refused.status_code == 409 and "have changed since this selection was made" in refused.text
    assert "have changed since" in client.get("/record?source=ant&id=ant-003-plain").text


@pytest.mark.parametrize(
    ("path", "status", "words"),
    [
        ("/nowhere", 404, "Not Found"),
        ("/record?source=nosuch&id=x", 404, "There is no source"),
        ("/record?source=ant&id=nosuch", 404, "has no such record"),
        ("/record?source=ant&shard=..%2f..%2fx&row=0", 404, "There is no shard"),
        ("/record?source=ant&shard=ant&row=x", 404, "not a number"),
        ("/record?source=ant&shard=ant&row=99999999999999999999999", 404, "has no such record"),
        ("/records?source=ants", 409, "Did you mean 'ant'?"),
        ("/records?sort=quality;DROP%20TABLE%20records", 409, "there is no column"),
        ("/records?A9.min=1", 409, "there is no column 'A9'"),
        ("/records?quality.min=good", 409, "is not a number"),
        ("/records?quality.min=nan", 409, "is not a number"),
        ("/records?page=0", 409, "pages are 1 to"),
        ("/records?page=-1e9", 409, "pages are"),
        ("/cell?source=ant&slot=A99", 404, "There is no cell"),
        ("/disagreements?a=method+mira&b=x", 409, "there is no order 'x'"),
        ("/lengths?x=nosuch", 409, "there is no column 'nosuch'"),
        ("/rubric/slot?group=nosuch&slot=A1", 404, "There is no group"),
    ],
)
def test_a_wrong_address_is_answered_in_words(client: TestClient, path: str, status: int, words: str) -> None:
    answer = client.get(path)
    assert answer.status_code == status
    assert words in text_of(answer.text)


def test_values_of_addresses_are_never_part_of_a_query(client: TestClient) -> None:
    for attack in ("' OR 1=1 --", "x'); DROP TABLE records; --", '"', "%", "\x00"):
        answer = client.get("/records", params={"id": attack, "reason": attack})
        assert answer.status_code == 200 and "0 records" in text_of(answer.text)
    assert "183 records" in text_of(client.get("/records").text)


def test_hostile_text_stays_text(tmp_path: Path) -> None:
    word = "</script><img src=x onerror=alert(1)>\u202e\"'&"
    base = project(tmp_path / "base", sources=["ant", "bee"])
    texts = {s: [f"{word} {{{{ 7 * 7 }}}} {t}" for t in own] for s, own in base.texts.items()}
    made = Project(tmp_path / "own", texts, base.scores, word=word, label_every=1)
    made.select(budget="50%", scope="group")
    client = client_of(open_run(made.run.path, settings=made.config(budget="50%", scope="group")))
    plain = Project(tmp_path / "plain", base.texts, base.scores, label_every=1)
    plain.select(budget="50%", scope="group")
    fair = client_of(open_run(plain.run.path, settings=plain.config(budget="50%", scope="group")))
    paths = [p.replace("ant-003-plain", "ant-003-" + word.replace("&", "%26")) for p in PATHS]
    for path, same in zip([*paths, f"/records?text={word[:20]}"], [*PATHS, "/records?text=ant"], strict=True):
        page, ordinary = PageReader(client.get(path).text), PageReader(fair.get(same).text)
        assert {"img", "iframe", "base", "object", "style"}.isdisjoint(page.tags), path
        assert page.tags.count("script") == ordinary.tags.count("script") == 1
        names = {(tag, name) for tag, name, _ in ordinary.attributes}
        assert {(tag, name) for tag, name, _ in page.attributes} <= names, path
        assert "\u202e" not in page.page and "49" not in re.findall(r"\{\{.*?\}\}", page.page)
        for link in page.values("a", "href"):
            assert link and link.startswith(("/", "#")) and "//" not in link[:2]


def test_a_long_text_is_paged(tmp_path: Path) -> None:
    base = project(tmp_path / "base", sources=["ant"])
    texts = {"ant": ["start " + "word " * 9_000 + "end", *base.texts["ant"][1:]]}
    made = Project(tmp_path / "own", texts, base.scores)
    made.select(budget="50%")
    client = client_of(open_run(made.run.path, settings=made.config(budget="50%")))
    pages = [client.get(f"/record?source=ant&id=ant-000-plain&page={n}").text for n in (1, 2, 3)]
    parts = [re.findall(r"<pre dir=\"auto\">(.*?)</pre>", page, re.DOTALL) for page in pages]
    assert "".join(part for (part,) in parts) == texts["ant"][0]
    assert "page 1 of 3" in text_of(pages[0]) and 'rel="next"' in pages[0] and 'rel="next"' not in pages[2]


def test_a_search_can_be_stopped_and_says_how_far_it_is(tmp_path: Path) -> None:
    made = project(tmp_path, sources=["ant"])
    with (tmp_path / "ant.jsonl").open("a") as file:
        for i in range(60_000):
            file.write(json.dumps({"id": f"more-{i}", "text": f"Zebra\u00e9 {i} " * 20}) + "\n")
    site = Site(open_run(made.run.path, settings=made.config()))
    from mira.corpus import build_index
    from mira.progress import Quiet

    (made.run.path / "scores").rename(tmp_path / "scores")
    build_index(site.config, made.run, Quiet())
    search = Search(site, Wanted(text="not there"), site.records.wait())
    while search.share == 0.0 and search.state == "running":
        time.sleep(0.001)
    search.stop()
    assert search.state == "stopped" and search.share < 1.0
    assert "stopped: 0 matches" in search.said and "MB/s" in search.said
    full = Search(site, Wanted(text="zebra"), site.records.wait())
    full.wait(60)
    assert full.state == "full" and len(full.hits) == 500


def test_a_search_is_stopped_from_the_page(client: TestClient) -> None:
    name = re.search(r'data-search="(\w+)"', client.get("/records?text=no+such+words").text)
    assert name
    told = client.get(f"/records/search/{name[1]}").json()
    assert told["state"] == "done" and told["hits"] == 0 and "MB/s" in told["said"]
    assert client.post(f"/records/search/{name[1]}/stop").status_code == 403
    assert client.post(f"/records/search/{name[1]}/stop", headers={"origin": HERE}).json()["state"] == "done"
    assert client.get("/records/search/nosuch").status_code == 404
