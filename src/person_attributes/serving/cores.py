"""Decides how many threads predict images in this process."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

from person_attributes.errors import RegistryError

THREADS_VARIABLE = "PERSON_ATTRIBUTES_THREADS"
"""The environment variable that sets the number of threads of one process."""

_CGROUPS, _OWN_CGROUP = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")


def count_threads() -> int:
    """Returns the number of threads of this process: its share of the cores, unless it is set.

    Raises:
        RegistryError: If the environment variable is not a positive integer. Correct it.
    """
    threads = os.environ.get(THREADS_VARIABLE)
    if threads is None:
        return max(1, count_cores() // _count_workers())
    if not threads.isdecimal() or not int(threads):
        raise RegistryError(
            f"{THREADS_VARIABLE}: expected a number of threads, such as 4. Received: {threads!r}. "
            "Correct the environment variable, or unset it."
        )
    return int(threads)


def count_cores() -> int:
    """Returns how many cores this process may use, by its affinity and its quota of CPU time."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return max(1, min([cores or 1, *_read_quotas()]))


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


def _count_workers() -> int:
    """Returns the number of processes of this server: uvicorn's workers have its arguments."""
    if Path(sys.argv[0]).stem == "uvicorn" and "--workers" in sys.argv:
        return int(sys.argv[sys.argv.index("--workers") + 1])
    return 1
