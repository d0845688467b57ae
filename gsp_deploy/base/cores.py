"""Count the processors that this process may use: by its affinity, and by its cgroup's quota."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path

_CGROUPS = Path("/sys/fs/cgroup")
_OWN_CGROUP = Path("/proc/self/cgroup")


def available_cores(root: Path = _CGROUPS, own: Path = _OWN_CGROUP) -> int:
    """Return how many processors this process may use, at least 1.

    That is the number in its affinity, or less if a cgroup allows less processor time, as
    `docker run --cpus 1.5` does; such a share is rounded up.

    Args:
        root: where the cgroups are mounted.
        own: the file that names this process's cgroup.
    """
    quotas = [math.ceil(quota) for quota in _quotas(root, own)]
    return max(1, min([_affinity(), *quotas]))


def _affinity() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _quotas(root: Path, own: Path) -> Iterator[float]:
    """Yield the quota of this process's cgroup and of those above it, in processors."""
    for group in _groups(own):
        for folder in (group, *group.parents):
            yield from _quota_v2(root / folder / "cpu.max")
            for hierarchy in ("cpu", "cpu,cpuacct"):
                yield from _quota_v1(root / hierarchy / folder)


def _groups(own: Path) -> set[Path]:
    """Return the process's cgroups, relative to the mount; a container often sees its own as /."""
    groups = {Path()}
    try:
        for line in own.read_text(encoding="utf-8").splitlines():
            groups.add(Path(line.split(":", 2)[2].lstrip("/")))
    except (OSError, IndexError, UnicodeDecodeError):  # not Linux, or hidden
        pass
    return groups


def _quota_v2(file: Path) -> Iterator[float]:
    try:
        quota, period = file.read_text(encoding="ascii").split()
        if quota != "max":
            yield int(quota) / int(period)
    except (OSError, ValueError, ZeroDivisionError):
        return


def _quota_v1(folder: Path) -> Iterator[float]:
    try:
        quota = int((folder / "cpu.cfs_quota_us").read_text(encoding="ascii"))
        if quota > 0:
            yield quota / int((folder / "cpu.cfs_period_us").read_text(encoding="ascii"))
    except (OSError, ValueError, ZeroDivisionError):
        return
