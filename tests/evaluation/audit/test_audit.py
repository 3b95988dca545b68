"""`mira audit` on bare files, and on a run's foreign scores: counts, drift, strata, and what it refuses."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scipy.stats import spearmanr
from typer.testing import CliRunner

import mira
from mira.auditing.verbs import human_verdicts
from mira.cli.app import app
from mira.errors import ConfigError, InputError
from mira.evaluation.audit.audit import audit
from mira.evaluation.audit.bare import BareFiles
from mira.foreign.stage import join
from mira.progress import Quiet
from mira.reviewing.journal import HumanJudgement, add
from mira.run_folder.results import read_result
from support.selection_world import Item, World

N = 60


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """Two files of records; scores that know the file and the language, an older version, and a reference."""
    rng = np.random.default_rng(0)
    rows = []
    for source in ("good", "bad"):
        lines = []
        for k in range(N):
            lang = "de" if k % 3 == 0 else "en"
            quality = rng.normal()
            lines.append({"uid": f"{source}-{k}", "content": "word " * (k + 3), "lang": lang, "site": f"s{k % 2}"})
            score = quality + 10 * (source == "good") - 2 * (lang == "de")
            rows.append((f"{source}-{k}", score, score + rng.normal(0, 0.01) + 3, quality))
        (tmp_path / f"{source}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines) + "not json\n")
    ids, scores, old, quality = (list(column) for column in zip(*rows, strict=True))
    scores[0], ids[1] = float("nan"), "nobody"
    pq.write_table(pa.table({"key": ids, "quality": scores, "old": old, "truth": quality}), tmp_path / "s.parquet")
    return tmp_path


def bare(folder: Path, **more: str) -> BareFiles:
    given = {"column": "quality", "id": "key", "id_field": "uid", "text_field": "content", **more}
    return BareFiles(scores=[str(folder / "s.parquet")], input=[str(folder / "*.jsonl")], **given)  # type: ignore[arg-type]


def test_bare_files(files: Path) -> None:
    result = mira.audit(files=bare(files, against="old", reference="truth"), by=["lang"])
    assert (result.records, result.rejected, result.sampled) == (2 * N, 2, 2 * N)
    (found,) = result.scorers.values()
    assert (found.records, found.scored, found.missing) == (2 * N, 2 * N - 2, {"no_row": 1, "not_finite": 1})
    assert {name: one.scored for name, one in found.sources.items()} == {"good": N - 2, "bad": N}
    assert found.source_auc == pytest.approx(1, abs=0.05)
    assert any(verdict.startswith("sorts by source, not by quality") for verdict in found.verdicts)
    assert any("lang de lower than others of equal quality (by truth)" in verdict for verdict in found.verdicts)
    drift = found.drift
    assert drift is not None
    assert (drift.both, drift.only_this, drift.only_other) == (2 * N - 2, 0, 1)  # a row without a record has neither
    assert drift.rho == pytest.approx(1, abs=1e-3)
    assert drift.shift is not None
    assert drift.shift < -0.5
    assert found.teacher is not None
    assert found.teacher.records == 2 * N - 2
    assert found.teacher.within.value == pytest.approx(0.6, abs=0.25)


def test_a_field_names_the_source(files: Path) -> None:
    (found,) = mira.audit(files=bare(files, source_field="site")).scorers.values()
    assert found.sources.keys() == {"s0", "s1"}
    assert found.source_auc is not None
    assert found.source_auc < 0.7


def test_lower_is_better_turns_the_figures(files: Path) -> None:
    up, down = (
        next(iter(mira.audit(files=bare(files, reference="truth", better=better)).scorers.values()))
        for better in ("higher", "lower")
    )
    assert up.teacher is not None
    assert down.teacher is not None
    assert up.teacher.within.value == pytest.approx(-(down.teacher.within.value or 0))
    assert up.mean == down.mean


def test_the_command_prints_and_writes(files: Path) -> None:
    words = ["audit", "--scores", str(files / "s.parquet"), "--column", "quality", "--id", "key", "--id-field", "uid"]
    words += ["--input", str(files / "*.jsonl"), "--text-field", "content", "--json", str(files / "out.json")]
    done = CliRunner().invoke(app, words, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    assert "118 of 120" in done.output
    assert "sorts by source, not by quality" in done.output
    found = read_result(mira.AuditResult, files / "out.json")
    assert found.scorers["score_quality"].scored == 2 * N - 2


def test_what_is_refused(files: Path) -> None:
    with pytest.raises(TypeError):
        mira.audit()
    with pytest.raises(ConfigError, match="no column 'qualty'; did you mean quality"):
        mira.audit(files=bare(files, column="qualty"))
    with pytest.raises(InputError, match="field 'body' is missing"):
        mira.audit(files=bare(files, text_field="body"))
    with pytest.raises(ConfigError, match="expected the settings of a run, or --scores"):
        CliRunner().invoke(app, ["audit"], catch_exceptions=False, standalone_mode=False)


def test_people_and_foreign_scores_of_a_run(tmp_path: Path) -> None:
    """Reviewers keep what the score likes; the second one disagrees about one record and skips another."""
    sources = {"a": [[Item(f"a-{k}", [5.0]) for k in range(20)]], "b": [[Item(f"b-{k}", [5.0]) for k in range(20)]]}
    world = World(tmp_path, sources, {"g": ("a", "b")})
    world.run.reliability.unlink()
    world.run.groups.unlink()
    rows = [(f"{s}-{k}", float(k)) for s in "ab" for k in range(20)]
    pq.write_table(pa.table({"id": [r[0] for r in rows], "edu": [r[1] for r in rows]}), tmp_path / "edu.parquet")
    given = world.config().model_dump(mode="json", exclude_defaults=True)
    config = mira.Config.model_validate(given | {"scores": {"edu": {"path": str(tmp_path / "edu.parquet")}}})
    join(config, world.run, Quiet())
    said = [HumanJudgement("a", f"a-{k}", "ann", "keep" if k > 9 else "drop") for k in range(20)]
    said += [HumanJudgement("a", "a-19", "bob", "drop"), HumanJudgement("a", "a-3", "bob", "skip")]
    add(world.run, said)
    verdicts = human_verdicts(world.run)
    ids, values = verdicts["a"]
    found = dict(zip(ids.to_pylist(), values.tolist(), strict=True))
    assert (found["a-19"], found["a-3"], found["a-15"]) == (0.5, 0.0, 1.0)
    edu = audit(config, world.run, Quiet(), humans=verdicts).scorers["edu"]
    assert edu.humans is not None
    assert edu.humans.records == 20
    rho = spearmanr(range(20), [found[f"a-{k}"] for k in range(20)]).statistic
    assert edu.humans.within.value == pytest.approx(rho)
    assert edu.teacher is None
    with pytest.raises(ConfigError, match="no scorer 'edv'"):
        audit(config, world.run, Quiet(), names=["edv"])
