"""The family of docs/how-to/extend.md: installed as a package, through a whole run, and without its package."""

import importlib
import json
import random
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

import mira
from docs.pages import ROOT, blocks
from mira import corpus, plugins
from mira.distillation.bundle import read_bundle
from mira.distillation.encoder.student import EncoderStudent
from mira.evaluation.planted import plant
from mira.judging.prompt import build_prompt
from mira.run_folder.files import read_key

GROUP = "commit_group_A"
SLOTS = ("Clarity", "Reasons", "Scope")


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """What `pip install` would leave of the package on the page."""
    page = blocks(ROOT / "docs" / "how-to" / "extend.md")
    (code,) = [b.text for b in page if b.language == "python" and "mira.Family(" in b.text]
    (points,) = [
        found["mira.families"]
        for b in page
        if b.language == "toml" and "mira.families" in (found := tomllib.loads(b.text)["project"]["entry-points"])
    ]
    site = tmp_path / "site"
    (site / "my_package").mkdir(parents=True)
    (site / "my_package" / "commit.py").write_text(code, encoding="utf-8")
    info = site / "my_package-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: my-package\nVersion: 1.0\n", encoding="utf-8")
    lines = "".join(f"{name} = {target}\n" for name, target in points.items())
    (info / "entry_points.txt").write_text(f"[mira.families]\n{lines}", encoding="utf-8")
    monkeypatch.syspath_prepend(str(site))
    plugins.forget()
    yield site
    _uninstall(site)


def _uninstall(site: Path) -> None:
    if str(site) in sys.path:
        sys.path.remove(str(site))
    for name in [name for name in sys.modules if name.partition(".")[0] == "my_package"]:
        del sys.modules[name]
    importlib.invalidate_caches()
    plugins.forget()


def _project(folder: Path) -> Path:
    rng, records, replies = random.Random(0), [], []
    for i in range(40):
        good = rng.randint(0, 9)
        words = ["because"] * good + ["fix"] * rng.randint(2, 9)
        records.append({"id": f"c{i}", "subject": f"{i} {' '.join(words)}", "diff": f"- {i}\n+ {i + 1}"})
        lines = [f"[A{j}] {name}: {min(10, good + j / 4)}/10 — seen" for j, name in enumerate(SLOTS, 1)]
        closing = [f"overall: {10 * good}", "training_recommendation: keep", "domain_tag: t", "brief: b"]
        replies.append({"id": f"c{i}", "source": "commits", "replicate": 0, "reply": "\n".join([*lines, *closing])})
    records.append({"id": "bad", "subject": " ", "diff": "- 1"})
    anchors = [{"slot": f"A{j}", "name": name} for j, name in enumerate(SLOTS, 1)]
    for name, rows in (("commits", records), ("replies", replies), ("anchors", anchors)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    settings = {
        "run": "run",
        "sources": [
            {"name": "commits", "path": "commits.jsonl", "family": "commit", "fields": {"message": "subject"}},
        ],
        "teacher": {"replies": "replies.jsonl"},
        "group": {"given": {GROUP: ["commits"]}},
        "discover": {"rubrics": {GROUP: "anchors.jsonl"}},
        "distill": {"folds": 2},
        "score": {"workers": 1},
        "reliability": {"bootstrap": 100, "min_n": 5},
        "select": {"budget": "50%"},
    }
    (folder / "mira.yaml").write_text(json.dumps(settings), encoding="utf-8")
    return folder / "mira.yaml"


def test_a_family_of_a_package_goes_through_a_whole_run(site: Path, tmp_path: Path) -> None:
    path = _project(tmp_path)
    found = mira.run(path)
    assert found.selection.num_rows == 40, "the blank message is rejected, and nothing else"
    assert 0 < found.kept.num_rows < 40
    config, run = mira.load_config(path), mira.RunFolder(tmp_path / "run")
    assert corpus.totals(config.corpus, run)["commits"]["rejected"] == {"empty_text": 1}

    (first, second) = corpus.fetch(config.corpus, run, "commits", ["c0", "c1"])
    assert [part.label for part in first.parts] == ["Message", "Diff"] and first.family == "commit"
    rubric = mira.Rubric.load(run.rubric(GROUP), GROUP)
    assert "You judge records of a corpus of commits as" in build_prompt(rubric).system
    assert "of rubric group A." in build_prompt(rubric).system

    assert read_bundle(run.student(GROUP), "encoder")["parts"] == ["share_of_message"]
    pairs = plant([first, second])
    assert [(p.fault, p.degraded.parts) for p in pairs] == [
        ("other_message", (second.parts[0], first.parts[1])),
        ("other_message", (first.parts[0], second.parts[1])),
    ]

    # A package of another version renders otherwise: what is indexed is indexed again.
    code = site / "my_package" / "commit.py"
    code.write_text(code.read_text(encoding="utf-8").replace('name="commit",', 'name="commit", version="2",'))
    (index,) = [p for p in run.index("commits").glob("*.parquet") if p.name != "duplicates.parquet"]
    before = read_key(index)
    _uninstall(site)
    sys.path.insert(0, str(site))
    mira.run(path, "index")
    assert before and read_key(index) not in (None, before)

    _uninstall(site)
    with pytest.raises(mira.ConfigError, match=r"sources.*family.*'text', 'qa', 'qa_with_think', 'agent'"):
        mira.load_config(path)
    with pytest.raises(mira.InputError, match="scores records of family 'commit', which is not known here"):
        EncoderStudent.load(run.student(GROUP))


def test_a_family_that_breaks_its_promises_is_refused(site: Path, tmp_path: Path) -> None:
    code = site / "my_package" / "commit.py"
    good = code.read_text(encoding="utf-8")
    path = _project(tmp_path)
    code.write_text(good.replace('name="commit"', 'name="other"'))
    with pytest.raises(mira.ConfigError, match=r"mira\.families: 'commit' does not name a mira\.Family of that name"):
        mira.run(path, "index")
    _uninstall(site)
    sys.path.insert(0, str(site))
    code.write_text(good.replace("[message / (message + diff)]", "[1.0, 2.0]"))
    with pytest.raises(mira.ConfigError, match=r"family commit: it names 1 features.*a record has 2: \[1\.0, 2\.0\]"):
        mira.run(path)


def test_a_family_without_text_rejects_the_record(site: Path, tmp_path: Path) -> None:
    code = site / "my_package" / "commit.py"
    head, _, tail = code.read_text(encoding="utf-8").partition('    return mira.Part("Message"')
    code.write_text(f'{head}    return (mira.Part("", " "),)\n{tail.partition(chr(10))[2]}')
    with pytest.raises(mira.InputError, match=r"every record is rejected \(41 empty_text\)\n.*'subject' gives no text"):
        mira.run(_project(tmp_path), "index")
