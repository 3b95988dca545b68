"""A group's student, whatever its kind, as a judge."""

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mira.config import Config, EndpointSettings
from mira.discovery.grouping import load_groups
from mira.discovery.rubric import Rubric
from mira.distillation.bundle import read_bundle, seal
from mira.distillation.cascade import cascade
from mira.distillation.encoder import EncoderStudent
from mira.distillation.sft_student import bundle_prompt, served_settings, served_student
from mira.embedding import load_embedder
from mira.errors import ConfigError, RunError
from mira.files import hash_json, read_json, write_json
from mira.judging.cost import Spending, current_spending
from mira.judging.endpoint import EndpointJudge
from mira.judging.failures import check_failures
from mira.judging.journal import Journal
from mira.judging.judge import Judge
from mira.judging.prompt import build_prompt
from mira.progress import Log
from mira.run import RunFolder

__all__ = [
    "check_cascade",
    "is_cascade",
    "open_student",
    "run_cascade",
    "runs_here",
    "student_kind",
    "write_endpoint_bundle",
]

ENCODER, SFT, ENDPOINT = "encoder", "sft", "endpoint"


def student_kind(run: RunFolder, group: str) -> str:
    """Return the kind of a group's student: "encoder", "sft" or "endpoint".

    Raises:
        RunError: The group has no student yet.
    """
    try:
        return str(read_json(run.student(group) / "bundle.json")["kind"])
    except FileNotFoundError:
        raise RunError(f"{run.student(group)}: there is no student yet", "Run: mira distill CONFIG") from None


def runs_here(run: RunFolder, group: str) -> bool:
    """Tell whether a group's student computes in this process, so that several processes go faster than one."""
    return student_kind(run, group) == ENCODER


@contextmanager
def open_student(config: Config, run: RunFolder, group: str, log: Log) -> Iterator[Judge]:
    """Open a group's student and close what it holds.

    Raises:
        MiraError: The bundle is damaged, or the endpoint is not configured.
    """
    folder = run.student(group)
    if runs_here(run, group):
        # The built-in embedder is loaded by the student where its features need it; another one is known here only.
        other = config.embedding.model != "minilm" and read_bundle(folder).get("embedder")
        embedder = load_embedder(config.embedding, threads=1) if other else None
        yield EncoderStudent.load(folder, embedder)
        return
    settings = config.distill.endpoint_of(group)
    if settings is None:
        raise ConfigError(
            f"{folder} is a served student, but distill.endpoint does not say where it is served",
            "Serve it, and add distill: {endpoint: {base_url: http://HOST:8000/v1, model: NAME}}.",
        )
    spending = current_spending(config.teacher)
    with Journal(run.journal, "student") as journal:
        if student_kind(run, group) == SFT:
            yield served_student(folder, settings, journal, spending=spending, offline=config.teacher.offline, log=log)
        else:
            rubric = Rubric.load(folder / "rubric.jsonl", group)
            yield _released(config, rubric, settings, journal, spending, log)


def _released(
    config: Config, rubric: Rubric, settings: EndpointSettings, journal: Journal, spending: Spending, log: Log
) -> EndpointJudge:
    prompt = build_prompt(rubric, corpus=config.discover.corpus, slot_order=settings.slot_order)
    return EndpointJudge(settings, rubric, prompt, journal, spending=spending, offline=config.teacher.offline, log=log)


def run_cascade(config: Config, run: RunFolder, log: Log) -> dict[str, Any]:
    """Have the students that `distill.endpoint` serves judge again what the encoder puts near the thresholds.

    A group's served student is the sft bundle in `distill.cascade.bundles`, asked with the prompt that it was trained
    with; without one it is a released scorer, asked with the run's rubric. See `mira.distillation.cascade.cascade`.

    Raises:
        ConfigError: A group has no endpoint, or a bundle is given for a group that the run does not have.
        InputError: A bundle cannot be read, or would be asked with another prompt than it was trained with.
        RunError: A bundle scores by another rubric than the run's; or an earlier stage has not run.
        JudgeError: More calls got no answer than the failure budget allows. What was answered is in place.
    """
    check_cascade(config, {g.name: Rubric.load(run.rubric(g.name), g.name) for g in load_groups(run)})

    @contextmanager
    def served(group: str) -> Iterator[Judge]:
        settings, folder = _cascade_endpoint(config, group), config.distill.cascade.bundles.get(group)
        spending = current_spending(config.teacher)
        with Journal(run.journal, "cascade") as journal:
            if folder:
                yield served_student(
                    Path(folder), settings, journal, spending=spending, offline=config.teacher.offline, log=log
                )
            else:
                rubric = Rubric.load(run.rubric(group), group)
                yield _released(config, rubric, settings, journal, spending, log)

    summary = cascade(config, run, log, served)
    unscored = {source: Counter(told["unscored"]) for source, told in summary.items()}
    check_failures(unscored, sum(t["calls"] for t in summary.values()), config.teacher.failure_budget, log)
    return summary


def is_cascade(config: Config) -> bool:
    """Tell whether the settings are those of a cascade: an encoder first, and a served student besides."""
    distill = config.distill
    served = distill.endpoint or distill.endpoints or distill.cascade.bundles or config.select.scores == "cascade"
    return distill.student == "encoder" and bool(served)


def check_cascade(config: Config, rubrics: Mapping[str, Rubric | None]) -> None:
    """Check every group's served student before anything is asked or removed.

    Args:
        config: The settings.
        rubrics: Every group's rubric; None where it is not known yet.

    Raises:
        ConfigError: A group has no endpoint, or a bundle is given for a group that there is not.
        InputError: A bundle cannot be read, or would be asked with another prompt than it was trained with.
        JudgeError: An endpoint's settings do not fit its bundle.
        RunError: A bundle scores by another rubric than its group's.
    """
    bundles = config.distill.cascade.bundles
    strange = [group for group in bundles if group not in rubrics]
    if strange:
        raise ConfigError(
            f"distill.cascade.bundles: there is no group '{strange[0]}'", f"Groups are: {', '.join(rubrics)}"
        )
    for group, rubric in rubrics.items():
        settings = _cascade_endpoint(config, group)
        if group not in bundles:
            continue
        served_settings(Path(bundles[group]), settings)
        own, _ = bundle_prompt(Path(bundles[group]))
        if rubric is not None and own.hash != rubric.hash:
            raise RunError(
                f"distill.cascade.bundles: {bundles[group]} scores by another rubric than {group}'s",
                "Take a bundle that was trained on this run's labels, or its rubric as discover.rubrics.",
            )


def _cascade_endpoint(config: Config, group: str) -> EndpointSettings:
    settings = config.distill.endpoint_of(group)
    if settings is None:
        raise ConfigError(
            f"the cascade needs a served student for {group}",
            "Add distill: {endpoint: {base_url: http://HOST:8000/v1, model: NAME}}, or one a group in "
            "distill.endpoints.",
        )
    return settings


def write_endpoint_bundle(folder: Path, rubric: Rubric, settings: EndpointSettings | None) -> None:
    """Write and seal the bundle of a student that is served elsewhere: its rubric, and what its answers depend on."""
    assert settings is not None, "the settings are checked when they are loaded"
    answers = settings.model_dump(mode="json", exclude={"api_key_env", "price_in", "price_out"})
    rubric.save(folder / "rubric.jsonl")
    facts = {"kind": ENDPOINT, "group": rubric.group, "rubric": rubric.hash, "endpoint": hash_json(answers)}
    write_json(folder / "bundle.json", facts)
    seal(folder)
