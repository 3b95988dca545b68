"""Job files: one that submits a run to Slurm, and one with a run's Kubernetes Jobs."""

import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import orjson
from jinja2 import Environment, PackageLoader, StrictUndefined

from mira.cluster.waves import waves
from mira.config.base import Settings
from mira.config.loading import load_config
from mira.config.settings import Config
from mira.corpus.files.find import is_s3
from mira.corpus.files.lines import is_remote
from mira.errors import ConfigError
from mira.run_folder.stored import StoredPath

__all__ = ["IMAGE", "k8s", "slurm"]

IMAGE = "mira:latest"
_S3 = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_DEFAULT_REGION", "AWS_ENDPOINT_URL")


def slurm(
    config: Path | str,
    *,
    workers: int = 16,
    partition: str = "",
    time: str = "24:00:00",
    cpus: int = 8,
    memory: str = "32G",
    overrides: Sequence[str] = (),
) -> str:
    """Return a script that submits a run to Slurm: an array of workers for each stage, and what comes between them.

    Args:
        config: The settings file. Every node must reach it under the same path.
        workers: Workers per stage.
        partition: The partition; "" for the default one.
        time: The longest that a job may take, as Slurm writes it. A worker that needs longer is queued again.
        cpus: Cores per job.
        memory: Memory per job.
        overrides: Settings on top of the file, as after `--set`.

    Raises:
        ConfigError: The settings are wrong.
    """
    path = Path(config)
    settings = load_config(path, overrides)
    _check(workers, cpus, partition=partition, time=time, memory=memory)
    return _render(
        "slurm.sh.j2",
        settings,
        workers=workers,
        partition=partition,
        time=time,
        cpus=cpus,
        memory=memory,
        path=str(path.resolve()),
        settings=[word for text in overrides for word in ("--set", text)],
    )


def k8s(
    config: Path | str,
    *,
    image: str = IMAGE,
    workers: int = 16,
    cpus: int = 8,
    memory: str = "32Gi",
    overrides: Sequence[str] = (),
) -> str:
    """Return a run's Kubernetes Jobs as YAML: an Indexed Job of workers for each stage, and what comes between them.

    Args:
        config: The settings file.
        image: An image in which `mira` can be run.
        workers: Workers per stage.
        cpus: Cores per pod.
        memory: Memory per pod.
        overrides: Settings on top of the file, as after `--set`.

    Raises:
        ConfigError: The settings are wrong, or the run folder is not at a URL.
    """
    path = Path(config)
    settings = load_config(path, overrides)
    _check(workers, cpus, image=image, memory=memory)
    if not isinstance(settings.run, StoredPath):
        raise ConfigError(
            f"run is {settings.run}: pods share no folder", "Set it to a URL that they all reach: run: s3://BUCKET/run"
        )
    local = [source.name for source in settings.sources for p in _paths(source.path) if not is_remote(p)]
    return _render(
        "kubernetes.yaml.j2",
        settings,
        workers=workers,
        image=image,
        cpus=cpus,
        memory=memory,
        name=path.name,
        path=str(path),
        settings=[word for text in overrides for word in ("--set", text)],
        secrets=_secrets(settings),
        local=list(dict.fromkeys(local)),
    )


def _check(workers: int, cpus: int, **words: str) -> None:
    for name, number in (("workers", workers), ("cpus", cpus)):
        if number < 1:
            raise ConfigError(f"--{name} is {number}", "It must be 1 or more.")
    for name, word in words.items():
        if word and word.split() != [word]:
            raise ConfigError(f"--{name} is '{word}'", "It must be one word.")


def _paths(path: str | Sequence[str]) -> Sequence[str]:
    return [path] if isinstance(path, str) else path


def _secrets(config: Config) -> list[str]:
    """Return the names of the environment variables that hold keys; never their values."""
    found = dict.fromkeys(sorted(set(_key_names(config))))
    urls = [f"{config.run}", *(p for source in config.sources for p in _paths(source.path))]
    return [*found, *(_S3 if any(map(is_s3, urls)) else ())]


def _key_names(value: Any) -> Iterator[str]:
    if isinstance(value, Settings):
        for name in type(value).model_fields:
            inner = getattr(value, name)
            if name == "api_key_env" and inner:
                yield str(inner)
            yield from _key_names(inner)
    elif isinstance(value, dict):
        for inner in value.values():
            yield from _key_names(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _key_names(inner)


def _render(template: str, config: Config, **facts: Any) -> str:
    environment = Environment(
        loader=PackageLoader("mira.cluster"),
        undefined=StrictUndefined,
        keep_trailing_newline=True,
        trim_blocks=True,
        lstrip_blocks=True,
        autoescape=False,
    )
    environment.filters |= {
        "sh": lambda text: shlex.quote(str(text)),
        "json": lambda value: orjson.dumps(value).decode(),
    }
    return environment.get_template(template).render(waves=waves(config), **facts)
