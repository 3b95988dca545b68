"""Scoring with a scorer that is there already: a bundle, or an endpoint and an anchors file; nothing else."""

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mira import plugins
from mira.config.loading import config_from
from mira.config.settings import Config
from mira.distillation.bundle import verify
from mira.errors import ConfigError, InputError
from mira.family import FamilyName
from mira.pipeline.runner import run_stages
from mira.progress import Log
from mira.rubric.rubric import Rubric
from mira.run_folder.paths import RunFolder
from mira.run_folder.stored import run_path
from mira.run_folder.working_copy import given_as
from mira.urls import check_folder, check_place

__all__ = ["score_bundle", "score_endpoint"]


def score_endpoint(
    urls: Sequence[str],
    model: str,
    rubric: Path | str | None,
    inputs: Sequence[str],
    *,
    source: str = "input",
    family: str = FamilyName.TEXT.value,
    fields: Mapping[str, str] | None = None,
    out: Path | str = "scores",
    api_key_env: str = "",
    overrides: Sequence[str] = (),
    log: Log | None = None,
    batch: Callable[[Config], None] | None = None,
    force: bool = False,
) -> list[Path]:
    """Score records of one source with a served scorer: no discovery, no labels.

    Args:
        urls: The endpoint's base URLs; several are replicas of one model.
        model: Its model name.
        rubric: The scorer's anchors file.
        inputs: Paths, globs or URLs of the records.
        source: Name of their source; ids are made of it where the records have none.
        family: Their family.
        fields: mira's field name -> theirs.
        out: Run folder for sidecars, index and journal.
        api_key_env: Name of the environment variable with the key.
        overrides: Further settings, "distill.endpoint.temperature=0" and the like.
        log: Where progress goes.
        batch: Called with the settings in place of scoring, to write or read batch files; nothing is sent then.
        force: Do everything again, even what is up to date; replies in the journal are not asked for again.

    Returns:
        The score sidecars.

    Raises:
        MiraError: Something is missing or wrong, `out` is the run folder of other sources, or more records stayed
            unscored than the failure budget allows.
    """
    for option, given in (("--model", model), ("--rubric", rubric), ("--input", inputs)):
        if not given:
            raise ConfigError(f"score-endpoint needs {option}", "See: mira score-endpoint --help")
    Rubric.load(Path(rubric or ""))  # before the records are read
    letter = re.search(r"group_([^_.]+)", Path(rubric or "").name)
    group = f"{family}_group_{letter[1] if letter else 'released'}"
    endpoint = {"base_url": list(urls), "model": model, "api_key_env": api_key_env}
    records = {"name": source, "path": list(inputs), "family": family, "fields": dict(fields or {})}
    distill = {"student": "endpoint", "endpoint": endpoint}
    return _score(group, Path(rubric or ""), records, distill, out, overrides, log, batch, force=force)


def score_bundle(
    bundle: Path | str,
    inputs: Sequence[str],
    *,
    urls: Sequence[str] = (),
    model: str = "",
    source: str = "input",
    family: str = "",
    fields: Mapping[str, str] | None = None,
    out: Path | str = "scores",
    api_key_env: str = "",
    overrides: Sequence[str] = (),
    log: Log | None = None,
    batch: Callable[[Config], None] | None = None,
    force: bool = False,
) -> list[Path]:
    """Score records of one source with a scorer bundle, e.g. one that was pulled: no discovery, no labels.

    An encoder runs in this process, and so does a head unless `urls` say where it is served. A tuned LM must be served;
    it is asked with the prompt that it was trained with.

    Args:
        bundle: The bundle's folder.
        inputs: Paths, globs or URLs of the records.
        urls: Base URLs of the endpoint that serves the bundle; none for an encoder, and for a head that runs here.
        model: The bundle's model name at that endpoint.
        source: Name of the records' source. An encoder has learnt an offset for each source that it was trained on, so
            records of one of these get the scores that they had in the bundle's own run only under its name.
        family: The records' family; by default that of the bundle's group.
        fields: mira's field name -> theirs.
        out: Run folder for sidecars, index and journal.
        api_key_env: Name of the environment variable with the endpoint's key.
        overrides: Further settings, "score.workers=4" and the like.
        log: Where progress goes.
        batch: Called with the settings in place of scoring, to write or read batch files; nothing is sent then.
        force: Do everything again, even what is up to date; replies in the journal are not asked for again.

    Returns:
        The score sidecars.

    Raises:
        InputError: The folder is not a bundle, or a file of it is changed or unsafe.
        MiraError: Something is missing or wrong, `out` is the run folder of other sources, or more records stayed
            unscored than the failure budget allows.
    """
    check_folder(str(bundle), "score-bundle")
    bundle = Path(bundle)
    facts = verify(bundle)
    kind, group = facts["kind"], str(facts.get("group", ""))
    if not inputs:
        raise ConfigError("score-bundle needs --input", "See: mira score-bundle --help")
    served = {"base_url": list(urls), "model": model, "api_key_env": api_key_env}
    if kind == "encoder" and (urls or model or api_key_env):
        raise ConfigError(
            f"{bundle}: an encoder runs here, it is not served", "Leave --judge, --model and --api-key-env out."
        )
    if kind == "encoder" and batch:
        raise ConfigError(f"{bundle}: an encoder runs here and sends nothing", "Leave --export and --import out.")
    if kind == "head" and batch:
        raise ConfigError(f"{bundle}: batch files have no form for a head", "Leave --export and --import out.")
    if (kind not in ("encoder", "head") or urls or model) and not (urls and model):
        raise ConfigError(f"{bundle}: a bundle of kind '{kind}' has to be served", "Add --judge URL and --model NAME.")
    own, _, letter = group.rpartition("_group_")
    if letter and not plugins.is_known(plugins.FAMILIES, own):
        raise InputError(
            f"{bundle / 'bundle.json'}: field 'group' is '{group}', and no family '{own}' is known here",
            "Install the package that adds the family, or train or pull the bundle again.",
        )
    if not letter:
        raise InputError(f"{bundle / 'bundle.json'}: field 'group' is '{group}'", "Train or pull the bundle again.")
    if family and family != own:
        raise ConfigError(f"{bundle} scores records of family {own}, not {family}", "Choose another bundle.")
    if kind == "encoder" and log is not None and source not in facts["sources"]:
        log.note(
            f"source '{source}' is none that the student was trained on ({', '.join(facts['sources'])}): its scores "
            "have no offset of a source; if it is one of these, name it with --source"
        )
    records = {"name": source, "path": list(inputs), "family": own, "fields": dict(fields or {})}
    distill: dict[str, Any] = {"student": "bundle", "bundles": {group: str(bundle)}}
    if urls:
        distill["endpoint"] = served
    return _score(group, bundle / "rubric.jsonl", records, distill, out, overrides, log, batch, force=force)


def _score(
    group: str,
    rubric: Path,
    source: dict[str, Any],
    distill: dict[str, Any],
    out: Path | str,
    overrides: Sequence[str],
    log: Log | None,
    batch: Callable[[Config], None] | None,
    *,
    force: bool,
) -> list[Path]:
    run = given_as(run_path(out))
    check_place(run, "--out")
    settings = {
        "run": run,
        "sources": [source],
        "group": {"given": {group: [source["name"]]}},
        "discover": {"rubrics": {group: str(rubric)}},
        "distill": distill,
    }
    config = config_from(settings, overrides, "command line")
    others = [p.name for p in (config.run / "index").glob("[!.]*") if p.is_dir() and p.name != source["name"]]
    if others:
        raise ConfigError(
            f"{config.run} is the run folder of other sources ({min(others)}), whose students would be replaced",
            "Choose another --out.",
        )
    stages = ["index", "group", "discover", "label", "distill", "score"]
    run_stages(config, stages[:-1] if batch else stages, log, force=force)
    if batch:
        batch(config)
        return []
    return sorted(RunFolder(config.run).scores(source["name"]).glob("*.parquet"))
