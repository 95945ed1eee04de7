"""Counts the processor cores that a process may use."""

import os
from collections.abc import Iterator
from pathlib import Path

_CGROUPS, _OWN_CGROUP = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")


def count_cores(processes: int = 1) -> int:
    """Returns how many cores each of several equal processes may use, at least 1.

    Affinity and the quotas of CPU time limit them, such as those of a container.

    Args:
        processes: The number of processes that share the cores of this process.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return max(1, min([cores or 1, *_read_quotas()]) // processes)


def _read_quotas() -> Iterator[int]:
    """Yields the quotas of the cgroup of this process and of those that contain it, in cores."""
    try:
        path = _OWN_CGROUP.read_text(encoding="ascii").rpartition("0::/")[2].strip()
        for group in (_CGROUPS / path, *(_CGROUPS / path).parents):
            file = group / "cpu.max"
            if file.exists():
                quota, period = file.read_text(encoding="ascii").split()
                if quota != "max":
                    yield int(quota) // int(period)
    except (OSError, ValueError):
        return
