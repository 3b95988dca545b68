"""Commands for clusters: a worker's share of the shards, and job files that start workers."""

import os
from typing import Annotated

import typer

from mira.cli.options import NO_OVERRIDES, ConfigPath, FailureBudget, MaxCost, MaxRequests, Overrides, limits
from mira.cli.program import CLUSTER, app, say
from mira.errors import ConfigError, RunError
from mira.progress import Terminal

__all__: list[str] = []

_LISTED = 20  # failed shards in a message


@app.command(rich_help_panel=CLUSTER)
def work(
    config: ConfigPath,
    stage: Annotated[str, typer.Option("--stage", help="What to do: index, flag, score, values or write.")],
    shard: Annotated[
        int | None, typer.Option("--shard", metavar="I", help="Number of this worker, from 0. Default: as Slurm says.")
    ] = None,
    of: Annotated[
        int | None, typer.Option("--of", metavar="N", help="Number of workers. Default: as Slurm says.")
    ] = None,
    missing: Annotated[
        bool, typer.Option("--missing", help="Print the workers whose shards are not all done; do nothing.")
    ] = False,
    max_cost: MaxCost = None,
    max_requests: MaxRequests = None,
    failure_budget: FailureBudget = "",
    set_: Overrides = NO_OVERRIDES,
) -> None:
    """Do a share of a stage's shards, as one of several workers.

    Any number of workers may run at a time, on any machines that reach the run folder. Without --shard and --of, the
    worker's number is that of its task in a Slurm array, or JOB_COMPLETION_INDEX of MIRA_WORKERS in Kubernetes.
    """
    from mira.cluster.share import find_share, workers_of  # noqa: PLC0415
    from mira.cluster.work import as_array, left_over  # noqa: PLC0415
    from mira.cluster.work import work as do_work  # noqa: PLC0415
    from mira.config.loading import load_config  # noqa: PLC0415

    if missing:
        if shard is not None:
            raise ConfigError("--missing is about all workers", "Leave --shard out.")
        if left := as_array(left_over(load_config(config, set_), stage, workers_of(of, os.environ))):
            say(left)
        return
    share = find_share(shard, of, os.environ)
    settings = load_config(config, [*set_, *limits(max_cost, max_requests, failure_budget)])
    found = do_work(settings, stage, share, Terminal())
    if found.failed:
        names = list(found.failed)
        more = f" and {len(names) - _LISTED:,} more" if len(names) > _LISTED else ""
        raise RunError(
            f"{stage}: {len(names):,} of {found.shards:,} shards failed: {', '.join(names[:_LISTED])}{more}",
            "The reasons are above. To try these again: "
            f"mira work {settings.arguments} --stage {stage} --shard {share.index} --of {share.of}",
        )
    say(
        f"{stage}: worker {share.index} of {share.of} has all its {found.shards:,} shards done: "
        f"{found.done:,} now, {found.kept:,} before"
    )


Workers = Annotated[int, typer.Option("--workers", metavar="N", help="Workers per stage.")]
Cpus = Annotated[int, typer.Option("--cpus", metavar="N", help="Cores per job.")]


@app.command(rich_help_panel=CLUSTER)
def slurm(
    config: ConfigPath,
    workers: Workers = 16,
    partition: Annotated[str, typer.Option("--partition", help="The partition. Default: the cluster's.")] = "",
    time: Annotated[str, typer.Option("--time", help="The longest a job may take, e.g. 24:00:00.")] = "24:00:00",
    cpus: Cpus = 8,
    memory: Annotated[str, typer.Option("--memory", help="Memory per job, e.g. 32G.")] = "32G",
    set_: Overrides = NO_OVERRIDES,
) -> None:
    """Print a script that submits the run to Slurm.

    It has an array of workers for each stage that the selection needs, and what comes between them.
    """
    from mira.cluster.jobs import slurm as make  # noqa: PLC0415

    text = make(config, workers=workers, partition=partition, time=time, cpus=cpus, memory=memory, overrides=set_)
    typer.echo(text, nl=False)


@app.command(rich_help_panel=CLUSTER)
def k8s(
    config: ConfigPath,
    image: Annotated[str, typer.Option("--image", help="An image in which mira can be run.")] = "mira:latest",
    workers: Workers = 16,
    cpus: Cpus = 8,
    memory: Annotated[str, typer.Option("--memory", help="Memory per pod, e.g. 32Gi.")] = "32Gi",
    set_: Overrides = NO_OVERRIDES,
) -> None:
    """Print the run as Kubernetes Jobs, in YAML.

    It has an Indexed Job of workers for each stage that the selection needs, and Jobs for what comes between them.
    """
    from mira.cluster.jobs import k8s as make  # noqa: PLC0415

    typer.echo(make(config, image=image, workers=workers, cpus=cpus, memory=memory, overrides=set_), nl=False)
