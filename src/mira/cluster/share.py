"""Which share of the shards falls to a worker: from the command line, or from what Slurm or Kubernetes tell it."""

from collections.abc import Mapping
from typing import NamedTuple

from mira.errors import ConfigError
from mira.stage import Share

__all__ = ["find_share", "workers_of"]

_ID, _MIN, _MAX, _COUNT = (f"SLURM_ARRAY_TASK_{name}" for name in ("ID", "MIN", "MAX", "COUNT"))
_INDEX, _WORKERS = "JOB_COMPLETION_INDEX", "MIRA_WORKERS"
_BOTH = "Give both on the command line: --shard I --of N, with I from 0 to N-1."


class _Found(NamedTuple):
    """What the environment says."""

    where: str
    share: Share


def find_share(shard: int | None, of: int | None, environ: Mapping[str, str]) -> Share:
    """Return the share of this worker. The command line wins over the environment.

    Args:
        shard: Number of this worker, from 0, as on the command line.
        of: Number of all workers, as on the command line.
        environ: The environment: SLURM_ARRAY_TASK_ID less SLURM_ARRAY_TASK_MIN and SLURM_ARRAY_TASK_COUNT, or
            JOB_COMPLETION_INDEX and MIRA_WORKERS.

    Raises:
        ConfigError: Nothing says which share it is, or the numbers contradict each other.
    """
    if shard is not None and of is not None:
        return _checked(Share(shard, of), f"--shard {shard} --of {of}")
    found = [one for one in (_slurm(environ), _kubernetes(environ)) if one]
    if not found:
        lacking = "--shard and --of" if of is None and shard is None else "--of" if of is None else "--shard"
        raise ConfigError(
            f"which shards are this worker's? {lacking} is missing, and neither Slurm nor Kubernetes says it",
            f"{_BOTH} Or set {_INDEX} and {_WORKERS}.",
        )
    if len(found) > 1 and found[0].share != found[1].share:
        raise ConfigError(f"{found[0].where} and {found[1].where} say different things", _BOTH)
    where, share = found[0]
    if of is not None and of != share.of:
        raise ConfigError(f"--of is {of}, and {where} is of {share.of}", _BOTH)
    if shard is not None and shard != share.index:
        return _checked(Share(shard, share.of), f"--shard {shard}, of {share.of}")
    return share


def workers_of(of: int | None, environ: Mapping[str, str]) -> int:
    """Return how many workers there are: for who asks about all of them.

    Args:
        of: As on the command line.
        environ: The environment.

    Raises:
        ConfigError: Nothing says it, or it is less than 1.
    """
    if of is not None:
        return _checked(Share(0, of), f"--of {of}").of
    if environ.get(_WORKERS, "").strip():
        return _checked(Share(0, _number(environ, _WORKERS)), _WORKERS).of
    found = _slurm(environ)
    if found is None:
        raise ConfigError("how many workers are there? --of is missing", "Give it: --of N.")
    return found.share.of


def _slurm(environ: Mapping[str, str]) -> _Found | None:
    """Return the share of a task of a Slurm array; None outside of one.

    Raises:
        ConfigError: The array has gaps, or part of its variables is missing.
    """
    names = (_ID, _MIN, _MAX, _COUNT)
    given = [name for name in names if environ.get(name, "").strip()]
    if not given:
        return None
    if lacking := [name for name in names if name not in given]:
        raise ConfigError(f"{given[0]} is set, and {lacking[0]} is not", f"Start it with sbatch --array=0-N. {_BOTH}")
    number, low, high, count = (_number(environ, name) for name in names)
    if high - low + 1 != count:
        raise ConfigError(
            f"the Slurm array has gaps: {count} tasks from {low} to {high}, so that no task knows its share",
            f'{_BOTH} In an array for a part of the workers: --shard "${_ID}" --of N.',
        )
    return _Found(f"{_ID}={number}", _checked(Share(number - low, count), f"{_ID}={number}"))


def _kubernetes(environ: Mapping[str, str]) -> _Found | None:
    """Return the share of a pod of an Indexed Job; None outside of one."""
    names = (_INDEX, _WORKERS)
    given = [name for name in names if environ.get(name, "").strip()]
    if _INDEX not in given:
        return None
    if lacking := [name for name in names if name not in given]:
        raise ConfigError(f"{given[0]} is set, and {lacking[0]} is not", f"Set {lacking[0]}, too. {_BOTH}")
    share = Share(*(_number(environ, name) for name in names))
    return _Found(f"{_INDEX}={share.index}", _checked(share, f"{_INDEX}={share.index}, {_WORKERS}={share.of}"))


def _number(environ: Mapping[str, str], name: str) -> int:
    try:
        return int(environ[name])
    except ValueError:
        raise ConfigError(f"{name} is '{environ[name]}', and not a whole number", _BOTH) from None


def _checked(share: Share, where: str) -> Share:
    if share.of < 1:
        raise ConfigError(f"{where}: there must be at least one worker", _BOTH)
    if not 0 <= share.index < share.of:
        raise ConfigError(f"{where}: of {share.of} workers, the numbers are 0 to {share.of - 1}", _BOTH)
    return share
