"""Shares: one type for every setting that holds one, in percent or as a number."""

import re
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from mira.config.base import Kind
from mira.config.loading import load_config
from mira.config.settings import Config
from mira.errors import ConfigError


def _settings(model: type[BaseModel], prefix: str = "") -> dict[str, Any]:
    found = {}
    for name, field in model.model_fields.items():
        found[prefix + name] = field
        if isinstance(field.default, BaseModel):
            found |= _settings(type(field.default), f"{prefix}{name}.")
    return found


SETTINGS = _settings(Config)
SHARES = [name for name, field in SETTINGS.items() if any(isinstance(m, Kind) for m in field.metadata)]
SHARES = [name for name in SHARES if SETTINGS[name].annotation is float]


def _load(folder: Path, override: str) -> Config:
    path = folder / "mira.yaml"
    path.write_text("sources: [{name: a, path: a.jsonl}]\n")
    return load_config(path, [override])


def _value(config: Any, name: str) -> Any:
    for part in name.split("."):
        config = getattr(config, part)
    return config


def test_every_number_that_cannot_exceed_1_is_a_share() -> None:
    bounded = {
        name
        for name, field in SETTINGS.items()
        if any(getattr(m, "le", getattr(m, "lt", None)) in (1, 0.5) for m in field.metadata)
        and any(getattr(m, "ge", getattr(m, "gt", -1)) >= 0 for m in field.metadata)
    }
    assert bounded == set(SHARES)
    assert {"label.held_out", "teacher.failure_budget", "select.trim", "evaluate.interval"} <= bounded


@pytest.mark.parametrize("name", SHARES)
def test_every_share_may_be_in_percent(name: str, tmp_path: Path) -> None:
    assert _value(_load(tmp_path, f"{name}=40%"), name) == 0.4
    assert _value(_load(tmp_path, f"{name}='37.5%'"), name) == 0.375
    assert _value(_load(tmp_path, f"{name}=0.4"), name) == 0.4
    for wrong, said in {
        "40": "40 is more than the whole. A share is from 0 to 1, or from 0% to 100%. Did you mean 40%?",
        "140%": "140% is more than the whole. A share is from 0 to 1, or from 0% to 100%.",
        "-1%": "-1% is below 0.",
        "half": "'half' is not a share. Write 0.5 or \"50%\".",
        "true": "true and false are not shares",
        "[1]": "input should be a valid number",
        ".nan": "input should be a finite number",
    }.items():
        with pytest.raises(ConfigError, match=re.escape(said)):
            _load(tmp_path, f"{name}={wrong}")


def test_percent_is_the_same_setting_as_the_number(tmp_path: Path) -> None:
    for percent, number in {"1%": 0.01, "2.5%": 0.025, "7%": 0.07, "29%": 0.29, "99.9%": 0.999}.items():
        given = _load(tmp_path, f"label.held_out={percent}")
        assert given.model_dump() == _load(tmp_path, f"label.held_out={number}").model_dump()
