"""Find how many connections a process can hold, by its limit of file descriptors."""

from __future__ import annotations

import os
import sys

from gsp_deploy.errors import UsageError

RESERVE = 64  # descriptors for the model, the decoders' pipes and the files of a request
UNKNOWN = 256  # connections where the system has no such limit


def most_connections(wanted: int) -> int:
    """Return how many connections to hold, and raise this process's own limit to match it.

    Args:
        wanted: connections, if the system allows so many.

    Raises:
        UsageError: the system allows fewer descriptors than a server needs.
    """
    if sys.platform == "win32":
        return min(wanted, UNKNOWN)
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    held = len(os.listdir("/dev/fd"))
    needed = wanted + held + RESERVE
    if soft != resource.RLIM_INFINITY and soft < needed:
        raised = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (raised, hard))
        soft = raised
    if soft == resource.RLIM_INFINITY:
        return wanted
    allowed = min(wanted, soft - held - RESERVE)
    if allowed < 1:
        raise UsageError(
            f"a server needs at least {held + RESERVE + 1} file descriptors, the limit is {soft}; "
            "raise it with: ulimit -n 4096"
        )
    return allowed
