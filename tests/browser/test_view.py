"""Journeys through `mira view` in a real browser: open, filter, slide the budget, open a record, search, copy."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from browser.conftest import TOKEN, folder_state, problems, resize
from mira.config.tokens import Tokens
from mira.progress import Quiet
from mira.run_view import open_run
from mira.viewer.app import application
from mira.viewer.export import export
from mira.viewer.site import Site
from support.report_project import Project, project

WORD = "</script><img src=x onerror=window.pwned=1><svg/onload=window.pwned=1>\u202e\"'&"
PAGES = [
    "/", "/selection", "/records", "/reliability", "/cell?source=ant&slot=A1", "/disagreements", "/lengths", "/rubric",
]  # fmt: skip


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A run whose ids, texts and rationales try to become markup."""
    base = project(tmp_path_factory.mktemp("base"), records=60)
    texts = {s: [f"{WORD} {t}" for t in own] for s, own in base.texts.items()}
    made = Project(tmp_path_factory.mktemp("run"), texts, base.scores, word=WORD)
    made.select(budget="40%", scope="group")
    return made


@pytest.fixture
def site(made: Project) -> Site:
    return Site(open_run(made.run.path, settings=made.config(budget="40%", scope="group", write_selected=False)))


@pytest.fixture
def home(site: Site, serve: Callable[[Any], str], browser: Any) -> str:
    """The address of the application, opened with its token."""
    address = serve(application(site, TOKEN))
    resize(browser, 1400)
    problems(browser)
    browser.get(f"{address}/?token={TOKEN}")
    assert browser.current_url == f"{address}/"
    return address


def find(browser: Any, css: str) -> Any:
    return browser.find_element("css selector", css)


def every(browser: Any, css: str) -> list[Any]:
    found: list[Any] = browser.find_elements("css selector", css)
    return found


def until(browser: Any, true: Callable[[], Any]) -> None:
    from selenium.common.exceptions import StaleElementReferenceException
    from selenium.webdriver.support.ui import WebDriverWait

    WebDriverWait(browser, 60, 0.05, [StaleElementReferenceException, IndexError]).until(lambda _: true())


def test_filter_sort_and_open_a_record(browser: Any, home: str, made: Project) -> None:
    find(browser, "nav a[href='/records']").click()
    find(browser, "select[name=state] option[value=kept]").click()
    find(browser, "select[name=source] option[value=bee]").click()
    find(browser, "form.filters button").click()
    until(browser, lambda: "source=bee" in browser.current_url)
    assert browser.current_url == f"{home}/records?source=bee&state=kept"  # empty fields are left out
    n = made.select(budget="40%", scope="group")["sources"]["bee"]["kept"]
    assert find(browser, ".counted b").text == f"{n:,}" and len(every(browser, ".records tbody tr")) == min(n, 50)
    find(browser, ".records thead a[href*='sort=-quality']").click()
    until(browser, lambda: "sort=-quality" in browser.current_url)
    place = [th.text for th in every(browser, ".records thead th")].index("quality ↓")
    values = [float(row.find_elements("css selector", "td")[place].text) for row in every(browser, ".records tbody tr")]
    assert values == sorted(values, reverse=True)
    first = find(browser, ".records tbody a")
    name = first.text
    first.click()
    until(browser, lambda: "/record?" in browser.current_url)
    assert find(browser, "h2").text == name
    assert "bee record" in find(browser, ".part pre").text and WORD[:9] in find(browser, ".part pre").text
    assert f"{float(find(browser, 'dl.why dd').text):.2f}" == f"{values[0]:.2f}"
    browser.back()
    until(browser, lambda: browser.current_url.startswith(f"{home}/records?source=bee&state=kept"))
    assert not problems(browser)


def test_slide_the_budget(browser: Any, home: str, made: Project, site: Site) -> None:
    from selenium.webdriver.common.keys import Keys

    rehearsal = site.rehearsal()
    browser.get(f"{home}/selection")
    before = folder_state(made.run.path)
    slider = find(browser, "input[name=budget]")
    cells = lambda: {c.get_attribute("data-source"): c.text for c in every(browser, "td[data-source]")}  # noqa: E731
    first = cells()
    slider.send_keys(Keys.ARROW_RIGHT * 30)
    share = f"{float(slider.get_attribute('value')):g}"
    assert find(browser, ".slider.whole output").text == f"{float(share):.1f}%"
    until(browser, lambda: f"budget={share}" in browser.current_url and cells() != first)
    now = rehearsal.under(rehearsal.with_scopes(Tokens.parse(f"{share}%"), {}))
    until(browser, lambda: cells() == {name: f"{s.tokens_kept:,}" for name, s in now.sources.items()})
    assert f"--budget {share}%" in find(browser, "#command").text
    browser.refresh()
    assert cells() == {name: f"{s.tokens_kept:,}" for name, s in now.sources.items()}
    find(browser, ".sliders details summary").click()
    own = find(browser, "input[name='scope.text_group_A']")
    own.send_keys(Keys.HOME)
    until(browser, lambda: "scope.text_group_A=0" in browser.current_url and cells()["ant"] == "0")
    assert cells()["cat"] == f"{now.sources['cat'].tokens_kept:,}"  # another scope keeps what it has
    assert "--source-max ant=0" in find(browser, "#command").text
    assert folder_state(made.run.path) == before
    assert not problems(browser)


def test_search_a_text(browser: Any, home: str) -> None:
    browser.get(f"{home}/records")
    find(browser, "input[name=text]").send_keys("cat record 7")
    find(browser, "form.filters button").click()
    until(browser, lambda: "searched everything" in find(browser, ".said").text)
    assert "1 matches" in find(browser, ".said").text and "MB/s" in find(browser, ".said").text
    assert "cat record 7" in find(browser, ".excerpt-line").text
    assert not problems(browser)


def test_a_point_opens_its_record(browser: Any, home: str, made: Project) -> None:
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    labels = pq.read_table(made.run.labels("text_group_A"))
    slots = {f"A{j + 1}": pa.array(np.linspace(1, 9, len(labels)), pa.float32()) for j in range(4)}
    folder = made.run.student("text_group_A")
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({"id": labels["id"], "source": labels["source"], **slots}), folder / "out_of_fold.parquet")
    browser.get(f"{home}/reliability")
    every(browser, "a.cell")[0].click()
    until(browser, lambda: every(browser, ".scatter circle"))
    every(browser, ".scatter a")[0].click()
    until(browser, lambda: "/record?" in browser.current_url)
    assert "rationale ant" in find(browser, ".scores").text
    assert not problems(browser)


def test_nothing_of_the_corpus_runs(browser: Any, home: str) -> None:
    for path in [*PAGES, "/records?text=record", f"/record?source=ant&id=ant-003-{WORD.replace('&', '%26')}"]:
        browser.get(home + path)
        assert browser.execute_script("return window.pwned") is None
        assert not browser.execute_script("return document.querySelectorAll('img, iframe').length")
    browser.execute_script("document.body.innerHTML += '<img src=x onerror=window.pwned=1>'")
    browser.execute_async_script("setTimeout(arguments[0], 50)")
    assert browser.execute_script("return window.pwned") is None  # the policy forbids what escaping might miss
    problems(browser)


@pytest.mark.parametrize("width", [420, 1400])
def test_pages_fit_the_screen_light_and_dark(browser: Any, home: str, width: int) -> None:
    papers = set()
    for scheme in ("light", "dark"):
        resize(browser, width, scheme)
        for path in PAGES:
            browser.get(home + path)
            assert browser.execute_script("return document.documentElement.scrollWidth") <= width, path
        papers.add(browser.execute_script("return getComputedStyle(document.body).backgroundColor"))
    assert len(papers) == 2
    assert not problems(browser)


def test_a_copy_opens_from_its_folder(browser: Any, site: Site, tmp_path: Path) -> None:
    export(site, tmp_path / "copy", Quiet(), 5)
    resize(browser, 1400)
    problems(browser)
    browser.get((tmp_path / "copy" / "index.html").as_uri())
    plain = browser.execute_script("return getComputedStyle(document.querySelector('.tile')).borderRadius")
    assert plain == "12px"  # the style sheet is read
    every(browser, "nav a[href*=records]")[0].click()
    assert browser.current_url.endswith("/records.html")
    browser.get(next((tmp_path / "copy" / "records").glob("*.html")).as_uri())
    assert "record" in find(browser, ".part pre").text
    assert browser.execute_script("return window.pwned") is None
    assert not problems(browser)
