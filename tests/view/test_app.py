"""Who gets in, what every page may do, and how more pages are added."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from jinja2 import DictLoader
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.testclient import TestClient

from mira.errors import ConfigError, InputError
from mira.run_view import Run
from mira.viewer.app import application
from mira.viewer.guard import POLICY
from mira.viewer.serve import check_installed, listen, names_of
from mira.viewer.site import Site, href, site_of
from view.conftest import HERE, TOKEN


@pytest.fixture
def outside(run: Run) -> Iterator[TestClient]:
    """A client that has not shown the token yet."""
    with TestClient(application(Site(run), TOKEN), base_url=HERE) as outside:
        yield outside


def test_the_token_opens_and_a_cookie_follows(outside: TestClient) -> None:
    assert outside.get("/").status_code == 403
    assert outside.get("/static/style.css").status_code == 403
    assert outside.get("/?token=wrong").status_code == 403
    opened = outside.get("/?token=the-token", follow_redirects=False)
    assert opened.status_code == 303 and opened.headers["location"] == "/"
    cookie = opened.headers["set-cookie"]
    assert "HttpOnly" in cookie and "SameSite=lax" in cookie and cookie.startswith("mira_view_8765=")
    assert outside.get("/").status_code == 200


def test_the_first_address_keeps_its_other_parameters(outside: TestClient) -> None:
    opened = outside.get("/x?a=1&token=the-token&b=%26", follow_redirects=False)
    assert opened.headers["location"] == "/x?a=1&b=%26"
    opened = outside.get("//evil.example/?token=the-token", follow_redirects=False)
    assert not opened.headers["location"].startswith("//")


def test_another_name_of_the_server_is_refused(outside: TestClient) -> None:
    assert outside.get("/?token=the-token", headers={"host": "evil.example:8765"}).status_code == 421


def test_a_server_that_listens_everywhere_goes_by_any_name_and_still_wants_the_token(run: Run) -> None:
    assert names_of("0.0.0.0") == names_of("::") == ["*"] and names_of("10.0.0.7") == ["10.0.0.7", "[10.0.0.7]"]
    with TestClient(application(Site(run), TOKEN, hosts=["*"]), base_url="http://gpu-box:8765") as client:
        assert client.get("/").status_code == 403
        assert client.get("/?token=the-token").status_code == 200


def test_a_change_must_come_from_a_page_of_the_server(run: Run) -> None:
    def changed(request: Request) -> Response:
        return Response("changed")

    app = application(Site(run), TOKEN, [Route("/change", changed, methods=["POST"])])
    with TestClient(app, base_url=HERE) as client:
        client.get("/?token=the-token")
        assert client.post("/change").status_code == 403
        assert client.post("/change", headers={"origin": "http://127.0.0.1:9999"}).status_code == 403
        assert client.post("/change", headers={"origin": HERE}).text == "changed"


def test_every_answer_has_the_policy(outside: TestClient) -> None:
    outside.get("/?token=the-token")
    for path in ("/", "/static/style.css", "/static/view.js", "/nowhere"):
        answer = outside.get(path)
        assert answer.headers["content-security-policy"] == POLICY
        assert answer.headers["x-content-type-options"] == "nosniff"
    assert "unsafe" not in POLICY and "http" not in POLICY


def test_static_files_are_those_of_the_viewer_alone(outside: TestClient) -> None:
    outside.get("/?token=the-token")
    assert outside.get("/static/style.css").headers["content-type"].startswith("text/css")
    for path in ("/static/..%2fapp.py", "/static/%2e%2e/app.py", "/static/app.py", "/static/..%2f..%2fapi.py"):
        assert outside.get(path).status_code == 404, path


def test_pages_can_be_added(run: Run) -> None:
    def mine(request: Request) -> Response:
        return site_of(request).render(request, "mine.html.j2", text="<b>&\u202e")

    def wrong(_request: Request) -> Response:
        raise InputError("there is no <card>", "Go back.")

    templates = DictLoader({"mine.html.j2": '{% extends "base.html.j2" %}{% block main %}[{{ text }}]{% endblock %}'})
    site = Site(run, loaders=[templates], tabs=[("/mine", "Mine")])
    app = application(site, TOKEN, [Route("/mine", mine), Route("/wrong", wrong)])
    with TestClient(app, base_url=HERE) as client:
        page = client.get("/mine?token=the-token")
        assert "[&lt;b&gt;&amp;‹U+202E›]" in page.text
        assert '<a href="/mine" aria-current="page">Mine</a>' in page.text
        wrong_page = client.get("/wrong")
        assert wrong_page.status_code == 409 and "there is no &lt;card&gt;" in wrong_page.text


def test_addresses_are_quoted() -> None:
    assert href("/record", source='a"b&c', id="", n=None, all=True) == "/record?source=a%22b%26c&all=1"
    assert href("/x/<y>") == "/x/%3Cy%3E"


def test_without_the_extra_the_message_says_what_to_install() -> None:
    with pytest.raises(ConfigError, match=r"pip install 'mira-select\[view\]'"):
        check_installed(("starlette", "a_package_that_nobody_has"))


def test_a_taken_port_is_passed_over() -> None:
    with listen("127.0.0.1", 0) as first, listen("127.0.0.1", first.getsockname()[1]) as second:
        assert first.getsockname()[1] != second.getsockname()[1]
    with pytest.raises(ConfigError, match="not an IP address"):
        listen("example.org", 0)


def test_the_package_of_the_command_does_not_load_the_server(tmp_path: Path) -> None:
    import subprocess
    import sys

    code = "import sys, mira.api; sys.exit('starlette' in sys.modules or 'uvicorn' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path)
