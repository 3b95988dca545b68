"""In which order a cluster does a run: waves of workers, and after each what takes the outputs of all shards."""

from typing import NamedTuple

from mira.cluster.ready import stages_before
from mira.config.settings import Config
from mira.pipeline.registry import STAGES, needed_stages
from mira.progress import Quiet
from mira.run_folder.paths import RunFolder
from mira.selection.ranks.shared import why_alone
from mira.selection.stage import STAGE as SELECT
from mira.selection.stage import selection_inputs
from mira.stage import Stage

__all__ = ["Wave", "waves"]


class Wave(NamedTuple):
    """What is done side by side, and what comes after it.

    Attributes:
        chains: Steps of workers. Those of one chain come one after the other; chains do not wait for each other.
        gather: Commands that run alone once all chains are done, in order: stages, or "run" for all that is left.
    """

    chains: tuple[tuple[str, ...], ...]
    gather: tuple[str, ...]


def waves(config: Config) -> list[Wave]:
    """Return the waves of a run, with only the stages that the configured selection needs."""
    wanted = needed_stages(config)
    order = [stage for stage in STAGES if stage.name in wanted]
    shared = {stage.name for stage in order if _has_workers(stage, config)}
    done: set[str] = set()
    found: list[Wave] = []
    while True:
        ready = [
            stage
            for stage in order
            if stage.name in shared - done and {one.name for one in stages_before(stage, config)} <= done
        ]
        if not ready:
            break
        now = {stage.name for stage in ready}
        gather = []
        for stage in order:
            left = stage.name not in done and (stage.name in now or stage.name not in shared)
            if left and {one.name for one in stages_before(stage, config)} <= done:
                gather.append(stage.name)
                done.add(stage.name)
        found.append(Wave(tuple(tuple(step.name for step in stage.steps) for stage in ready), tuple(gather)))
    if not found:
        return [Wave((), ("run",))]
    return [*found[:-1], found[-1]._replace(gather=("run",))]


def _has_workers(stage: Stage, config: Config) -> bool:
    """Return whether workers can do steps of a stage; some selections are decided by all shards at once."""
    if stage is SELECT and why_alone(selection_inputs(config, RunFolder(config.run), Quiet())):
        return False
    return bool(stage.steps)
