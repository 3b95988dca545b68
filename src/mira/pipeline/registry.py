"""The stages, in order. Each is declared in the folder of its name."""

from mira.config.settings import Config, FlagSettings
from mira.corpus.stage import STAGE as INDEX
from mira.discovery.stage import STAGE as DISCOVER
from mira.distillation.stage import STAGE as DISTILL
from mira.flags.stage import STAGE as FLAG
from mira.foreign.stage import STAGE as JOIN
from mira.grouping.stage import STAGE as GROUP
from mira.labelling.stage import STAGE as LABEL
from mira.reliability.stage import STAGE as RELIABILITY
from mira.report.stage import STAGE as REPORT
from mira.scoring.stage import STAGE as SCORE
from mira.selection.stage import STAGE as SELECT
from mira.stage import Stage

__all__ = ["EXTRAS", "STAGES", "needed_stages"]

STAGES: tuple[Stage, ...] = (INDEX, JOIN, GROUP, DISCOVER, LABEL, DISTILL, SCORE, RELIABILITY, FLAG, SELECT, REPORT)

EXTRAS = {
    "audit.json": SELECT,
    "compare.json": SELECT,
    "evaluation.json": SELECT,
    "pairs.json": SELECT,
    "proxy.json": SELECT,
    "cascade.json": SELECT,
    "review.json": SELECT,
    "students.json": RELIABILITY,
}
"""What other verbs make of a finished run -> the stage whose next run makes it stale."""


def needed_stages(config: Config) -> set[str]:
    """Return the stages that a report on the configured selection needs: random selection needs no teacher."""
    wanted = {REPORT.name, *SELECT.needs(config)} | ({FLAG.name} if config.flags != FlagSettings() else set())
    if config.scores:
        wanted.add(JOIN.name)
    for stage in reversed(STAGES):
        if stage.name in wanted:
            wanted.update(stage.needs(config))
    return wanted
