"""One finished run for all tests of the viewer, and a client that has the token."""

from collections.abc import Iterator

import pytest
from starlette.testclient import TestClient

from mira.run_view import Run, open_run
from mira.viewer.app import application
from mira.viewer.site import Site
from support.report_project import Project, project

HERE = "http://127.0.0.1:8765"
TOKEN = "the-token"
HOSTILE = "<script>alert(1)</script>&amp;\u202e' \""
LINES = [b"{broken\n", b'{"id": "x", "text": " "}\n', b'{"id": "ant-001-plain", "text": "again"}\n']


def client_of(run: Run) -> TestClient:
    client = TestClient(application(Site(run), TOKEN), base_url=HERE)
    client.get(f"/?token={TOKEN}")
    return client


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Three sources, two groups, rejected lines, a masked cell."""
    made = project(tmp_path_factory.mktemp("viewed"), records=60, lines={"ant": LINES})
    made.select(budget="40%", scope="group")
    return made


@pytest.fixture(scope="session")
def run(made: Project) -> Run:
    return open_run(made.run.path, settings=made.config(budget="40%", scope="group", write_selected=False))


@pytest.fixture(scope="session")
def client(run: Run) -> Iterator[TestClient]:
    yield client_of(run)
