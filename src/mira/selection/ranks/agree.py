"""One plan for all workers: one of them finds the cutoffs, and the others wait for what it puts."""

from collections.abc import Sequence

from mira.run_folder.folder_store import store_of
from mira.selection.ranks.plan_file import WritePlan, read_plan, write_plan
from mira.selection.ranks.rank_file import RankTask, rank_identity
from mira.selection.ranks.shared import shared_plan
from mira.selection.values import SelectionInputs, SelectionMethod
from mira.sharing.lease import Leases
from mira.sharing.worker import this_worker

__all__ = ["agreed_plan", "plan_of"]

_ROOM = "plan"


def plan_of(inputs: SelectionInputs, method: SelectionMethod, tasks: Sequence[RankTask]) -> WritePlan | None:
    """Return the plan in the run folder; None if it is missing, or was not made of some shards as they are now.

    Args:
        inputs: What the selection is made from.
        method: The method.
        tasks: The shards of this worker.
    """
    plan = read_plan(inputs, method.name)
    made_of = plan is not None and all(plan.has(task.value.shard, rank_identity(task)) for task in tasks)
    return plan if made_of else None


def agreed_plan(inputs: SelectionInputs, method: SelectionMethod, tasks: Sequence[RankTask]) -> WritePlan:
    """Return the plan, made here if no other worker is at it. Whoever makes it puts the same bytes.

    Raises:
        RunError: Shards have no rank file yet.
    """
    if this_worker().of < 2 or not (store := store_of(inputs.run.path)).conditional():
        return _made(inputs, method)
    told = False
    with Leases(store, _ROOM) as leases:
        while True:
            leases.survey()
            mine = leases.take(_ROOM, method.name)
            if plan := plan_of(inputs, method, tasks):
                return plan
            if mine:
                return _made(inputs, method)
            if not told:
                inputs.log.note("another worker finds the cutoffs: waiting for it")
                told = True
            leases.pause()


def _made(inputs: SelectionInputs, method: SelectionMethod) -> WritePlan:
    found = shared_plan(inputs, method, make_missing=False)
    assert found is not None  # it raises where it cannot be made
    return write_plan(inputs, found)
