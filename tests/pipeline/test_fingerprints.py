from pathlib import Path

import pytest

from mira.config.loading import load_config
from mira.config.paths import PathKind, path_settings
from mira.config.settings import Config
from mira.errors import ConfigError
from mira.pipeline.fingerprints import changes, stage_files, stage_settings
from mira.pipeline.registry import STAGES
from mira.run_folder.paths import RunFolder

FILES = ["free.jsonl", "replies.jsonl", "a.jsonl", "mask.jsonl", "chat.jinja"]
SETTINGS = """
sources: [{name: docs, path: docs.jsonl}]
teacher: {free_judgments: free.jsonl, replies: replies.jsonl}
discover: {rubrics: {text_group_A: a.jsonl}}
distill: {student: sft, sft: {model: base, chat_template: chat.jinja}}
embedding: {model: embedder}
reliability: {mask: mask.jsonl}
"""
# What only other verbs read: `mira students` and `mira cascade`.
BESIDE_THE_STAGES = {"distill.compare", "distill.cascade"}


def _project(folder: Path, settings: str = SETTINGS) -> Config:
    for name in [*FILES, "docs.jsonl", "base/config.json", "embedder/config.json"]:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text('{"text": "x"}\n')
    (folder / "mira.yaml").write_text(settings)
    return load_config(folder / "mira.yaml")


def _inputs(config: Config) -> dict[str, dict[str, dict[str, object]]]:
    run = RunFolder(config.run)
    return {
        stage.name: {"settings": stage_settings(stage, config), "files": dict(stage_files(stage, config, run))}
        for stage in STAGES
    }


def test_what_lies_at_a_path_is_an_input_of_a_stage_whatever_the_setting(tmp_path: Path) -> None:
    config = _project(tmp_path)
    given = [
        s for s in path_settings(config) if s.path and s.kind is not PathKind.SOURCE and Path(s.path).is_absolute()
    ]
    assert {s.name for s in given} >= {"teacher.replies", "reliability.mask", "distill.sft.model", "embedding.model"}
    before = _inputs(config)
    for setting in given:
        if any(setting.name.startswith(name) for name in BESIDE_THE_STAGES):
            continue
        path = Path(setting.path)
        changed = path / "config.json" if path.is_dir() else path
        old = changed.read_text()
        changed.write_text(old + "changed\n")
        after = _inputs(config)
        assert any(
            after[name]["files"].get(setting.name) != before[name]["files"].get(setting.name) for name in after
        ), setting.name
        changed.write_text(old)
    assert _inputs(config) == before


def test_a_project_can_be_moved(tmp_path: Path) -> None:
    here, there = _project(tmp_path / "here"), _project(tmp_path / "there")
    assert str(tmp_path) not in str([stage_settings(stage, here) for stage in STAGES])
    assert {n: i["settings"] for n, i in _inputs(here).items()} == {n: i["settings"] for n, i in _inputs(there).items()}


def test_a_file_that_is_missing_is_named_with_its_setting(tmp_path: Path) -> None:
    config = _project(tmp_path)
    (tmp_path / "mask.jsonl").unlink()
    stage = next(stage for stage in STAGES if stage.name == "reliability")
    with pytest.raises(ConfigError, match=r"reliability\.mask: .*mask\.jsonl: No such file"):
        stage_files(stage, config, RunFolder(config.run))


def test_settings_of_other_methods_do_not_matter(tmp_path: Path) -> None:
    stage = next(stage for stage in STAGES if stage.name == "select")
    plain = stage_settings(stage, _project(tmp_path))
    other = stage_settings(stage, _project(tmp_path, SETTINGS + "select: {dsir: {laplace: 0.5}}\n"))
    own = stage_settings(stage, _project(tmp_path, SETTINGS + "select: {trim: 0.2}\n"))
    assert other == plain
    assert own != plain


def test_changes_are_put_in_words() -> None:
    before = {
        "version": 1,
        "settings": {"select.trim": 0.1},
        "files": {"a": "x"},
        "stages": {"index": "1", "flag": "2"},
    }
    after = {"version": 1, "settings": {"select.trim": 0.1}, "files": {"a": "y"}, "stages": {"index": "3"}}
    assert list(changes(before, after)) == ["a changed", "index gave another output", "flag is not read any more"]
    assert next(iter(changes(before, after | {"version": 2}))) == "its code changed"
