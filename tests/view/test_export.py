"""A static copy: whole, alone, and the same words as the served pages."""

import html
import re
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from starlette.testclient import TestClient

from mira.errors import ConfigError
from mira.progress import Quiet
from mira.run_view import Run
from mira.viewer.export import export
from mira.viewer.site import Site
from view.test_numbers import text_of


@pytest.fixture(scope="module")
def copy(run: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("copy") / "pages"
    n = export(Site(run), folder, Quiet(), 20)
    assert n == len(list(folder.rglob("*.html")))
    return folder


def test_every_link_leads_to_a_file(copy: Path) -> None:
    pages = list(copy.rglob("*.html"))
    links = [
        (page, html.unescape(m)) for page in pages for m in re.findall(r'(?:href|src)="([^"]*)"', page.read_text())
    ]
    assert len(links) > 100
    for page, address in links:
        parts = urlsplit(address)
        assert not parts.scheme and not parts.netloc and not address.startswith("/")
        assert (page.parent / parts.path).resolve().is_file(), address


def test_it_runs_no_script_and_has_no_form(copy: Path) -> None:
    for page in copy.rglob("*.html"):
        text = page.read_text()
        assert "<script" not in text and "<form" not in text
        assert "default-src 'none'" in text and "unsafe" not in text
    assert not list(copy.rglob("*.js"))


def test_it_has_the_sample_and_the_same_words(copy: Path, client: TestClient) -> None:
    assert len(list((copy / "records").glob("*.html"))) == 20
    assert text_of((copy / "index.html").read_text()) == text_of(client.get("/").text)
    titles = {re.search(r"<h2><bdi>(.*?)</bdi>", p.read_text())[1] for p in (copy / "records").glob("*.html")}
    assert len(titles) == 20


def test_a_folder_in_use_is_not_written_to(run: Run, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "file").write_text("x")
    with pytest.raises(ConfigError, match="there already"):
        export(Site(run), tmp_path / "mine", Quiet())
    with pytest.raises(ConfigError, match="0 to 2,000"):
        export(Site(run), tmp_path / "new", Quiet(), 3000)
    assert not (tmp_path / "new").exists()
