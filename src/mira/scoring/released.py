"""Scoring with a released scorer that somebody serves: an endpoint and an anchors file, nothing else."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from mira.config_file import config_from
from mira.corpus.record import FamilyName
from mira.errors import ConfigError
from mira.pipeline import run_stages
from mira.progress import Log
from mira.run import RunFolder

__all__ = ["score_released"]


def score_released(
    urls: Sequence[str],
    model: str,
    rubric: Path | None,
    inputs: Sequence[str],
    *,
    family: str = FamilyName.TEXT.value,
    fields: Mapping[str, str] | None = None,
    out: Path = Path("scores"),
    api_key_env: str = "",
    overrides: Sequence[str] = (),
    log: Log | None = None,
) -> list[Path]:
    """Score records of one source with a served scorer: no discovery, no labels.

    Args:
        urls: The endpoint's base URLs; several are replicas of one model.
        model: Its model name.
        rubric: The scorer's anchors file.
        inputs: Paths, globs or URLs of the records.
        family: Their family.
        fields: mira's field name -> theirs.
        out: Run folder for sidecars, index and journal.
        api_key_env: Name of the environment variable with the key.
        overrides: Further settings, "distill.endpoint.temperature=0" and the like.
        log: Where progress goes.

    Returns:
        The score sidecars.

    Raises:
        MiraError: Something is missing or wrong, or more records stayed unscored than the failure budget allows.
    """
    for option, given in (("--model", model), ("--rubric", rubric), ("--input", inputs)):
        if not given:
            raise ConfigError(f"score --judge needs {option}", "See: mira score --help")
    letter = re.search(r"group_([^_.]+)", Path(rubric or "").name)
    group = f"{family}_group_{letter[1] if letter else 'released'}"
    config = config_from(
        {
            "run": str(out),
            "sources": [{"name": "input", "path": list(inputs), "family": family, "fields": dict(fields or {})}],
            "group": {"given": {group: ["input"]}},
            "discover": {"rubrics": {group: str(rubric)}},
            "distill": {
                "student": "endpoint",
                "endpoint": {"base_url": list(urls), "model": model, "api_key_env": api_key_env},
            },
        },
        overrides,
        "command line",
    )
    run_stages(config, ["index", "group", "discover", "label", "distill", "score"], log)
    return sorted(RunFolder(config.run).scores("input").glob("*.parquet"))
