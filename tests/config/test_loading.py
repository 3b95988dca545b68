import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from mira.config.loading import load_config
from mira.config.settings import Config
from mira.config.template import template, write_template
from mira.config.tokens import Tokens
from mira.errors import ConfigError

GOOD = """\
sources:
  - name: docs
    path: data/*.jsonl
teacher:
  replies: replies.jsonl
"""


def _load(tmp_path: Path, text: str, *overrides: str) -> Config:
    path = tmp_path / "mira.yaml"
    path.write_text(text)
    return load_config(path, overrides)


def _problem(tmp_path: Path, text: str, *overrides: str) -> str:
    with pytest.raises(ConfigError) as caught:
        _load(tmp_path, text, *overrides)
    return str(caught.value)


def test_relative_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    config = _load(tmp_path, GOOD)
    assert config.run == tmp_path / "run"
    assert config.sources[0].path == str(tmp_path / "data/*.jsonl")
    assert config.teacher.replies == str(tmp_path / "replies.jsonl")


def test_urls_are_left_as_they_are(tmp_path: Path) -> None:
    config = _load(tmp_path, GOOD.replace("data/*.jsonl", "s3://bucket/docs/*.jsonl"))
    assert config.sources[0].path == "s3://bucket/docs/*.jsonl"


def test_an_embedding_model_is_a_folder_where_there_is_one(tmp_path: Path) -> None:
    for name in ("models/mini", "minilm"):
        (tmp_path / name).mkdir(parents=True)
    for model, expected in {
        "models/mini": str(tmp_path / "models/mini"),
        "minilm": "minilm",
        "org/mini": "org/mini",
        "http://host/v1": "http://host/v1",
    }.items():
        assert _load(tmp_path, GOOD, f"embedding.model={model}").embedding.model == expected


def test_tokenizers_and_tuning_files_are_relative_to_the_file(tmp_path: Path) -> None:
    (tmp_path / "base").mkdir()
    (tmp_path / "qwen3").mkdir()
    text = GOOD + (
        "tokenizer: tok/tokenizer.json\n"
        "distill:\n"
        "  endpoint: {base_url: http://h/v1, model: m, tokenizer: base}\n"
        "  endpoints: {text_group_A: {base_url: http://h/v1, model: m}}\n"
        "  sft: {model: base, chat_template: chat.jinja}\n"
    )
    config = _load(tmp_path, text)
    assert config.tokenizer == str(tmp_path / "tok/tokenizer.json")
    distill = config.distill
    assert distill.endpoint is not None
    assert (distill.endpoint.tokenizer, distill.sft.model) == (str(tmp_path / "base"), str(tmp_path / "base"))
    assert distill.sft.chat_template == str(tmp_path / "chat.jinja")
    of_group = distill.endpoints["text_group_A"]
    assert of_group.tokenizer == "qwen3", "a folder of that name is not meant"
    assert "tokenizer" not in of_group.model_fields_set, "a bundle knows its own"
    assert _load(tmp_path, GOOD, "tokenizer=qwen4").tokenizer == "qwen4"


def test_a_day_that_there_is_not_is_told(tmp_path: Path) -> None:
    assert "not valid YAML: month must be in 1..12" in _problem(tmp_path, GOOD + "seed: 2024-13-01\n")
    assert "seed" in _problem(tmp_path, GOOD, "seed=2024-13-01")


def test_every_problem_is_told_with_its_line(tmp_path: Path) -> None:
    text = GOOD + "selct: {}\nselect:\n  budget: 50%\n  trim: 0.7\n"
    problem = _problem(tmp_path, text)
    assert "mira.yaml:6: unknown field 'selct'; did you mean 'select'?" in problem
    assert "mira.yaml:9: select.trim: input should be less than 0.5" in problem


def test_problem_inside_a_source_has_its_line(tmp_path: Path) -> None:
    problem = _problem(tmp_path, GOOD.replace("path:", "pth:"))
    assert "mira.yaml:3: unknown field 'sources.0.pth'; did you mean 'path'?" in problem
    assert "field 'sources.0.path' is missing" in problem


def test_a_key_in_the_file_is_refused_without_being_repeated(tmp_path: Path) -> None:
    text = GOOD + "distill:\n  endpoint: {base_url: http://h/v1, model: m, api_key: sk-secret}\n"
    problem = _problem(tmp_path, text)
    assert "api_key_env" in problem
    assert "Keys come from the environment" in problem
    assert "sk-secret" not in problem


def test_credentials_in_a_url_are_refused(tmp_path: Path) -> None:
    text = GOOD + "distill:\n  endpoint: {base_url: 'http://user:hunter2@h/v1', model: m}\n"
    problem = _problem(tmp_path, text)
    assert "carries a user name or password" in problem
    assert "hunter2" not in problem


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("sources: [", "mira.yaml:1: "),
        ("- a\n- b\n", "expected settings"),
        ("[]", "expected settings"),
        (GOOD + "seed: 1\nseed: 2\n", "mira.yaml:7: 'seed' is given twice"),
        (GOOD.replace("teacher:", "  - {name: docs, path: x.jsonl}\nteacher:"), "source 'docs' is given twice"),
        (GOOD + "select: {source_min: {dcs: 10%}}\n", "Did you mean 'docs'?"),
        (GOOD + "distill: {student: endpoint}\n", "distill.endpoint is missing"),
        (GOOD.replace("name: docs", "name: ../docs"), "sources.0.name"),
    ],
)
def test_wrong_files(tmp_path: Path, text: str, expected: str) -> None:
    assert expected in _problem(tmp_path, text)


def test_a_missing_file_says_how_to_write_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="mira init"):
        load_config(tmp_path / "nope.yaml")


def test_overrides(tmp_path: Path) -> None:
    config = _load(tmp_path, GOOD, "select.budget=25%", "seed=7", "select.source_max={docs: 10%}")
    assert (config.select.budget, config.seed) == (Tokens.parse("25%"), 7)
    assert config.select.source_max == {"docs": Tokens.parse("10%")}
    assert "expected KEY=VALUE" in _problem(tmp_path, GOOD, "seed")
    assert "did you mean 'budget'" in _problem(tmp_path, GOOD, "select.bugdet=3")


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("select.method=foo", "input should be 'raw', 'random'"),
        ("select.budget=0.5", '0.5 is less than one token. For a share, write "50%".'),
        ("select.budget=5 apples", "'5 apples' is not a number of tokens"),
        ("select.source_min={dcs: 10%}", "there is no source 'dcs'"),
        ("distill.endpoint.model=m", "field 'distill.endpoint.base_url' is missing"),
        ("flags.benchmarks=[b.jsonl]", "flags.benchmarks.0: expected fields, such as {name: ..., path: ...}"),
        ("select.dsir.target={name: a}", "field 'select.dsir.target.path' is missing"),
    ],
)
def test_overrides_are_blamed_as_such(tmp_path: Path, override: str, expected: str) -> None:
    problem = _problem(tmp_path, GOOD + "select:\n  method: random\n  budget: 50%\nflags: {exact: true}\n", override)
    assert problem.startswith(f"{override} (from the command line): {expected}")
    assert problem.count("\n") == 1, "one problem and one hint"
    assert "mira.yaml" not in problem
    assert "lines above" not in problem


def test_a_problem_of_the_file_is_not_blamed_on_an_override(tmp_path: Path) -> None:
    text = GOOD + "select:\n  budget: 0.5\ndistill:\n  endpoint: {base_url: http://h/v1}\n"
    problem = _problem(tmp_path, text, "select.method=random", "distill.student=endpoint", "distill.endpoint.samples=2")
    assert "mira.yaml:7: select.budget: 0.5 is less than one token" in problem
    assert "mira.yaml:9: field 'distill.endpoint.model' is missing" in problem
    assert "command line" not in problem
    assert "command line" not in _problem(tmp_path, "", "seed=1"), "an empty file lacks its sources"


def test_template_is_valid_and_shows_every_setting(tmp_path: Path) -> None:
    text = template()
    Config.model_validate(yaml.safe_load(text))
    for name, field in Config.model_fields.items():
        assert name in text
        for inner in getattr(type(field.default), "model_fields", {}):
            assert f"{inner}:" in text


def test_template_shows_how_a_benchmark_is_given() -> None:
    example = re.search(r"e\.g\. (\[\{name: .*\}\])\.", template())
    assert example
    config = {"sources": [{"name": "a", "path": "b"}], "flags": {"benchmarks": yaml.safe_load(example[1])}}
    assert Config.model_validate(config).flags.benchmarks[0].name == "gsm8k"


def test_template_with_every_default_uncommented_is_the_default() -> None:
    rest = template().split("# Seed of every sample", 1)[1]
    teacher, after = rest.split("# Further fields of `teacher` above:\n")[1].split("\n\n", 1)
    text = "\n".join([rest.split("# Further fields")[0], "# teacher:", teacher, after])
    # what is left after one "# " are settings, comments on them ("# ..."), and the sentences that head the sections
    settings = [line.removeprefix("# ") for line in text.splitlines() if line.startswith("# ")]
    settings = [line for line in settings if re.match(r"\s*[a-z_]+:", line)]
    found = Config.model_validate({"sources": [{"name": "a", "path": "b"}], **yaml.safe_load("\n".join(settings))})
    assert found == Config.model_validate({"sources": [{"name": "a", "path": "b"}]})


def test_template_is_not_written_over_a_file(tmp_path: Path) -> None:
    path = tmp_path / "mira.yaml"
    write_template(path)
    with pytest.raises(ConfigError, match="there already"):
        write_template(path)


@pytest.mark.parametrize("limit", ["max_requests", "max_cost"])
def test_a_limit_below_nothing_is_refused(tmp_path: Path, limit: str) -> None:
    path = tmp_path / "mira.yaml"
    path.write_text("sources: [{name: a, path: a.jsonl}]\n")
    with pytest.raises(ConfigError, match=f"teacher.{limit}"):
        load_config(path, [f"teacher.{limit}=-1"])
    assert getattr(load_config(path, [f"teacher.{limit}=0"]).teacher, limit) == 0


@pytest.mark.parametrize("text", ["&a [*a]", "&a {b: *a}"])
def test_aliases_that_have_no_end_are_refused(tmp_path, text):
    path = tmp_path / "mira.yaml"
    path.write_text(f"sources: {text}\n")
    with pytest.raises(ConfigError, match="aliases stand for more than 100,000 values, or for themselves"):
        load_config(path)


def test_aliases_nine_deep_are_refused_at_once(tmp_path):
    path = tmp_path / "mira.yaml"
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 10)]
    path.write_text("\n".join(lines))
    with pytest.raises(ConfigError, match="aliases stand for"):
        load_config(path)
    path.write_text("sources: " + "[" * 5000)
    with pytest.raises(ConfigError, match="nested too deeply"):
        load_config(path)
    path.write_text("sources:\n  - &s {name: a, path: x.jsonl}\n  - {<<: *s, name: b}\n")
    assert [source.name for source in load_config(path).sources] == ["a", "b"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (GOOD.replace("data/*.jsonl", "''"), "source 'docs': path is empty"),
        (GOOD.replace("data/*.jsonl", "[]"), "source 'docs': path is empty"),
        (GOOD.replace("data/*.jsonl", "[a.jsonl, '']"), "source 'docs': path is empty"),
        (GOOD.replace("docs", "d" * 101), "the name has 101 letters"),
        (GOOD + "seed: -1\n", "mira.yaml:6: seed: input should be greater than or equal to 0"),
        (GOOD + f"seed: {2**32}\n", f"mira.yaml:6: seed: input should be less than {2**32}"),
        (GOOD + f"shard_bytes: {2**63}\n", f"shard_bytes: {2**63} is too large"),
        (GOOD + "distill: {endpoint: {base_url: http://h/v1, model: m, extra_body: {n: [1e400]}}}\n", ""),
        (GOOD + "select: {temperature: .inf}\n", "temperature: input should be a finite number"),
        (GOOD + "select: {trim: .nan}\n", "trim: input should be a finite number"),
    ],
)
def test_values_that_nothing_can_be_done_with_are_one_line(tmp_path: Path, text: str, expected: str) -> None:
    if expected:
        assert expected in _problem(tmp_path, text)
    else:
        _load(tmp_path, text)


RENAMED = {
    "distill.sft.training": ("distill.sft.where", "job"),
    "distill.cascade.within_errors": ("distill.cascade.errors", "2.0"),
    "select.ppl.keep": ("select.ppl.slice", "middle"),
    "select.ppl.endpoint.logprobs_from": ("select.ppl.endpoint.form", "echo"),
}
ENDPOINT = ["select.ppl.endpoint.base_url=http://x/v1", "select.ppl.endpoint.model=m"]


def value_at(config: Any, name: str) -> Any:
    for part in name.split("."):
        config = getattr(config, part)
    return config


@pytest.mark.parametrize("name", RENAMED)
def test_earlier_names_of_settings_work_and_count_as_before(tmp_path: Path, name: str) -> None:
    earlier, value = RENAMED[name]
    more = ENDPOINT if "endpoint" in name else []
    new, old = (_load(tmp_path, GOOD, *more, f"{n}={value}") for n in (name, earlier))
    assert new.model_dump() == old.model_dump()
    assert str(value_at(new, name)) == value
    dumped = new.model_dump(mode="json", exclude_defaults=True)
    for part in earlier.split("."):
        dumped = dumped[part]
    assert str(dumped) == value, "fingerprints hold the earlier name"


@pytest.mark.parametrize("name", RENAMED)
def test_a_setting_under_both_names_is_refused(tmp_path: Path, name: str) -> None:
    earlier, value = RENAMED[name]
    more = ENDPOINT if "endpoint" in name else []
    said = _problem(tmp_path, GOOD, *more, f"{name}={value}", f"{earlier}={value}")
    assert f"unknown field '{earlier}'" in said


@pytest.mark.parametrize("name", RENAMED)
def test_a_wrong_value_is_blamed_on_the_name_that_was_written(tmp_path: Path, name: str) -> None:
    earlier, _ = RENAMED[name]
    more = ENDPOINT if "endpoint" in name else []
    for written in (name, earlier):
        assert _problem(tmp_path, GOOD, *more, f"{written}=nonsense").startswith(f"{written}=nonsense")


def test_the_template_has_no_earlier_name() -> None:
    text = template()
    assert "training: here" in text and "keep: low" in text and "within_errors: null" in text
    assert not re.search(r"^# +(where|slice|errors|form):", text, re.MULTILINE)
