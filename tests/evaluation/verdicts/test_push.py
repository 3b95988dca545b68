"""A bundle that is copied elsewhere says what its run's evaluation found, or that there was none."""

from pathlib import Path

import pytest

import mira
from mira.distillation.bundle import verify
from mira.evaluation.agreement_figures import Agreement, AgreementFigures
from mira.evaluation.results import EvaluationResult
from mira.evaluation.verdicts.verdict import NOT_EVALUATED, Share, verdict
from mira.run_folder.files import hash_file, read_json
from mira.run_folder.paths import RunFolder
from mira.run_folder.results import write_result
from support.tiny_world import GROUP, TinyWorld

FAULTS = {"code_mutant": Share(0.5, 0.4, 0.6, 40), "garbage": Share(0.9, 0.8, 0.95, 40)}


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    run = RunFolder(tmp_path / "project" / "run")
    (run.path / "students").mkdir(parents=True)
    TinyWorld(tmp_path).encoder_bundle().rename(run.student(GROUP))
    return run


def evaluated(run: RunFolder, student: str) -> None:
    found = verdict((0.7, 0.6, 0.8), (0.8, 0.75, 0.85), FAULTS, student)
    write_result(run.evaluation, EvaluationResult(agreement=Agreement(AgreementFigures()), verdicts={GROUP: found}))


def test_the_verdict_goes_into_the_copy_and_onto_its_card(run: RunFolder, tmp_path: Path) -> None:
    bundle = run.student(GROUP)
    before = {path.name: path.read_bytes() for path in bundle.iterdir()}
    evaluated(run, hash_file(bundle / "SHA256SUMS"))
    mira.push(bundle, tmp_path / "copy")
    facts = verify(tmp_path / "copy")
    assert facts["evaluation"]["text"].startswith("orders much like the teacher (rho 0.70 [0.60, 0.80]")
    assert facts["evaluation"]["faults"]["code_mutant"] == {"value": 0.5, "low": 0.4, "high": 0.6, "pairs": 40}
    card = (tmp_path / "copy" / "README.md").read_text()
    assert card.startswith(f"# {GROUP}: a scorer of kind encoder") and "does not see code mutant (50%)" in card
    assert "| garbage | 90% [80%, 95%] | 40 | sees |" in card
    assert {path.name: path.read_bytes() for path in bundle.iterdir()} == before
    assert not [path for path in bundle.parent.iterdir() if path != bundle]
    mira.push(tmp_path / "copy", tmp_path / "again")  # from elsewhere: it keeps what it says
    assert (tmp_path / "again" / "README.md").read_text() == card
    assert {p.name for p in (tmp_path / "again").iterdir()} == {*before, "README.md"}


def test_a_bundle_without_an_evaluation_says_so(run: RunFolder, tmp_path: Path) -> None:
    evaluated(run, "of another student")
    mira.push(run.student(GROUP), tmp_path / "copy")
    assert read_json(tmp_path / "copy" / "bundle.json")["evaluation"]["text"] == NOT_EVALUATED
    card = (tmp_path / "copy" / "README.md").read_text()
    assert NOT_EVALUATED in card and card.count("What quality is not") == 1


def test_a_damaged_bundle_is_not_sealed_anew(run: RunFolder, tmp_path: Path) -> None:
    (run.student(GROUP) / "rubric.jsonl").write_text("{}\n")
    with pytest.raises(mira.InputError, match="content differs from SHA256SUMS"):
        mira.push(run.student(GROUP), tmp_path / "copy")
    assert not (tmp_path / "copy").exists()
