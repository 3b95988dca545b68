"""Cards of a blind review: what a page shows, what it may send, and that nothing acknowledged is lost."""

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from mira.errors import RunError
from mira.progress import Quiet
from mira.reviewing.journal import read_all
from mira.reviewing.measure import measure
from mira.reviewing.sample import load_sample
from mira.run_folder.paths import RunFolder
from mira.run_view import Run
from mira.viewer.app import application
from mira.viewer.review.app import review_app
from mira.viewer.review.deck import Deck
from mira.viewer.site import Site
from support.report_project import Project
from support.review_server import ReviewServer, small_run
from support.review_world import Review

HERE = "http://127.0.0.1:8765"
ORIGIN = {"origin": HERE}
HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(2)>\u202e\x1b[2J"


@pytest.fixture(scope="module")
def review(tmp_path_factory: pytest.TempPathFactory) -> Review:
    texts = {"ant": [f"{HOSTILE} record {i} " + "word " * i for i in range(40)]}
    scores = [[1 + i / 5] * 4 for i in range(40)]
    made = Project(tmp_path_factory.mktemp("cards"), texts, {"ant": scores}, word="plain</pre>")
    return Review.of(made, sample=12)


@pytest.fixture
def client(review: Review) -> Iterator[TestClient]:
    for path in review.run.human.glob("*.jsonl"):
        path.unlink()
    deck = Deck(review.config.corpus, review.run, review.sample, slots=True)
    app, token = review_app(Run(review.run, review.config), deck)
    with TestClient(app, base_url=HERE) as client:
        client.get(f"/?token={token}")
        yield client


def place(client: TestClient, reviewer: str = "ann") -> int | None:
    found = re.search(r'data-place="(\d+)"', client.get("/", params={"reviewer": reviewer}).text)
    return int(found[1]) if found else None


def judge(client: TestClient, at: int | None, verdict: str, reviewer: str = "ann", **more: object) -> int:
    body = {"reviewer": reviewer, "place": at, "verdict": verdict, **more}
    return client.post("/judge", json=body, headers=ORIGIN).status_code


def test_who_is_there_is_asked_first(client: TestClient) -> None:
    assert 'name="reviewer"' in client.get("/").text
    wrong = client.get("/", params={"reviewer": "x" * 99})
    assert "this is not a name" in wrong.text and 'name="reviewer"' in wrong.text


def test_cards_come_in_the_order_of_the_sample(client: TestClient, review: Review) -> None:
    for n in range(1, 13):
        assert place(client) == n
        assert judge(client, n, "keep" if n % 2 else "drop") == 200
    page = client.get("/", params={"reviewer": "ann"}).text
    assert "All 12 records are judged" in page
    said = read_all(review.run).latest("ann")
    assert [said[card.key].verdict for card in review.sample.cards] == ["keep", "drop"] * 6
    assert place(client, "bob") == 1


def test_skipped_cards_come_back_and_undone_ones_at_once(client: TestClient, review: Review) -> None:
    assert judge(client, 1, "skip") == 200
    assert place(client) == 2
    assert judge(client, 2, "keep") == 200
    assert judge(client, None, "undo") == 200
    assert place(client) == 2
    for n in range(2, 13):
        judge(client, n, "keep")
    assert place(client) == 1
    judge(client, 1, "drop")
    assert place(client) is None
    assert len(read_all(review.run).latest("ann")) == 12


def test_undo_without_a_judgement_is_refused(client: TestClient) -> None:
    assert judge(client, None, "undo") == 400


def test_a_card_is_blind_and_its_text_inert(client: TestClient, review: Review) -> None:
    for n in range(1, 13):
        page = client.get("/", params={"reviewer": "ann"}).text
        card = review.sample.cards[n - 1]
        assert f"{card.quality}" not in page and f"{card.quality:.2f}" not in page
        assert card.stratum not in page and "brief" not in page and "rationale" not in page
        assert not re.search(r"\b(kept|dropped|quality|DOWNSAMPLE|downsample)\b", page)
        assert "<script>alert" not in page and "<img" not in page and "\u202e" not in page and "\x1b" not in page
        judge(client, n, "keep")


def test_pages_that_show_scores_are_not_served(client: TestClient) -> None:
    assert client.get("/selection").status_code == 404
    assert client.get("/records").status_code == 404
    assert client.get("/people").status_code == 404


def test_the_viewer_shows_what_people_say_as_the_report_does(client: TestClient, review: Review) -> None:
    viewer = TestClient(application(Site(Run(review.run, review.config)), "the-token"), base_url=HERE)
    assert "Nothing is measured yet" in viewer.get("/people?token=the-token").text
    for n in range(1, 13):
        judge(client, n, "keep" if n % 3 else "drop")
    found = measure(review.config, review.run, Quiet())
    assert found.all is not None
    page = viewer.get("/people").text
    shown = re.findall(r'data-precision="([^"]+)"', page)
    assert [float(value) for value in shown] == [found.sources["ant"].precision.value, found.all.precision.value]
    review.run.review.unlink()


def test_slots_are_asked_for_and_checked(client: TestClient, review: Review) -> None:
    assert client.get("/", params={"reviewer": "ann"}).text.count('type="number"') == 4
    for scores in ({"A1": 11}, {"A1": -1}, {"A1": "7"}, {"A1": True}, {"A9": 3}, {"A1": None}, [7]):
        assert judge(client, 1, "keep", scores=scores) == 400
    assert not read_all(review.run).history
    assert judge(client, 1, "keep", scores={"A1": 0, "A4": 10}, note="good") == 200
    (one,) = read_all(review.run).latest("ann").values()
    assert (one.scores, one.note) == ({"A1": 0.0, "A4": 10.0}, "good")


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b"{", b'{"reviewer": 7}', b'{"reviewer": "ann", "place": 99, "verdict": "keep"}',
     b'{"reviewer": "ann", "place": "1", "verdict": "keep"}', b'{"reviewer": "ann", "place": 1, "verdict": "perhaps"}',
     b'{"reviewer": "", "place": 1, "verdict": "keep"}', b'{"reviewer": "a\\u0000", "place": 1, "verdict": "keep"}',
     b'{"reviewer": "ann", "place": 1, "verdict": "keep", "note": "' + b"x" * 20_000 + b'"}', b"x" * 200_000],
)  # fmt: skip
def test_what_is_not_a_judgement_is_refused_and_not_written(client: TestClient, review: Review, body: bytes) -> None:
    answer = client.post("/judge", content=body, headers=ORIGIN)
    assert answer.status_code == 400 and answer.json()["problem"]
    assert not list(review.run.human.glob("*.jsonl"))


def test_another_site_cannot_judge(client: TestClient, review: Review) -> None:
    body = {"reviewer": "ann", "place": 1, "verdict": "keep"}
    assert client.post("/judge", json=body, headers={"origin": "https://evil.example"}).status_code == 403
    assert client.post("/judge", json=body).status_code == 403
    assert not read_all(review.run).history


def test_a_long_text_is_cut_and_that_is_said(tmp_path: Path) -> None:
    texts = {"ant": ["long " * 30_000 if i == 0 else f"short {i}" for i in range(10)]}
    made = Project(tmp_path, texts, {"ant": [[5.0] * 4] * 10})
    review = Review.of(made, sample=10)
    deck = Deck(review.config.corpus, review.run, review.sample)
    shown = {}
    while (hand := deck.hand("ann")).card is not None:
        shown[hand.card.id] = hand.text
        deck.judge({"reviewer": "ann", "place": hand.card.place, "verdict": "drop"})
    text = shown[made.id("ant", 0)]
    assert sum(len(part.text) for part in text.parts) == 100_000
    assert text.more == 50_000
    assert shown[made.id("ant", 1)].more == 0


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_run(tmp_path_factory.mktemp("served"), sample=30)


def test_a_killed_server_loses_no_judgement_that_it_acknowledged(settings: Path) -> None:
    run = RunFolder(settings.parent / "run")
    acknowledged: dict[int, str] = {}
    for n in range(2):  # and the next server goes on where the killed one was
        with ReviewServer(settings) as server:
            client = server.client()
            for _ in range(10):
                at = client.card("ann")
                assert at is not None and at not in acknowledged
                verdict = "keep" if (at + n) % 2 else "drop"
                assert client.judge("ann", at, verdict) == 200
                acknowledged[at] = verdict
            server.kill()
            sample = load_sample(run)
            assert sample is not None
            said = read_all(run)
            found = {card.place: said.latest("ann")[card.key].verdict for card in sample.cards[: len(acknowledged)]}
            assert found == acknowledged
            assert not said.damaged


def test_reviewers_and_tabs_at_once_lose_nothing(settings: Path) -> None:
    run = RunFolder(settings.parent / "run")

    def work(task: tuple[ReviewServer, str, int]) -> None:
        server, reviewer, start = task
        client = server.client()
        for at in range(start, 31, 2):
            assert client.judge(reviewer, at, "keep") == 200

    with ReviewServer(settings) as server:
        judge_once = server.client()
        assert judge_once.judge("cleo", 1, "drop") == 200
        with ReviewServer(settings) as other:  # a second server of the same run: judged, so the sample is fixed
            tasks = [(where, who, start) for where in (server, other) for who in ("cleo", "bob") for start in (1, 2)]
            with ThreadPoolExecutor(len(tasks)) as pool:
                list(pool.map(work, tasks))
    said = read_all(run)
    assert not said.damaged
    for who in ("cleo", "bob"):
        assert len(said.latest(who)) == 30
        assert all(one.verdict == "keep" for one in said.latest(who).values())
    assert len(said.history["cleo"]) == 61  # every judgement of every tab is there


def test_a_run_without_a_selection_is_answered(tmp_path: Path) -> None:
    from mira.config.settings import Config
    from mira.progress import Quiet
    from mira.viewer.review.serve import serve_review

    (tmp_path / "a.jsonl").write_text('{"id":"r","text":"record"}\n')
    config = Config.model_validate(
        {"run": tmp_path / "run", "sources": [{"name": "a", "path": str(tmp_path / "a.jsonl")}]}
    )
    with pytest.raises(RunError, match="there is no run yet"):
        serve_review(config, Quiet(), port=0)
