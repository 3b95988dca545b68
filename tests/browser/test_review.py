"""A review by keyboard: ten cards, reload, go on, change one's mind; scores of slots; a server that is gone."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from browser.conftest import problems, resize
from mira.reviewing.journal import read_all
from mira.run_view import Run
from support.report_project import Project
from support.review_server import ReviewServer, small_run
from support.review_world import Review

HOSTILE = "<script>document.title = 'taken'</script><img src=x onerror=alert(1)>"


@pytest.fixture
def review(tmp_path: Path) -> Review:
    texts = {"ant": [f"{HOSTILE} record {i} " + "some words in a line " * i for i in range(40)]}
    made = Project(tmp_path, texts, {"ant": [[1 + i / 5] * 4 for i in range(40)]})
    return Review.of(made, sample=14)


@pytest.fixture
def address(review: Review, serve: Callable[[Any], str]) -> str:
    pytest.importorskip("starlette")
    from mira.viewer.review.app import review_app
    from mira.viewer.review.deck import Deck

    deck = Deck(review.config.corpus, review.run, review.sample, slots=True)
    app, token = review_app(Run(review.run, review.config), deck)
    return f"{serve(app)}/?token={token}"


def wait(browser: Any, script: str) -> Any:
    """Return what a script returns, once that is true."""
    from selenium.webdriver.support.ui import WebDriverWait

    return WebDriverWait(browser, 60, 0.05).until(lambda b: b.execute_script(f"return {script}"))


def shown(browser: Any, place: int) -> None:
    wait(
        browser, f"document.readyState === 'complete' && document.getElementById('review')?.dataset.place === '{place}'"
    )


def press(browser: Any, keys: str) -> None:
    from selenium.webdriver import ActionChains

    ActionChains(browser).send_keys(keys).perform()


def verdicts(review: Review, reviewer: str = "ann") -> list[str | None]:
    said = read_all(review.run).latest(reviewer)
    return [said[card.key].verdict if card.key in said else None for card in review.sample.cards]


def test_ten_cards_by_keyboard_reload_and_go_on(browser: Any, address: str, review: Review) -> None:
    from selenium.webdriver.common.keys import Keys

    browser.get(address)
    press(browser, f"ann{Keys.ENTER}")  # the field has the focus
    for place in range(1, 11):
        shown(browser, place)
        press(browser, "k" if place % 3 else "d")
    shown(browser, 11)
    assert verdicts(review)[:10] == ["keep" if place % 3 else "drop" for place in range(1, 11)]
    browser.refresh()
    shown(browser, 11)
    assert "10 of 14 judged by ann" in browser.find_element("css selector", ".where").text
    press(browser, "u")
    shown(browser, 10)
    assert verdicts(review)[9] is None
    press(browser, "d")
    shown(browser, 11)
    press(browser, "s")
    for place in (12, 13, 14):
        shown(browser, place)
        press(browser, "k")
    shown(browser, 11)  # what was skipped comes back
    press(browser, "k")
    wait(browser, "document.body.innerText.includes('All 14 records are judged')")
    assert verdicts(review)[9:] == ["drop", "keep", "keep", "keep", "keep"]
    assert browser.title == "Review · mira"
    assert not problems(browser)


def test_scores_and_remarks_by_keyboard(browser: Any, address: str, review: Review) -> None:
    from selenium.webdriver.common.keys import Keys

    browser.get(f"{address}&reviewer=bob")
    shown(browser, 1)
    press(browser, f"{Keys.ARROW_DOWN}7{Keys.ENTER}10{Keys.ARROW_DOWN}{Keys.ARROW_DOWN}0")
    press(browser, f"{Keys.ESCAPE}nkeep this{Keys.ENTER}")
    assert verdicts(review, "bob")[0] is None  # the k of "keep" was a letter
    press(browser, "k")
    shown(browser, 2)
    (one,) = read_all(review.run).latest("bob").values()
    assert (one.verdict, one.scores, one.note) == ("keep", {"A1": 7.0, "A2": 10.0, "A4": 0.0}, "keep this")
    press(browser, f"{Keys.ARROW_DOWN}11k")  # out of range: not sent, and said
    assert browser.find_element("css selector", "#review").get_attribute("data-place") == "2"
    assert len(read_all(review.run).latest("bob")) == 1


@pytest.mark.parametrize("width", [1400, 420])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_keys_are_in_sight_and_nothing_overflows(browser: Any, address: str, width: int, scheme: str) -> None:
    resize(browser, width, scheme)
    browser.get(f"{address}&reviewer=eve")
    shown(browser, 1)
    assert browser.execute_script("return document.documentElement.scrollWidth <= innerWidth")
    for key in ("keep", "drop", "skip", "undo"):
        box = browser.find_element("css selector", f"button[data-verdict={key}]").rect
        bottom = browser.execute_script("return innerHeight + scrollY")
        assert box["height"] > 20 and box["y"] + box["height"] <= bottom and box["x"] + box["width"] <= width
    assert not problems(browser)


def test_a_server_that_is_gone_is_said_and_nothing_is_lost(browser: Any, tmp_path: Path) -> None:
    with ReviewServer(small_run(tmp_path, records=20, sample=10)) as server:
        browser.get(f"{server.url}?token={server.token}&reviewer=ann")
        shown(browser, 1)
        press(browser, "k")
        shown(browser, 2)
        server.kill()
        press(browser, "d")
        wait(browser, "!document.getElementById('problem').hidden")
        assert "Not saved" in browser.find_element("id", "problem").text
        assert browser.find_element("id", "review").get_attribute("data-place") == "2"
    browser.get_log("browser")  # the refused connection
