"""The demo corpus needs its six source distributions: downloaded once, then from the user's cache."""

import io
import json
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from mira.config.loading import load_config
from mira.demo_project import demo as demo_module
from mira.demo_project import download
from mira.demo_project.corpus import CORPUS_SHA256, SOURCES, build_corpus, split_by_source
from mira.demo_project.demo import prepare_demo
from mira.demo_project.download import DISTRIBUTIONS, SERVICES, fetch_distributions
from mira.demo_project.pairs_and_traces import AGENT_SOURCES, QA_SOURCES, SHA256, build_pairs_and_traces
from mira.errors import MiraError
from mira.progress import Quiet
from mira.run_folder.files import sha256_file


@pytest.fixture(scope="module")
def distributions() -> dict[str, Path]:
    try:
        return fetch_distributions(Quiet(), [*DISTRIBUTIONS, SERVICES])
    except MiraError as error:
        if "could not download" in str(error):
            pytest.skip(f"no package index: {error.message}")
        raise


@pytest.fixture(scope="module")
def sdists(distributions: dict[str, Path]) -> dict[str, Path]:
    return {d.package: distributions[d.package] for d in DISTRIBUTIONS}


def test_pairs_and_traces_are_byte_identical(
    distributions: dict[str, Path], sdists: dict[str, Path], tmp_path: Path
) -> None:
    sources = [*QA_SOURCES, *AGENT_SOURCES]
    build_pairs_and_traces(sources, sdists, distributions[SERVICES.package], tmp_path, Quiet())
    assert {s: sha256_file(tmp_path / f"{s}.jsonl") for s in sources} == SHA256
    assert SHA256["tool_traces"] == "5f2ebdd78b20ceae477a84f0c47e919d3ae48ae17fee63a301d4c047acc88614"
    counts = [len((tmp_path / f"{s}.jsonl").read_bytes().splitlines()) for s in sources]
    assert counts == [4327, 264, 1125, 728]
    assert "bfcl_eval" not in sys.modules and "mpmath" not in sys.modules
    before = (tmp_path / "tool_traces.jsonl").stat().st_mtime_ns
    build_pairs_and_traces(["tool_traces"], {}, distributions[SERVICES.package], tmp_path, Quiet())
    assert (tmp_path / "tool_traces.jsonl").stat().st_mtime_ns == before


def test_services_that_fail_are_told(tmp_path: Path) -> None:
    wheel = tmp_path / "empty.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("bfcl_eval/__init__.py", "")
    with pytest.raises(MiraError, match="simulated services failed: ModuleNotFoundError"):
        build_pairs_and_traces(["tool_traces"], {}, wheel, tmp_path, Quiet())


def test_families_are_chosen_and_changed_files_are_kept(
    distributions: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("build_corpus", "split_by_source", "build_pairs_and_traces"):  # cut above
        monkeypatch.setattr(demo_module, name, lambda *_: None)
    settings = prepare_demo(tmp_path)
    assert [s.family for s in load_config(settings).sources] == ["text"] * 5 + ["qa"] * 2 + ["agent"] * 2
    every = (tmp_path / "teacher" / "teacher_replies.jsonl").read_bytes()
    assert prepare_demo(tmp_path, families=["text"]) == settings
    config = load_config(settings)
    assert {s.name for s in config.sources} == set(SOURCES)
    assert set(config.discover.rubrics) == {"text_group_A", "text_group_B"}
    assert every.startswith((tmp_path / "teacher" / "teacher_replies.jsonl").read_bytes())
    settings.write_text(settings.read_text().replace("50%", "25%"))
    notes: list[str] = []
    log = Quiet()
    monkeypatch.setattr(log, "note", notes.append)
    prepare_demo(tmp_path, log)
    assert str(load_config(settings).select.budget) == "25%" and "mira.yaml" in notes[0] and "kept" in notes[0]
    assert (tmp_path / "teacher" / "teacher_replies.jsonl").read_bytes() == every


def test_corpus_is_byte_identical(sdists: dict[str, Path], tmp_path: Path) -> None:
    out = tmp_path / "corpus.jsonl"
    build_corpus(sdists, out, Quiet())
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
