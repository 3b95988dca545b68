"""Serving the pages of a run on this machine."""

import socket
from collections.abc import Sequence
from importlib.util import find_spec
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path

from mira.config.loading import load_config
from mira.config.settings import Config
from mira.errors import ConfigError
from mira.plugins import resolve
from mira.progress import Log, Quiet
from mira.run_folder.paths import RunFolder
from mira.run_folder.probe import probe
from mira.run_folder.scratch import scratch_folder
from mira.run_folder.stored import place_path
from mira.run_view import Run, open_run

__all__ = ["PORT", "RECORDS", "check_installed", "listen", "names_of", "run_app", "serve", "view", "write_copy"]

PORT = 8765
RECORDS = 500
"""Records of a static copy (ours)."""
_NEEDED = ("starlette", "uvicorn")


def check_installed(needed: Sequence[str] = _NEEDED) -> None:
    """Refuse to go on without the packages that the server needs.

    Raises:
        ConfigError: One is missing.
    """
    if missing := [name for name in needed if find_spec(name) is None]:
        raise ConfigError(
            f"the viewer needs {' and '.join(missing)}, which {'is' if len(missing) == 1 else 'are'} not installed",
            "Install the extra: pip install 'mira-select[view]'",
        )


def view(
    run: Config | Path | str,
    *,
    settings: Config | Path | str | None = None,
    host: str = "127.0.0.1",
    port: int = PORT,
    export: Path | str | None = None,
    records: int = RECORDS,
    log: Log | None = None,
) -> None:
    """Serve the pages of a run, as `mira view` does, until the process is interrupted. Nothing is written into it.

    Args:
        run: The settings, the path of their file, or the run folder.
        settings: The settings of a run folder that was moved.
        host: Address to listen at; others than this machine's are reachable from the network.
        port: Port to listen at; another one is used if it is taken.
        export: Write a static copy of the pages into this folder instead.
        records: Records that have a page in the copy, 0 to 2,000.
        log: Where the address goes; nowhere by default. `mira.Terminal()` shows it.

    Raises:
        MiraError: The extra `view` is not installed, there is no run, or nothing can listen at this address.
    """
    log = log or Quiet()
    given = load_config(settings) if isinstance(settings, Path | str) else settings
    opened = Run(RunFolder(run.run), run) if isinstance(run, Config) else open_run(run, settings=given)
    if export is None:
        serve(opened, log, host=host, port=port)
    else:
        folder = place_path(export)
        probe(folder, "--export")
        write_copy(opened, log, folder, records=records)


def serve(run: Run, log: Log, *, host: str = "127.0.0.1", port: int = PORT) -> None:
    """Serve the pages of a run until the process is interrupted.

    Args:
        run: The run.
        log: Where the address is printed.
        host: Address to listen at; others than this machine's are reachable from the network.
        port: Port to listen at. If it is taken, another one is used.

    Raises:
        ConfigError: The extra is not installed, or nothing can listen at this address.
    """
    check_installed()
    _check_settings(run)
    with scratch_folder() as scratch:
        site = resolve("mira.viewer.site:Site")(run, scratch)
        token = resolve("mira.viewer.guard:new_token")()
        app = resolve("mira.viewer.app:application")(site, token, hosts=names_of(host))
        site.warm()
        try:
            run_app(app, token, log, host=host, port=port)
        finally:
            site.close()


def write_copy(run: Run, log: Log, folder: Path, *, records: int = RECORDS) -> None:
    """Write a static copy of the pages of a run.

    Args:
        run: The run.
        log: Where progress goes.
        folder: Where the copy goes; it must not exist, or be empty.
        records: Records whose pages are in the copy, 0 to 2,000.

    Raises:
        ConfigError: The extra is not installed, the folder is in use, or the number is out of range.
        RunError: The run has no index, or a page cannot be made.
    """
    check_installed(_NEEDED[:1])
    _check_settings(run)
    with scratch_folder() as scratch:
        site = resolve("mira.viewer.site:Site")(run, scratch)
        try:
            n = resolve("mira.viewer.export:export")(site, folder, log, records)
        finally:
            site.close()
    log.note(f"{n:,} pages in {folder}: open {folder / 'index.html'}")


def _check_settings(run: Run) -> None:
    try:
        _ = run.config
    except ConfigError:
        raise ConfigError(
            f"{run.folder.path}: the settings of this run are not known",
            "Name them: mira view RUN --settings mira.yaml",
        ) from None


def run_app(app: object, token: str, log: Log, *, host: str, port: int) -> None:
    """Serve an application until the process is interrupted."""
    import uvicorn  # noqa: PLC0415 - an extra

    with listen(host, port) as listening:
        taken = listening.getsockname()[1]
        if not _address(host).is_loopback:
            log.note(f"WARNING: everyone who can reach {host} and has the token can read the texts of this run.")
        log.note(f"Open http://{f'[{host}]' if ':' in host else host}:{taken}/?token={token} (Ctrl-C ends the server)")
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning", access_log=False, lifespan="off"))  # type: ignore[arg-type]
        try:
            server.run(sockets=[listening])
        except KeyboardInterrupt:  # uvicorn has closed its connections
            return


def names_of(host: str) -> list[str]:
    """Return the names that a server goes by that listens at an address; "*" for any.

    Raises:
        ConfigError: This is not an address.
    """
    return ["*"] if _address(host).is_unspecified else [host, f"[{host}]"]


def _address(host: str) -> IPv4Address | IPv6Address:
    try:
        return ip_address(host)
    except ValueError:
        raise ConfigError(f"--host {host}: this is not an IP address", "For example: --host 127.0.0.1") from None


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens at the port, or at another one if it is taken.

    Raises:
        ConfigError: The address is not one of this machine's.
    """
    family = socket.AF_INET6 if _address(host).version == 6 else socket.AF_INET
    for wanted in (port, 0):
        listening = socket.socket(family)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind((host, wanted))
        except OSError as error:
            listening.close()
            problem = error
            continue
        listening.listen(128)
        return listening
    raise ConfigError(f"--host {host}: cannot listen there: {problem.strerror}", "For example: --host 127.0.0.1")
