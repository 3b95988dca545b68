"""A discovered rubric is kept while its points and settings are the same."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from mira.config.settings import DiscoverSettings
from mira.discovery.discovered import asked_hash, discovered_rubric, discovery_state, would_be_discovered
from mira.rubric.points import JudgmentPoint
from mira.rubric.rubric import Rubric
from mira.run_folder.paths import RunFolder

SETTINGS = DiscoverSettings(slots=2, references=1)
GROUP = "text_group_A"
POINTS = [
    JudgmentPoint(f"r{i}", "s", ("Depth", "Breadth")[i % 2], i / 2, f"{'because' * (i % 2)} reason {i}")
    for i in range(12)
]


class Letters:
    """An embedder by counts of letters, which counts the texts."""

    dim = 26

    def __init__(self, identity: str = "letters") -> None:
        self.identity, self.texts = identity, 0

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        self.texts += len(texts)
        rows = np.array([[text.count(chr(97 + i)) + 0.1 for i in range(26)] for text in texts], np.float32)
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def _discover(
    run: RunFolder, points: list[JudgmentPoint] = POINTS, settings: DiscoverSettings = SETTINGS, model: str = "letters"
) -> tuple[Rubric, bool]:
    """Return the rubric, and whether it was clustered."""
    embedder = Letters(model)
    rubric, record = discovered_rubric(settings, 0, run, GROUP, points, embedder, asked_hash([b"one", b"two"]))
    assert record["points"] == len(points) and len(record["clusters"]) == len(rubric.anchors)
    return rubric, bool(embedder.texts)


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    return RunFolder(tmp_path)


def test_the_same_points_are_clustered_once(run: RunFolder) -> None:
    rubric, clustered = _discover(run)
    assert clustered and rubric.n_referenced == 1 and len(rubric.anchors) == 2
    files = [run.points(GROUP), run.path / "discovery" / f"{GROUP}_dim_anchors.jsonl"]
    whole = [path.read_bytes() for path in files]
    assert _discover(run) == (rubric, False)
    for path in [*files, discovery_state(run, GROUP)]:  # damage is repaired
        path.write_bytes(path.read_bytes()[:-9])
        assert _discover(run) == (rubric, True)
        assert [path.read_bytes() for path in files] == whole
        path.unlink()
        assert _discover(run) == (rubric, True)
    assert _discover(run, POINTS[:-1])[1]
    assert _discover(run, settings=SETTINGS.model_copy(update={"name_weight": 0.5}))[1]
    assert _discover(run, model="another")[1]


def test_the_rubric_is_foreseen_only_if_nothing_changed(run: RunFolder) -> None:
    rubric, _ = _discover(run)
    asked = asked_hash([b"two", b"one"])

    def foreseen(settings: DiscoverSettings = SETTINGS, asked: str = asked, model: str = "letters") -> Rubric | None:
        return would_be_discovered(settings, 0, run, GROUP, asked, Letters(model))

    found = foreseen()
    assert found is not None and found.anchors == rubric.anchors
    assert foreseen(asked=asked_hash([b"one"])) is None
    assert foreseen(SETTINGS.model_copy(update={"references": 2})) is None
    assert foreseen(model="another") is None
    path = run.path / "discovery" / f"{GROUP}_dim_anchors.jsonl"
    path.write_bytes(path.read_bytes() + b"\n")
    assert foreseen() is None
