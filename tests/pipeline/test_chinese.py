"""One source in Chinese and one in mixed languages go through all stages, and come out right."""

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

import mira
from mira.corpus import tokenizer
from mira.distillation.encoder.agreement import spearman
from support.chinese_world import EXPLAINS, GROUP, NAMES, ChineseWorld


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> ChineseWorld:
    pytest.importorskip("rensa")
    world = ChineseWorld(tmp_path_factory.mktemp("chinese"))
    world.mira("run")
    world.mira("flag")
    return world


def _rows(folder: Path) -> list[dict[str, object]]:
    return [row for path in sorted(folder.glob("[!d]*.parquet")) for row in pq.read_table(path).to_pylist()]


def test_tokens_are_those_of_the_text(world: ChineseWorld) -> None:
    counter = tokenizer("qwen3")
    for source, texts in world.texts.items():
        rows = {row["id"]: row["n_tokens"] for row in _rows(world.run / "index" / source)}
        assert rows.keys() == texts.keys()
        assert rows == dict(zip(texts, counter.count(list(texts.values())), strict=True))
    chinese = list(world.texts["zh"].values())
    per_token = sum(map(len, chinese)) / sum(counter.count(chinese))
    assert 1 < per_token < 2.5, "a Chinese token is one or two characters"


def test_the_rubric_keeps_its_names_and_the_teacher_is_read(world: ChineseWorld) -> None:
    run = mira.open(world.run)
    assert tuple(a.name for a in run.rubric(GROUP).anchors) == NAMES
    labels = {row["id"]: row for row in pq.read_table(world.run / "labels" / f"{GROUP}.parquet").to_pylist()}
    assert len(labels) == 120
    for id, row in labels.items():
        assert row["A1"] == pytest.approx(10 * world.good[id], abs=0.051)
        assert (row["rationales"][0], row["domain_tag"], row["brief"]) == ("因为解释了原因", "文档", "一段说明。")


def test_the_student_learns_chinese(world: ChineseWorld) -> None:
    for source in world.texts:
        rows = [row for row in _rows(world.run / "scores" / source) if row["id"] in world.good]
        found = np.array([row["A1"] for row in rows])
        wanted = np.array([world.good[str(row["id"])] for row in rows])
        assert spearman(found, wanted) > 0.8
    cells = pq.read_table(world.run / "reliability.parquet").to_pylist()
    trusted = {(c["source"], c["slot"]) for c in cells if not c["masked"]}
    assert {(s, "A1") for s in world.texts} <= trusted
    assert not {(s, "A4") for s in world.texts} & trusted, "noise is masked in any language"


def test_copies_in_chinese_are_found(world: ChineseWorld) -> None:
    rows = {row["id"]: row for row in _rows(world.run / "flags" / "zh")}
    near = {id: row["near_duplicate_of"] for id, row in rows.items() if row["near_duplicate_of"]}
    exact = {id: row["duplicate_of"] for id, row in rows.items() if row["duplicate_of"]}
    assert near in ({"zh-near": "zh/zh-0"}, {"zh-0": "zh/zh-near"})
    assert exact in ({"zh-exact": "zh/zh-1"}, {"zh-1": "zh/zh-exact"}), "white space does not count"


def test_the_selection_prefers_what_explains(world: ChineseWorld) -> None:
    rows = [row for source in world.texts for row in _rows(world.run / "selection" / source)]
    kept = [world.good[str(r["id"])] for r in rows if r["kept"] and r["id"] in world.good]
    dropped = [world.good[str(r["id"])] for r in rows if not r["kept"] and r["id"] in world.good]
    assert min(len(kept), len(dropped)) > 20
    assert np.mean(kept) > np.mean(dropped) + 0.25
    text = "".join(p.read_text(encoding="utf-8") for p in (world.run / "selected").rglob("*.jsonl"))
    assert EXPLAINS[0] in text, "kept records have their original bytes"


def test_dsir_tells_the_target_from_the_rest(world: ChineseWorld, tmp_path: Path) -> None:
    world.mira("compare", "--methods", "dsir,random")
    rows = [row for p in (world.run / "values").glob("dsir*/zh/*.parquet") for row in pq.read_table(p).to_pylist()]
    ids = [row["id"] for row in _rows(world.run / "index" / "zh")]
    values = {id: row["value"] for id, row in zip(ids, rows, strict=True) if row["value"] is not None}
    assert len(values) == len(ids), "Chinese texts have words enough"
    per_character = {id: values[id] / len(world.texts["zh"][id]) for id in values if id in world.good}
    good = [per_character[id] for id in per_character if world.good[id] > 0.7]
    poor = [per_character[id] for id in per_character if world.good[id] < 0.3]
    assert min(good) > max(poor)


def test_the_report_shows_chinese_whole(world: ChineseWorld) -> None:
    page = (world.run / "report.html").read_text(encoding="utf-8")
    assert '<meta charset="utf-8"' in page.lower()
    for name in NAMES:
        assert name in page
    assert "\ufffd" not in page
    assert "&#2" not in page, "Chinese is written as it is"
    assert any(sentence in page for sentence in EXPLAINS), "an example shows its sentences unbroken"
