"""Decides how many threads predict images in this process."""

import os
import sys
from pathlib import Path

from person_attributes.errors import RegistryError
from person_attributes.runtime.cores import count_cores

THREADS_VARIABLE = "PERSON_ATTRIBUTES_THREADS"
"""The environment variable that sets the number of threads of one process."""


def count_threads() -> int:
    """Returns the number of threads of this process: its share of the cores, unless it is set.

    Raises:
        RegistryError: If the environment variable is not a positive integer. Correct it.
    """
    threads = os.environ.get(THREADS_VARIABLE)
    if threads is None:
        return count_cores(_count_workers())
    if not threads.isdecimal() or not int(threads):
        raise RegistryError(
            f"{THREADS_VARIABLE}: expected a number of threads, such as 4. Received: {threads!r}. "
            "Correct the environment variable, or unset it."
        )
    return int(threads)


def _count_workers() -> int:
    """Returns the number of processes of this server: uvicorn's workers have its arguments."""
    if Path(sys.argv[0]).stem == "uvicorn" and "--workers" in sys.argv:
        return int(sys.argv[sys.argv.index("--workers") + 1])
    return 1
