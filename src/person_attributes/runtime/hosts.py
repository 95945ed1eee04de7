"""Training on several hosts: the first host announces a phase, the others join it.

All hosts share one folder. The first host runs the pipeline and is the only one that writes.
"""

import contextlib
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import filelock

from person_attributes.config import Params
from person_attributes.errors import TrainingError
from person_attributes.runtime.devices import read_cluster
from person_attributes.workspace import Workspace

_POLL_SECONDS = 1.0
"""Interval at which the other hosts check for an announcement."""


@contextlib.contextmanager
def announcing(workspace: Workspace, params: Params, phase: str) -> Iterator[None]:
    """Announces the phase to the other hosts while the block runs; does nothing on one host."""
    if params.runtime.devices != "hosts":
        yield
        return
    path = workspace.announcement
    path.parent.mkdir(parents=True, exist_ok=True)
    # An old announcement is stale. A polling host may hold the lock for a moment.
    path.unlink(missing_ok=True)
    with _lock(path):
        path.write_text(json.dumps({"phase": phase, "began": time.time()}), encoding="utf-8")
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


def require_first_host(params: Params, phase: str) -> None:
    """Checks that this host may write results.

    Raises:
        TrainingError: If `TF_CONFIG` names another worker than 0: run the `join` command instead.
    """
    if params.runtime.devices != "hosts":
        return
    number, _ = read_cluster()
    if number:
        raise TrainingError(
            f"{phase}: this is worker {number} in TF_CONFIG. Expected worker 0, the only one that "
            "writes. Run person-attributes join here, and dvc repro on worker 0."
        )


def watch_announcements(path: Path) -> Iterator[dict[str, Any]]:
    """Yields the announcement of the first host, repeatedly while that host trains."""
    # One lock object for all polls: Ctrl-C during the disposal of a lock would be ignored.
    lock = _lock(path)
    while True:
        try:
            with lock.acquire(timeout=0):
                pass  # no host trains: an announcement is left over from a killed first host
        except filelock.Timeout:
            with contextlib.suppress(FileNotFoundError, ValueError):  # the write is in progress
                yield json.loads(path.read_text(encoding="utf-8"))
        time.sleep(_POLL_SECONDS)


def _lock(path: Path) -> filelock.FileLock:
    """Returns the lock that the first host holds while it trains."""
    return filelock.FileLock(path.with_suffix(".lock"))
