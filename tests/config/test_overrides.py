"""Overrides lead to sources by name, whatever the names look like."""

from pathlib import Path
from typing import Any

import pytest

from mira.config.loading import load_config
from mira.config.settings import Config
from mira.errors import ConfigError

SETTINGS = """\
sources:
  - {name: docs, path: data/docs.jsonl}
  - {name: v1.2, path: data/v1.jsonl}
  - {name: v1.2.path, path: data/v1-path.jsonl}
  - {name: a+b-c_d, path: data/abc.jsonl, family: qa, fields: {question: q}}
select: {}
flags: {benchmarks: [{name: "GSM 8k", path: bench.jsonl}]}
"""


def _load(folder: Path, *overrides: str) -> Config:
    (folder / "mira.yaml").write_text(SETTINGS)
    return load_config(folder / "mira.yaml", overrides)


@pytest.mark.parametrize(
    ("override", "found"),
    [
        ("sources.docs.path=new.jsonl", lambda c: c.source("docs").path),
        ("sources.0.path=new.jsonl", lambda c: c.source("docs").path),
        ("sources.v1.2.path=new.jsonl", lambda c: c.source("v1.2").path),
        ("sources.v1.2.path.path=new.jsonl", lambda c: c.source("v1.2.path").path),
        ("sources.a+b-c_d.path=new.jsonl", lambda c: c.source("a+b-c_d").path),
        ("flags.benchmarks.GSM 8k.path=new.jsonl", lambda c: c.flags.benchmarks[0].path),
        ("sources=[{name: a, path: new.jsonl}]", lambda c: c.sources[0].path),
    ],
)
def test_entries_are_known_by_name(override: str, found: Any, tmp_path: Path) -> None:
    assert found(_load(tmp_path, override)) == str(tmp_path / "new.jsonl")


def test_keys_of_mappings_may_contain_dots(tmp_path: Path) -> None:
    config = _load(
        tmp_path, "sources.a+b-c_d.fields.question=meta.title", "select.source_min.v1.2=10%",
        "distill.endpoint={base_url: http://h/v1, model: m}",
        "distill.endpoint.extra_body.chat_template_kwargs.enable_thinking=false",
        "distill.endpoint.headers.X-A.B=GATEWAY",
    )  # fmt: skip
    assert config.source("a+b-c_d").fields == {"question": "meta.title"}
    assert str(config.select.source_min["v1.2"]) == "10%"
    assert config.distill.endpoint is not None
    assert config.distill.endpoint.extra_body == {"chat_template_kwargs": {"enable_thinking": False}}
    assert config.distill.endpoint.headers == {"X-A.B": "GATEWAY"}


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        (
            "sources.dcs.path=x",
            "--set sources.dcs.path=x: sources has no entry 'dcs'\n"
            "  Did you mean 'docs'? Known: docs, v1.2, v1.2.path, a+b-c_d.",
        ),
        ("sources.9.path=x", "sources has no entry '9'\n  Known: docs, "),
        ("sources.docs.pth=x", "sources.docs.pth=x (from the command line): unknown field 'sources.0.pth'"),
        ("sources.docs.family=tex", "sources.docs.family=tex (from the command line): sources.0.family: input should"),
        ("sources.docs.path.x=1", "'path' holds no fields"),
        ("evaluate.proxy.gold.a.path=x", "evaluate.proxy.gold has no entry 'a'\n  The settings name no entry yet."),
    ],
)
def test_a_wrong_name_lists_the_known_ones(override: str, expected: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        _load(tmp_path, override)
    assert expected in str(caught.value)
