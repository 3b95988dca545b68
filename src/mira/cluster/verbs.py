"""The function `mira.work`."""

import os
from pathlib import Path

from mira.cluster.share import find_share
from mira.cluster.work import Worked
from mira.cluster.work import work as do_work
from mira.config.loading import load_config
from mira.config.settings import Config
from mira.progress import Log, Quiet

__all__ = ["work"]


def work(
    config: Config | Path | str,
    stage: str,
    *,
    shard: int | None = None,
    of: int | None = None,
    log: Log | None = None,
) -> Worked:
    """Do a share of a stage's shards, as one of several workers. The next `mira.run` finds them done.

    Args:
        config: The settings, or the path of their file.
        stage: index, flag, score, values or write.
        shard: Number of this worker, from 0. By default, what Slurm or Kubernetes says.
        of: Number of workers. By default, what Slurm or Kubernetes says.
        log: Where progress goes; nowhere by default.

    Returns:
        What was done, and which shards failed.

    Raises:
        ConfigError: Nothing says which share it is, or there is no such stage.
        RunError: An earlier stage has not run with these settings.
    """
    share = find_share(shard, of, os.environ)
    return do_work(config if isinstance(config, Config) else load_config(config), stage, share, log or Quiet())
