"""Files and folders outside of a run may be URLs: what is written there, and what is refused before anything else."""

import json
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import fsspec
import pytest
from typer.testing import CliRunner

import mira
from mira.cli.app import app
from mira.config.settings import DistillSettings
from mira.distillation.encoder.student import train_encoder
from mira.errors import ConfigError, MiraError
from mira.progress import Quiet
from mira.run_folder.stored import StoredPath, place_path
from support.encoder_case import RUBRIC, corpus, label_table

MEMORY = fsspec.filesystem("memory")
BAD = {
    "https://host/x": "cannot write to https://",
    "s3:/bucket/x": "one slash",
    "s3://me:hush@bucket/x": "a user name",
    "nosuch://bucket/x": "Protocol not known",
}


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A URL where nothing is yet."""
    monkeypatch.setenv("MIRA_CACHE", str(tmp_path / "cache"))
    name = f"/{uuid4().hex}"
    yield f"memory://{name[1:]}"
    if MEMORY.exists(name):
        MEMORY.rm(name, recursive=True)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    records, scores = corpus(40)
    folder = tmp_path_factory.mktemp("bundle") / RUBRIC.group
    labels = label_table(records, scores)
    train_encoder(labels, records, RUBRIC, None, DistillSettings(folds=2), 0, folder, Quiet())
    return folder


def _below(place: str) -> list[str]:
    top = MEMORY._strip_protocol(place)
    return sorted(path[len(top) + 1 :] for path in MEMORY.find(top))


def test_a_bundle_goes_to_a_url_and_back(bundle: Path, place: str, tmp_path: Path) -> None:
    assert mira.push(bundle, f"{place}/shelf/mine") == f"{place}/shelf/mine"
    names = sorted({path.relative_to(bundle).as_posix() for path in bundle.rglob("*")} | {"README.md", "SHA256SUMS"})
    assert _below(f"{place}/shelf/mine") == names
    back = mira.pull(f"{place}/shelf/mine", tmp_path / "back")
    assert back == tmp_path / "back"
    sums = (tmp_path / "back" / "SHA256SUMS").read_bytes()
    assert sums == MEMORY.cat(f"{MEMORY._strip_protocol(place)}/shelf/mine/SHA256SUMS")
    mira.pull(f"{place}/shelf/mine", f"{place}/other")
    assert _below(f"{place}/other") == names
    assert mira.push(f"{place}/other", tmp_path / "again") == str(tmp_path / "again")
    with pytest.raises(MiraError, match="there is no such folder"):
        mira.pull(f"{place}/nothing", tmp_path / "x")


def test_a_bundle_at_a_url_is_pulled_before_it_is_used(bundle: Path, tmp_path: Path) -> None:
    said = {"sources": [{"name": "s", "path": "s"}], "distill": {"student": "bundle", "bundles": {"g": "s3://b/one"}}}
    (tmp_path / "mira.yaml").write_text(json.dumps(said))
    for command in (["score-bundle", "s3://b/one", "--input", "x"], ["index", str(tmp_path / "mira.yaml")]):
        done = CliRunner().invoke(app, command)
        assert isinstance(done.exception, ConfigError), done.exception
        assert "'s3://b/one' is a URL, and bundles are used from folders" in done.exception.message
        assert done.exception.hint == "Pull it first: mira pull s3://b/one FOLDER"


def test_records_are_scored_into_a_url(bundle: Path, place: str, tmp_path: Path) -> None:
    rows = [{"id": record.id, "text": record.text} for record in corpus(6)[0]]
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    command = ["score-bundle", str(bundle), "--input", str(tmp_path / "in.jsonl"), "--set", "score.workers=1"]
    near = CliRunner().invoke(app, [*command, "--out", str(tmp_path / "near")], catch_exceptions=False)
    far = CliRunner().invoke(app, [*command, "--out", f"{place}/far"], catch_exceptions=False)
    (name,) = [name for name in _below(f"{place}/far") if name.startswith("scores/")]
    assert near.exit_code == far.exit_code == 0
    assert far.stdout.strip() == f"{place}/far/{name}", "the URL, not the copy on this machine"
    assert MEMORY.cat(f"{MEMORY._strip_protocol(place)}/far/{name}") == (tmp_path / "near" / name).read_bytes()


def test_a_place_is_a_file_or_folder_below_a_url(place: str, tmp_path: Path) -> None:
    assert f"{place_path(place + '/a/b/c.json')}" == f"{place}/a/b/c.json"
    assert f"{place_path(place + '/a/b/', above=3)}" == f"{place}/a/b"
    assert f"{place_path(place)}" == place
    assert place_path(f"file://{tmp_path}/x") == tmp_path / "x"
    assert not isinstance(place_path(tmp_path), StoredPath)


def _commands(url: str, tmp_path: Path, bundle: Path) -> dict[str, list[str]]:
    """Return every command that writes to a place that is named on the command line, by the option's name."""
    records = tmp_path / "in.jsonl"
    records.write_text('{"id": "a", "text": "Some text."}\n')
    settings = tmp_path / "mira.yaml"
    said = {"sources": [{"name": "s", "path": str(records)}], "select": {"method": "random", "scope": "source"}}
    settings.write_text(json.dumps(said))
    at_url = tmp_path / "at_url.yaml"
    at_url.write_text(json.dumps({"run": url, **said}))
    served = ["--judge", "http://127.0.0.1:9/v1", "--model", "m", "--input", str(records)]
    return {
        "run": ["run", str(at_url)],
        "run --set": ["run", str(settings), "--set", f"run={url}"],
        "index": ["index", str(at_url)],
        "score-bundle --out": ["score-bundle", str(bundle), "--input", str(records), "--out", url],
        "score-endpoint --out": ["score-endpoint", *served, "--rubric", str(bundle / "rubric.jsonl"), "--out", url],
        "push": ["push", str(bundle), url],
        "pull": ["pull", str(bundle), url],
        "label --export": ["label", str(settings), "--export", f"{url}/x.jsonl"],
        "audit --json": ["audit", str(settings), "--json", f"{url}/x.json"],
        "diff --json": ["diff", str(tmp_path), str(tmp_path), "--json", f"{url}/x.json"],
        "review --export": ["review", str(settings), "--export", f"{url}/x.jsonl"],
    }


@pytest.mark.parametrize("url", BAD)
def test_a_place_that_cannot_be_one_is_refused_by_every_verb(
    url: str, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MIRA_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    for name, command in _commands(url, tmp_path, bundle).items():
        done = CliRunner().invoke(app, command)
        assert isinstance(done.exception, MiraError), (name, done.exception, done.output)
        assert BAD[url] in done.exception.message, name
        assert "\n" not in done.exception.message, name
        assert done.exception.hint, name
        assert "hush" not in f"{done.exception}{done.output}", name
    made = {path.name for path in tmp_path.iterdir()} - {"in.jsonl", "mira.yaml", "at_url.yaml", "cache"}
    assert not made, "nothing was begun"
    assert not [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]


@pytest.mark.parametrize("what", ["init", "demo", "freeze"])
def test_what_people_edit_stays_on_this_machine(what: str, tmp_path: Path) -> None:
    commands = {
        "init": ["init", "s3://bucket/mira.yaml"],
        "demo": ["demo", "--folder", "s3://bucket/demo"],
        "freeze": ["freeze", str(tmp_path / "mira.yaml"), "--folder", "s3://bucket/rubrics"],
    }
    done = CliRunner().invoke(app, commands[what])
    assert isinstance(done.exception, ConfigError)
    assert "local folders only" in done.exception.message
