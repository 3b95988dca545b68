"""Two runs side by side: counts add up, causes are named, and each flip has the reason that moved it."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

import mira
from mira.cli.app import app
from mira.errors import ConservationError, RunError
from mira.evaluation.diff.causes import settings_of
from mira.evaluation.diff.diff import diff
from mira.evaluation.diff.records import _weights
from mira.evaluation.diff.results import DiffResult
from mira.evaluation.diff.words import summary
from mira.progress import Quiet
from mira.run_folder.results import read_result
from mira.selection.quality import trimmed_mean
from support.selection_world import Item, World

N = 40
MANIFEST: dict[str, Any] = {"stages": {}}


def world(folder: Path, change: Any = lambda scores, _k: scores, drop: int = 0, **select: Any) -> World:
    """Two sources of records with three slots each; `change` edits scores, `drop` leaves records out."""
    rng = np.random.default_rng(0)
    scores = {s: [[float(x) for x in rng.uniform(0, 10, 3)] for _ in range(N)] for s in ("a", "b")}
    sources = {s: [[Item(f"{s}-{k}", change(own[k], k)) for k in range(N - drop)]] for s, own in scores.items()}
    found = World(folder, sources, {"g": ("a", "b")})
    group = {"name": "g", "family": "text", "sources": ["a", "b"], "cosines": []}
    found.run.groups.write_text(json.dumps({"groups": [group]}))
    found.mask({})
    found.select(scope="source", trim=0, min_slots=1, **select)
    return found


def compared(a: World, b: World, **settings: tuple[Any, Any]) -> DiffResult:
    """Compare, with manifests that hold what the selections were made with."""
    manifests = []
    for side in (0, 1):
        given = {"select.trim": 0, "select.min_slots": 1, **{f"select.{k}": v[side] for k, v in settings.items()}}
        manifests.append({"stages": {"select": {"digest": str(side), "inputs": {"settings": given, "files": {}}}}})
    return diff(a.run, b.run, (manifests[0], manifests[1]), Quiet(), flips=N)


def test_a_run_and_itself(tmp_path: Path) -> None:
    one = world(tmp_path)
    found = diff(one.run, one.run, (MANIFEST, MANIFEST), Quiet())
    assert {s: (d.both, d.only_a, d.gained, d.lost, d.rho) for s, d in found.sources.items()} == {
        "a": (N, 0, 0, 0, pytest.approx(1)), "b": (N, 0, 0, 0, pytest.approx(1)),
    }  # fmt: skip
    assert found.summary[-1] == "nothing changed"
    assert not found.flips


def test_another_budget_moves_the_threshold(tmp_path: Path) -> None:
    a, b = world(tmp_path / "a"), world(tmp_path / "b", budget="25%")
    found = compared(a, b, budget=(None, "25%"))
    kept = [w.kept() for w in (a, b)]
    for source, one in found.sources.items():
        mine = [{id for s, id in k if s == source} for k in kept]
        assert (one.kept_a, one.kept_b, one.kept_both) == (len(mine[0]), len(mine[1]), len(mine[0] & mine[1]))
        assert (one.gained, one.lost) == (0, len(mine[0] - mine[1]))
        assert (one.by_threshold, one.by_slots) == (one.lost, 0)
    assert {f.why for f in found.flips} == {"threshold"}
    text = "\n".join(found.summary)
    assert "setting select.budget: default -> 25%" in text
    assert "threshold of a: " in text


def test_the_slot_that_changed_is_named(tmp_path: Path) -> None:
    a = world(tmp_path / "a")
    b = world(tmp_path / "b", lambda scores, _k: [scores[0], 10 - scores[1], scores[2]])
    found = compared(a, b)
    for one in found.sources.values():
        assert one.gained + one.lost == one.by_threshold + one.by_slots > 0
        assert {slot for slot, s in one.slots.items() if s.decided} <= {"A2"}
        assert one.slots["A2"].rho == pytest.approx(-1)
        assert one.slots["A1"].rho == pytest.approx(1)
        assert one.slots["A1"].shift == 0
    by_slot = [f for f in found.flips if f.why == "A2"]
    assert by_slot
    for flip in by_slot:
        assert flip.quality_a is not None
        assert flip.quality_b is not None
        assert flip.by == pytest.approx(flip.quality_b - flip.quality_a, abs=1e-5)
        assert (flip.by > 0) == (flip.kept_in == "B")


def test_a_mask_takes_its_slot_away(tmp_path: Path) -> None:
    a, b = world(tmp_path / "a"), world(tmp_path / "b")
    b.mask({"a": ["A3"]})
    b.select(scope="source", trim=0, min_slots=1)
    found = compared(a, b)
    assert [(m.source, m.slot, m.masked_in) for m in found.masks] == [("a", "A3", "B")]
    own = found.sources["a"]
    assert (own.slots["A3"].used_a, own.slots["A3"].used_b) == (True, False)
    assert own.by_rest == 0  # the parts of the slots add up, although a mask changed
    assert own.gained + own.lost == own.by_threshold + own.by_slots > 0
    assert found.sources["b"].gained == found.sources["b"].lost == 0


def test_records_of_one_run_alone(tmp_path: Path) -> None:
    a, b = world(tmp_path / "a"), world(tmp_path / "b", drop=7)
    one = compared(a, b).sources["a"]
    assert (one.both, one.only_a, one.only_b) == (N - 7, 7, 0)
    assert one.kept_a == one.kept_both + one.lost + one.kept_only_a
    assert one.kept_b == one.kept_both + one.gained + one.kept_only_b
    told = json.loads(b.run.thresholds.read_text())
    told["sources"]["a"]["records_in"] += 1
    b.run.thresholds.write_text(json.dumps(told))
    with pytest.raises(ConservationError, match=r"has 34 valid records by thresholds\.json, and 33"):
        compared(a, b)
    b.run.thresholds.unlink()
    with pytest.raises(RunError, match="nothing is selected yet"):
        compared(a, b)


def test_weights_are_those_of_the_trimmed_mean() -> None:
    rng = np.random.default_rng(1)
    scores = np.round(rng.uniform(0, 10, (15, 200)), 1)
    scores[rng.uniform(size=scores.shape) < 0.2] = np.nan
    select = mira.Config.model_validate({"sources": [{"name": "s", "path": "x"}]}).select
    quality = trimmed_mean([column.astype(np.float32) for column in scores], select.trim, 1)[0]
    mine = (_weights(scores, select) * np.nan_to_num(scores)).sum(axis=0)
    np.testing.assert_allclose(mine, quality, atol=1e-5)


def test_settings_of_two_manifests() -> None:
    a = {"stages": {"label": {"inputs": {"settings": {"label.sample": 10, "seed": 0}}}}}
    b = {"stages": {"label": {"inputs": {"settings": {"seed": 0}}}, "flag": {"inputs": {"settings": {"seed": 0}}}}}
    b["stages"]["report"] = {"inputs": {"settings": {"seed": 7}}}
    assert settings_of(a, b) == {"label": {"label.sample": (10, None)}, "flag": {"seed": (None, 0)}}


def test_the_command(tmp_path: Path) -> None:
    for name, budget in (("a", "50%"), ("b", "25%")):
        one = world(tmp_path / name, budget=budget)
        manifest = {"mira": mira.__version__, "format": 1, "stages": {}}
        one.run.manifest.write_text(json.dumps(manifest))
    words = ["diff", str(tmp_path / "a"), str(tmp_path / "b" / "run"), "--json", str(tmp_path / "out.json")]
    done = CliRunner().invoke(app, words, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    assert "80 records in both runs" in done.output
    found = read_result(DiffResult, tmp_path / "out.json")
    assert found == mira.diff(tmp_path / "a", tmp_path / "b")
    assert tuple(summary(found)) == found.summary
    with pytest.raises(RunError, match="there is no run here"):
        mira.diff(tmp_path, tmp_path / "b")
