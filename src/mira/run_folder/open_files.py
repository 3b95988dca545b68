"""The limit on open files of this process."""

import resource
from contextlib import suppress

__all__ = ["connections_that_fit"]

_OWN_FILES = 128  # what a run holds open besides connections, with room to spare


def connections_that_fit(wanted: int) -> int:
    """Return how many connections may be open at once, `wanted` at most; the soft limit is raised to hold them.

    Where the hard limit is low, at least half of it is left to files.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = wanted + _OWN_FILES
    if soft != resource.RLIM_INFINITY and soft < needed:
        raised = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        with suppress(OSError, ValueError):  # the system may allow less than it says
            resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, raised), hard))
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return wanted
    return max(1, min(wanted, soft - min(_OWN_FILES, soft // 2)))
