from pathlib import Path

import pytest

from support.corpus_project import Project


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)
