from pathlib import Path

import yaml

from mira.config.loading import load_config
from mira.config.paths import PathKind, path_settings

SETTINGS = """
run: out
tokenizer: t/tokenizer.json
sources: [{name: docs, path: [docs/*.jsonl, "s3://bucket/*.jsonl"]}]
teacher:
  free_judgments: free.jsonl
  replies: replies.jsonl
  endpoint: {base_url: http://localhost/v1, model: m, tokenizer: qwen3}
embedding: {model: minilm}
discover: {rubrics: {text_group_A: a.jsonl}}
distill:
  student: bundle
  bundles: {text_group_A: bundle}
  compare: [other]
  sft: {model: Qwen/Name, chat_template: chat.jinja}
reliability: {mask: mask.jsonl}
flags: {benchmarks: [{name: b, path: b.jsonl}]}
select: {dsir: {target: {name: t, path: t.jsonl}}, ppl: {model: ngram}}
"""


def test_a_setting_says_once_that_it_is_a_path(tmp_path: Path) -> None:
    (tmp_path / "mira.yaml").write_text(SETTINGS)
    config = load_config(tmp_path / "mira.yaml")
    found = {setting.name: (setting.kind, setting.path) for setting in path_settings(config)}
    assert config.run == tmp_path / "out"
    assert found["tokenizer"] == (PathKind.TOKENIZER, str(tmp_path / "t/tokenizer.json"))
    assert found["sources.0.path.0"] == (PathKind.SOURCE, str(tmp_path / "docs/*.jsonl"))
    assert found["sources.0.path.1"] == (PathKind.SOURCE, "s3://bucket/*.jsonl")
    assert found["teacher.free_judgments"] == (PathKind.FILE, str(tmp_path / "free.jsonl"))
    assert found["teacher.endpoint.tokenizer"] == (PathKind.TOKENIZER, "qwen3")
    assert found["discover.rubrics.text_group_A"] == (PathKind.FILE, str(tmp_path / "a.jsonl"))
    assert found["distill.bundles.text_group_A"] == (PathKind.BUNDLE, str(tmp_path / "bundle"))
    assert found["distill.compare.0"] == (PathKind.BUNDLE, str(tmp_path / "other"))
    assert found["distill.sft.model"] == (PathKind.MODEL, "Qwen/Name")
    assert found["distill.sft.chat_template"] == (PathKind.FILE, str(tmp_path / "chat.jinja"))
    assert found["flags.benchmarks.0.path"] == (PathKind.SOURCE, str(tmp_path / "b.jsonl"))
    assert found["select.dsir.target.path"] == (PathKind.SOURCE, str(tmp_path / "t.jsonl"))
    assert found["select.ppl.model"] == (PathKind.MODEL, "ngram")


def test_a_model_is_a_folder_if_there_is_one_and_else_a_name(tmp_path: Path) -> None:
    settings = yaml.safe_load(SETTINGS)
    settings["distill"]["sft"]["model"] = "my/model"
    (tmp_path / "mira.yaml").write_text(yaml.safe_dump(settings))
    assert load_config(tmp_path / "mira.yaml").distill.sft.model == "my/model"
    (tmp_path / "my/model").mkdir(parents=True)
    assert load_config(tmp_path / "mira.yaml").distill.sft.model == str(tmp_path / "my/model")
