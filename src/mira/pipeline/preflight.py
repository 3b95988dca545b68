"""What the settings must hold before a stage spends anything: a teacher, or what stands in for one."""

from collections.abc import Collection, Iterator

from mira.config.settings import Config, ReliabilitySettings, SelectSettings, TeacherSettings
from mira.errors import ConfigError

__all__ = ["check_mask", "check_teacher", "select_warnings"]


def check_teacher(config: Config) -> None:
    """Check that there is a teacher, before anything is spent.

    Raises:
        ConfigError: A teacher is missing; names the three ways to provide one.
    """
    teacher = config.teacher
    if config.distill.student in ("endpoint", "bundle") and not teacher.labels:
        if not config.discover.rubrics:
            raise _no_rubric(config.distill.student)
        return
    has_rubrics = bool(config.discover.rubrics) and set(config.group.given) == set(config.discover.rubrics)
    free = teacher.endpoint or teacher.free_judgments or has_rubrics
    anchored = teacher.labels
    if free and anchored:
        return
    missing = " and ".join(name for name, there in (("free-form judgments", free), ("labels", anchored)) if not there)
    raise ConfigError(
        f"no teacher is configured, and {missing} need one; nothing was asked or spent",
        "There are three ways to provide one:\n"
        "  1. a live endpoint:   teacher: {endpoint: {base_url: https://.../v1, model: NAME, api_key_env: VARIABLE}}\n"
        "  2. batch files:       the same with offline: true; then `mira discover CONFIG --export FILE`, run the\n"
        "                        requests, `--import RESULTS`; and so with `mira label`\n"
        "  3. recorded replies:  teacher: {free_judgments: FILE.jsonl, replies: FILE.jsonl}\n"
        "Without one: select: {method: random}, ppl, or dsir with a target of your own.",
    )


def select_warnings(settings: SelectSettings, rubrics: int) -> Iterator[str]:
    """Yield what makes records hard to compare under settings of selection, or has no effect.

    Args:
        settings: The settings.
        rubrics: How many rubrics there are at least: groups, or families before the sources are clustered.
    """
    if settings.method != "mira":
        if settings.compare_by != "own":
            yield f"compare_by: {settings.compare_by} has no effect: method {settings.method} has no slots"
        return
    if settings.scope == "global" and rubrics > 1:
        yield (
            f"scope: global puts {rubrics} or more rubrics under one threshold: their slots ask different questions. "
            "Use scope group, or compare_by: centred"
        )


def check_mask(reliability: ReliabilitySettings, teacher: TeacherSettings, wanted: Collection[str]) -> None:
    """Check, before anything is spent, that cells can be tested on labels, or that a mask is given.

    Raises:
        ConfigError: `wanted` includes the reliability stage, and there is neither a teacher nor a mask.
    """
    if "reliability" in wanted and not (teacher.endpoint or teacher.replies or reliability.mask):
        raise ConfigError(
            "reliability: without a teacher there are no labels to test the student on, and no reliability.mask is set",
            "Give the mask that came with the scorer: reliability: {mask: FILE.jsonl}. An empty file masks nothing.",
        )


def _no_rubric(student: str) -> ConfigError:
    return ConfigError(
        f"a student of kind '{student}' without a teacher needs its rubric",
        "Point to its anchors file: discover: {rubrics: {text_group_A: FILE.jsonl}}, and name the group's "
        "sources: group: {given: {text_group_A: [...]}}",
    )
