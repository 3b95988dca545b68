import json
import os
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from mira.config.settings import Config
from mira.corpus import build_index
from mira.errors import ConfigError, RunError
from mira.grouping.groups import load_groups
from mira.grouping.stage import _letters, cluster_sources, group
from mira.progress import Quiet
from mira.run_folder.paths import RunFolder

KITCHEN = "Boil the pasta in salted water, fry the onions in butter and serve with grated cheese, dish number {}."
GARDEN = "Simmer the soup with carrots and herbs, bake the bread until golden and season the salad, recipe {}."
NETWORK = "The TCP socket retries the handshake when a packet is lost and the router drops the connection, case {}."


def _sources(tmp_path: Path) -> list[dict[str, str]]:
    texts = {"sockets": NETWORK, "pasta": KITCHEN, "routers": NETWORK + " Firewalls log it.", "soup": GARDEN}
    for name, text in texts.items():
        lines = (json.dumps({"text": text.format(i)}) for i in range(5))
        (tmp_path / f"{name}.jsonl").write_text("\n".join(lines))
    return [{"name": name, "path": str(tmp_path / f"{name}.jsonl")} for name in texts]


def _config(tmp_path: Path, **sections: object) -> Config:
    return Config.model_validate({"run": tmp_path / "run", "sources": _sources(tmp_path), **sections})


def _group(config: Config) -> dict[str, list[str]]:
    run = RunFolder(config.run)
    build_index(config, run, Quiet())
    found: dict[str, list[str]] = group(config, run, Quiet())["groups"]
    return found


def test_sources_that_are_alike_meet(tmp_path: Path) -> None:
    config = _config(tmp_path, group={"k": 2, "sample": 5})
    assert _group(config) == {"text_group_A": ["sockets", "routers"], "text_group_B": ["pasta", "soup"]}
    first = load_groups(RunFolder(config.run))[0]
    assert first.cosines[0][:2] == ("sockets", "routers")
    assert 0.5 < first.cosines[0][2] <= 1


def test_k_is_chosen_by_silhouette(tmp_path: Path) -> None:
    config = _config(tmp_path, group={"sample": 5})
    assert _group(config) == {"text_group_A": ["sockets", "routers"], "text_group_B": ["pasta", "soup"]}
    choice = json.loads(RunFolder(config.run).groups.read_text())["k"]["text"]
    assert (choice["k"], choice["how"]) == (2, "silhouette")


def test_given_groups_are_taken_as_they_are(tmp_path: Path) -> None:
    given = {"text_group_A": ["pasta", "sockets"]}
    config = _config(tmp_path, group={"k": 1, "sample": 5, "given": given})
    assert _group(config) == {"text_group_A": ["pasta", "sockets"], "text_group_B": ["routers", "soup"]}


def test_families_are_clustered_apart(tmp_path: Path) -> None:
    (tmp_path / "qa.jsonl").write_text(json.dumps({"question": NETWORK, "answer": "Because it is lost."}))
    sources = [*_sources(tmp_path), {"name": "qa", "family": "qa", "path": str(tmp_path / "qa.jsonl")}]
    config = Config.model_validate({"run": tmp_path / "run", "sources": sources, "group": {"k": {"text": 1}}})
    assert _group(config) == {"text_group_A": ["sockets", "pasta", "routers", "soup"], "qa_group_A": ["qa"]}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"k": 9}, "9 groups of the 4 text sources"),
        ({"given": {"text_group_A": ["pasta"], "text_group_B": ["pasta", "soup"]}}, "source 'pasta' is named twice"),
        ({"given": {"text_group_A": ["pasta", "pasta"]}}, "source 'pasta' is named twice"),
        ({"given": {"text_group_A": []}}, "text_group_A: holds no source"),
        ({"given": {"qa_group_A": ["pasta"]}}, "is named text_group_ and"),
        ({"given": {"text_group_../A": ["pasta"]}}, "is named text_group_ and"),
    ],
)
def test_wrong_settings(tmp_path: Path, settings: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        _group(_config(tmp_path, group={"sample": 2, **settings}))


def test_there_is_a_name_for_every_group() -> None:
    names = list(islice(_letters(), 28))
    assert [names[0], *names[25:]] == ["A", "Z", "AA", "AB"]


def test_no_groups_yet(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="mira group"):
        load_groups(RunFolder(tmp_path))


def test_one_or_two_sources_make_one_group() -> None:
    assert cluster_sources(np.eye(2, 3, dtype=np.float32), None, 0)[0] == [0, 0]
    assert cluster_sources(np.eye(1, 3, dtype=np.float32), None, 0)[0] == [0]


def test_new_sources_join_the_nearest_given_group(tmp_path: Path) -> None:
    given = {"text_group_net": ["sockets"], "text_group_food": ["pasta"]}
    config = _config(tmp_path, group={"sample": 5, "given": given, "new_sources": "nearest"})
    assert _group(config) == {"text_group_net": ["sockets", "routers"], "text_group_food": ["pasta", "soup"]}
    joined = json.loads(RunFolder(config.run).groups.read_text())["joined"]
    assert [(j["source"], j["group"], j["next"][0], j["own"]) for j in joined] == [
        ("routers", "text_group_net", "text_group_food", 1.0),
        ("soup", "text_group_food", "text_group_net", 1.0),
    ]
    assert all(j["next"][1] < j["cosine"] < 1 for j in joined)
    named = {"text_group_net": ["sockets", "soup"], "text_group_food": ["pasta"]}
    config = _config(tmp_path, group={"sample": 5, "given": named, "new_sources": "nearest"})
    assert _group(config)["text_group_net"] == ["sockets", "soup", "routers"]


def test_a_family_without_a_given_group_is_clustered(tmp_path: Path) -> None:
    config = _config(tmp_path, group={"sample": 5, "new_sources": "nearest"})
    assert _group(config) == {"text_group_A": ["sockets", "routers"], "text_group_B": ["pasta", "soup"]}
    assert "joined" not in json.loads(RunFolder(config.run).groups.read_text())


def test_vectors_are_kept_while_a_source_stays_as_it_is(tmp_path: Path) -> None:
    config = _config(tmp_path, group={"k": 2, "sample": 5})
    _group(config)
    run = RunFolder(config.run)
    whole, folder = run.groups.read_bytes(), run.cache / "vectors"

    def entries() -> dict[str, int]:
        return {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}

    for path in folder.iterdir():  # times that no new file has
        os.utime(path, ns=(1, 1))
    before = entries()
    assert len(before) == 4
    _group(config)
    assert entries() == before and run.groups.read_bytes() == whole
    for path in folder.iterdir():  # damage is repaired, never believed
        data = bytearray(path.read_bytes())
        data[-2] ^= 64
        path.write_bytes(data)
        os.utime(path, ns=(1, 1))
    _group(config)
    assert run.groups.read_bytes() == whole and entries().keys() == before.keys()
    assert 1 not in entries().values()
    before = entries()
    (tmp_path / "soup.jsonl").write_text(json.dumps({"text": GARDEN}))
    _group(config)
    after = entries()
    assert len(after) == 4 and len(after.items() & before.items()) == 3, "one is new, and the old one is gone"
    _group(_config(tmp_path, group={"k": 2, "sample": 4}))
    assert len(entries()) == 4 and not entries().items() & after.items()
