"""Limit the memory of a process that reads untrusted files."""

from __future__ import annotations

import sys
from pathlib import Path

_STATM = Path("/proc/self/statm")


def limit_memory(more: int) -> None:
    """Let this process take at most `more` bytes beyond its present memory, on Linux.

    A larger allocation then fails with MemoryError, and the rest of the machine keeps its memory.
    Other systems have no such limit; there this does nothing.
    """
    if not sys.platform.startswith("linux") or not _STATM.exists():
        return
    import resource

    now = int(_STATM.read_text().split()[0]) * resource.getpagesize()
    _, most = resource.getrlimit(resource.RLIMIT_AS)
    limit = now + more if most == resource.RLIM_INFINITY else min(now + more, most)
    resource.setrlimit(resource.RLIMIT_AS, (limit, most))
