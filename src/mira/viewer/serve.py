"""Serving the pages of a run on this machine."""

import socket
from collections.abc import Sequence
from importlib.util import find_spec
from ipaddress import ip_address

from mira.errors import ConfigError
from mira.plugins import resolve
from mira.progress import Log
from mira.run_view import Run

__all__ = ["PORT", "check_installed", "listen", "serve"]

PORT = 8765
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
    site = resolve("mira.viewer.site:Site")(run)
    token = resolve("mira.viewer.guard:new_token")()
    run_app(resolve("mira.viewer.app:application")(site, token, hosts=[host]), token, log, host=host, port=port)


def run_app(app: object, token: str, log: Log, *, host: str, port: int) -> None:
    """Serve an application until the process is interrupted."""
    import uvicorn  # noqa: PLC0415 - an extra

    with listen(host, port) as listening:
        taken = listening.getsockname()[1]
        if not ip_address(host).is_loopback:
            log.note(f"WARNING: everyone who can reach {host} and has the token can read the texts of this run.")
        log.note(f"Open http://{f'[{host}]' if ':' in host else host}:{taken}/?token={token} (Ctrl-C ends the server)")
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning", access_log=False, lifespan="off"))  # type: ignore[arg-type]
        try:
            server.run(sockets=[listening])
        except KeyboardInterrupt:  # uvicorn has closed its connections
            return


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens at the port, or at another one if it is taken.

    Raises:
        ConfigError: The address is not one of this machine's.
    """
    try:
        family = socket.AF_INET6 if ip_address(host).version == 6 else socket.AF_INET
    except ValueError:
        raise ConfigError(f"--host {host}: this is not an IP address", "For example: --host 127.0.0.1") from None
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
