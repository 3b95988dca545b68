"""The proxy on a small run folder: real selections, real models."""

import sys

import pytest

from mira.errors import ConfigError, MiraError
from mira.evaluation.proxy.model import Size
from mira.evaluation.proxy.proxy import CAVEAT, measure, proxy
from mira.evaluation.proxy.results import ProxyResult
from mira.progress import Quiet
from mira.run_folder.files import read_json, write_json
from mira.run_folder.results import read_result
from support.proxy_world import HELD_OUT, SOURCES, proxy_world

TINY = Size(32, 1, 2, 64, 64, 8, 60, 1e-2, 10**4, 300)


class Notes(Quiet):
    def __init__(self):
        self.lines = []

    def note(self, text):
        self.lines.append(text)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return proxy_world(tmp_path_factory.mktemp("proxy"))


def test_wrong_arguments(world):
    for wrong in ({"size": "huge"}, {"seeds": 0}, {"methods": ["best"]}):
        with pytest.raises(ConfigError):
            proxy(world.config(), world.run, Quiet(), **wrong)


def test_without_torch(world, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(MiraError, match=r"(?s)small-LM proxy needs torch.*mira-select\[train\]"):
        proxy(world.config(), world.run, Quiet())


def test_too_little_text(world):
    pytest.importorskip("torch", reason="models need torch: pip install 'mira-select[train]'")
    with pytest.raises(ConfigError, match="bytes to train on"):
        proxy(world.config(budget="0.5%"), world.run, Quiet())


def test_a_good_selection_is_told_from_a_random_one(world, one_thread):
    notes = Notes()
    config = world.config(scope="source")
    result = measure(config, world.run, notes, ["mira", "mira:global"], [0, 1], TINY, "tiny")
    assert result == read_result(ProxyResult, world.run.path / "proxy.json")
    assert result.caveat == CAVEAT == notes.lines[-1]
    assert "do not prove downstream gains" in CAVEAT
    assert (result.size, result.seeds, result.baseline) == ("tiny", [0, 1], "random")
    assert result.train_tokens == 64 * 8 * 60
    assert result.passes == pytest.approx(result.train_tokens / result.data_tokens)
    assert {name: s.kind for name, s in result.gold.items()} == {
        "text_group_A/keep": "keep", "text_group_A/drop": "drop",
    }  # fmt: skip
    assert result.gold["text_group_A/keep"].texts == HELD_OUT

    arms = result.arms
    assert list(arms) == ["random", "mira", "mira:global"]
    assert (arms["mira"].scope, arms["mira:global"].scope) == ("source", "global")
    assert arms["mira"].gold_removed == HELD_OUT, "the good half of the held-out records is kept, and is gold"
    assert set(arms["mira"].sources) == set(SOURCES)
    assert sum(arms["mira"].sources.values()) == pytest.approx(1)
    assert arms["random"].difference == {}

    keep, drop = (arms["mira"].difference[kind] for kind in ("keep", "drop"))
    assert max(keep.seeds) < 0 < min(drop.seeds), "prose is learned better from prose, advertisements are not"
    assert keep.records_high < 0
    for kind in ("keep", "drop"):
        own, other = (arms[name].bits_per_byte[kind].seeds for name in ("mira", "random"))
        assert arms["mira"].difference[kind].seeds == pytest.approx([a - b for a, b in zip(own, other, strict=True)])
        assert own[0] != own[1]
    assert any("6 models" in line for line in notes.lines)


def test_finished_models_are_taken_over(world, one_thread):
    config = world.config(scope="source")
    first = measure(config, world.run, Quiet(), ["mira"], [0, 1], TINY, "tiny")
    files = sorted((world.run.path / "proxy").glob("*.json"))
    again = measure(config, world.run, Quiet(), ["mira", "raw"], [0], TINY, "tiny")
    seeds = [r.arms["mira"].bits_per_byte["keep"].seeds for r in (first, again)]
    assert seeds[1] == pytest.approx(seeds[0][:1], rel=1e-12)
    assert again.arms["mira"].loss == first.arms["mira"].loss[:1]
    assert len(list((world.run.path / "proxy").glob("*.json"))) == len(files) + 1
    for path in files:
        known = read_json(path)
        write_json(path, known | {"loss": 77.0})
    assert measure(config, world.run, Quiet(), ["mira"], [0], TINY, "tiny").arms["mira"].loss == [77.0]
    other = TINY.__class__(**{**{f: getattr(TINY, f) for f in TINY.__dataclass_fields__}, "steps": 10})
    assert measure(config, world.run, Quiet(), ["mira"], [0], other, "tiny").arms["mira"].loss != [77.0]
