"""Several hosts that train a phase: the first one announces it, the others join.

All hosts see one folder. The first one runs the pipeline as ever, and is the only one that writes.
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

_LOOK_SECONDS = 1.0
"""How often the others look whether something is announced."""


@contextlib.contextmanager
def announcing(workspace: Workspace, params: Params, phase: str) -> Iterator[None]:
    """Tells the other hosts in the block to join; does nothing where there are none."""
    if params.runtime.devices != "hosts":
        yield
        return
    path = workspace.announcement
    path.parent.mkdir(parents=True, exist_ok=True)
    # What stands there is of yesterday; a host that looks may hold the lock for a moment.
    path.unlink(missing_ok=True)
    with _lock(path):
        path.write_text(json.dumps({"phase": phase, "began": time.time()}), encoding="utf-8")
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


def require_first_host(params: Params, phase: str) -> None:
    """Refuses to write what the first of several hosts writes.

    Raises:
        TrainingError: If `TF_CONFIG` says that this is another host: join there.
    """
    if params.runtime.devices != "hosts":
        return
    number, _ = read_cluster()
    if number:
        raise TrainingError(
            f"{phase}: TF_CONFIG says that this is worker {number}. Expected worker 0, which alone "
            "writes. Run person-attributes join here, and dvc repro there."
        )


def watch_announcements(path: Path) -> Iterator[dict[str, Any]]:
    """Gives what the first host announces, again and again while it trains."""
    # One lock for all looks: Ctrl-C while one is being disposed of would go unnoticed.
    lock = _lock(path)
    while True:
        try:
            with lock.acquire(timeout=0):
                pass  # nobody trains: what stands there is of a first host that was killed
        except filelock.Timeout:
            with contextlib.suppress(FileNotFoundError, ValueError):  # it is just being written
                yield json.loads(path.read_text(encoding="utf-8"))
        time.sleep(_LOOK_SECONDS)


def _lock(path: Path) -> filelock.FileLock:
    """The lock that the first host holds as long as it lives and trains."""
    return filelock.FileLock(path.with_suffix(".lock"))
