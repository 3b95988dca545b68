"""The cascade's served students: which records' second opinion comes from where."""

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mira.config.settings import Config, DistillSettings, EndpointSettings, SelectSettings
from mira.distillation.bundle import read_bundle
from mira.distillation.head.bundle import read_head
from mira.distillation.head.served import ServedHead
from mira.distillation.head.student import HeadStudent
from mira.distillation.sft.student import bundle_prompt, served_settings, served_student
from mira.distillation.student import released_prompt
from mira.errors import ConfigError, RunError
from mira.grouping.groups import load_groups
from mira.judging.endpoint import EndpointJudge
from mira.judging.judge import Judge
from mira.llm.cost import current_spending
from mira.llm.failures import check_failures
from mira.llm.journal.journal import Journal
from mira.progress import Log
from mira.rescoring.cascade import cascade
from mira.rubric.rubric import Rubric
from mira.run_folder.paths import RunFolder
from mira.selection.stage import selection_inputs

__all__ = ["check_cascade", "is_cascade", "run_cascade"]


def run_cascade(config: Config, run: RunFolder, log: Log) -> dict[str, Any]:
    """Have stronger students judge again what the encoder puts near the thresholds.

    A group's stronger student is the bundle in `distill.cascade.bundles`: an sft bundle is served, and asked with the
    prompt that it was trained with; a head is served or, without an endpoint, scores here. Without a bundle it is a
    released scorer, asked with the run's rubric. See `mira.rescoring.cascade.cascade`.

    Raises:
        ConfigError: A group has no endpoint, or a bundle is given for a group that the run does not have.
        InputError: A bundle cannot be read, or would be asked with another prompt than it was trained with.
        RunError: A bundle scores by another rubric than the run's; or an earlier stage has not run.
        JudgeError: More calls got no answer than the failure budget allows. What was answered is in place.
    """
    check_cascade(config.distill, {g.name: Rubric.load(run.rubric(g.name), g.name) for g in load_groups(run)})

    @contextmanager
    def served(group: str) -> Iterator[Judge]:
        folder = config.distill.cascade.bundles.get(group)
        if folder and _is_head(folder) and config.distill.endpoint_of(group) is None:
            yield HeadStudent(Path(folder), config.distill.head.scoring, threads=0)
            return
        settings = _cascade_endpoint(config.distill, group)
        spending, offline = current_spending(config.teacher), config.teacher.offline
        with Journal(run.journal, "cascade") as journal:
            if folder and _is_head(folder):
                yield ServedHead(Path(folder), settings, journal, spending=spending, offline=offline, log=log)
            elif folder:
                yield served_student(Path(folder), settings, journal, spending=spending, offline=offline, log=log)
            else:
                rubric = Rubric.load(run.rubric(group), group)
                prompt = released_prompt(rubric, config.discover, settings)
                yield EndpointJudge(settings, rubric, prompt, journal, spending=spending, offline=offline, log=log)

    summary = cascade(selection_inputs(config, run, log), config.distill.cascade, served)
    unscored = {source: Counter(told["unscored"]) for source, told in summary.items()}
    check_failures(unscored, sum(t["calls"] for t in summary.values()), config.teacher.failure_budget, log)
    return summary


def is_cascade(distill: DistillSettings, select: SelectSettings) -> bool:
    """Tell whether the settings are those of a cascade: an encoder first, and a served student besides."""
    served = distill.endpoint or distill.endpoints or distill.cascade.bundles or select.scores == "cascade"
    return distill.student == "encoder" and bool(served)


def check_cascade(distill: DistillSettings, rubrics: Mapping[str, Rubric | None]) -> None:
    """Check every group's served student before anything is asked or removed.

    Args:
        distill: The endpoints, and the bundles that they serve.
        rubrics: Every group's rubric; None where it is not known yet.

    Raises:
        ConfigError: A group has no endpoint, or a bundle is given for a group that does not exist.
        InputError: A bundle cannot be read, or would be asked with another prompt than it was trained with.
        JudgeError: An endpoint's settings do not fit its bundle.
        RunError: A bundle scores by another rubric than its group's.
    """
    bundles = distill.cascade.bundles
    strange = [group for group in bundles if group not in rubrics]
    if strange:
        raise ConfigError(
            f"distill.cascade.bundles: there is no group '{strange[0]}'", f"Groups are: {', '.join(rubrics)}"
        )
    for group, rubric in rubrics.items():
        if group in bundles and _is_head(bundles[group]):
            own = read_head(Path(bundles[group])).rubric
        else:
            settings = _cascade_endpoint(distill, group)
            if group not in bundles:
                continue
            served_settings(Path(bundles[group]), settings)
            own, _ = bundle_prompt(Path(bundles[group]))
        if rubric is not None and own.hash != rubric.hash:
            raise RunError(
                f"distill.cascade.bundles: {bundles[group]} scores by another rubric than {group}'s",
                "Take a bundle that was trained on this run's labels, or its rubric as discover.rubrics.",
            )


def _is_head(folder: str) -> bool:
    return bool(read_bundle(Path(folder))["kind"] == "head")


def _cascade_endpoint(distill: DistillSettings, group: str) -> EndpointSettings:
    settings = distill.endpoint_of(group)
    if settings is None:
        raise ConfigError(
            f"the cascade needs a served student for {group}",
            "Add distill: {endpoint: {base_url: http://HOST:8000/v1, model: NAME}}, or one per group in "
            "distill.endpoints.",
        )
    return settings
