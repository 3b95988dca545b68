"""Foreign scores as slots: trusted where they rank as the teacher's overall does, masked with a reason elsewhere."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from mira.config.settings import ForeignSettings, ReliabilitySettings
from mira.grouping.groups import Group
from mira.reliability.foreign import foreign_rows, overall_of
from mira.reliability.stage import _figures
from mira.run_folder.files import write_parquet
from mira.run_folder.paths import RunFolder

N = 80
MORE = {"recommendation": "keep", "split": "train"}


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    """Labels of two sources; `good` follows the overall score on another scale, upside down; `noise` does not."""
    run, rng = RunFolder(tmp_path), np.random.default_rng(0)
    labels = []
    for source in ("a", "b"):
        overall = rng.uniform(20, 90, N)
        ids = [f"{source}{k:03d}" for k in range(N)]
        for name, values in (("good", 3 - overall / 50 + rng.normal(0, 0.1, N)), ("noise", rng.normal(size=N))):
            table = pa.table({"id": ids[::-1], "value": values[::-1]})
            write_parquet(run.foreign(name, source) / "s.parquet", table)
        labels += [
            {
                "id": i,
                "source": source,
                "replicate": r,
                "overall": o,
                "recommendation": "keep",
                "split": "train",
                "A1": 5.0,
            }
            for i, o in zip(ids, overall, strict=True)
            for r in (1, 0)
        ]
    write_parquet(run.labels("g"), pa.Table.from_pylist(labels))
    return run


def rows(run: RunFolder, **scores: dict[str, object]) -> dict[tuple[str, str], dict[str, object]]:
    settings = {name: ForeignSettings.model_validate({"field": "x", **given}) for name, given in scores.items()}
    group = Group(name="g", family="text", sources=("a", "b"))
    found = foreign_rows(run, [group], settings, ReliabilitySettings(bootstrap=200, min_n=30), _figures, 0)
    return {(row["source"], row["slot"]): row for row in found}


def test_a_score_that_ranks_as_the_teacher_does_is_trusted(run: RunFolder) -> None:
    found = rows(
        run,
        good={"range": [0, 3], "better": "lower", "slot": "tested"},
        noise={"range": [-9, 9], "slot": "tested"},
        unused={"range": [0, 1]},
    )
    assert {key: row["masked"] for key, row in found.items()} == {
        ("a", "good"): False, ("b", "good"): False, ("a", "noise"): True, ("b", "noise"): True,
    }  # fmt: skip
    assert found["a", "good"]["rho"] > 0.9
    assert found["a", "good"]["skill"] > 0.5  # although its scale is another
    assert str(found["a", "noise"]["why"]).startswith("weak ranking")


def test_the_wrong_direction_is_masked_and_trust_is_given(run: RunFolder) -> None:
    found = rows(
        run,
        good={"range": [0, 3], "slot": "tested", "sources": ["a"]},
        noise={"range": [-9, 9], "slot": "trusted"},
    )
    assert found.keys() == {("a", "good"), ("a", "noise"), ("b", "noise")}
    assert found["a", "good"]["rho"] < -0.9
    assert found["a", "good"]["masked"]
    assert not found["a", "noise"]["masked"]
    assert found["a", "noise"]["rho"] < 0.5  # told, although it was not asked for


def test_without_labels_a_tested_score_is_masked(run: RunFolder) -> None:
    run.labels("g").unlink()
    found = rows(run, good={"range": [0, 3], "slot": "tested"})
    assert all(str(row["why"]).startswith("too few labels") for row in found.values())


def test_the_overall_score_is_that_of_the_first_judgement_that_has_one() -> None:
    table = pa.table(
        {"id": ["x", "x", "y"], "source": ["a"] * 3, "replicate": [1, 0, 0], "overall": [50.0, None, 70.0]}
    )
    ids, overall = overall_of(table, "a")
    assert (ids.to_pylist(), overall.tolist()) == (["x", "y"], [50.0, 70.0])
