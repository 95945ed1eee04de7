"""Several hosts that train a phase: the first one announces it, the others join.

All hosts see one folder. The first one runs the pipeline as ever, and is the only one that writes.
"""

import contextlib
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import filelock

from person_attributes.config import Params
from person_attributes.data.split import Split
from person_attributes.errors import TrainingError
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


def _lock(path: Path) -> filelock.FileLock:
    """The lock that the first host holds as long as it lives and trains."""
    return filelock.FileLock(path.with_suffix(".lock"))


def require_first_host(params: Params, phase: str) -> None:
    """Refuses to write what the first of several hosts writes.

    Raises:
        TrainingError: If `TF_CONFIG` says that this is another host: join there.
    """
    if params.runtime.devices != "hosts":
        return
    from person_attributes.runtime.devices import read_cluster

    number, _ = read_cluster()
    if number:
        raise TrainingError(
            f"{phase}: TF_CONFIG says that this is worker {number}. Expected worker 0, which alone "
            "writes. Run person-attributes join here, and dvc repro there."
        )


def join(workspace: Workspace, params: Params, phase: str) -> None:
    """Helps the first host, phase after phase, or with one phase.

    Each phase is a process of its own, since TensorFlow joins others once a process.

    Args:
        workspace: The folder that all hosts see.
        params: All parameters.
        phase: A key of its phases; empty to wait for whatever is announced.

    Raises:
        TrainingError: If this is the first host, or the phase cannot be trained together.
    """
    from person_attributes.runtime.devices import read_cluster

    number, hosts = read_cluster()
    if not number:
        raise TrainingError(
            "join: TF_CONFIG says that this is worker 0, which the others join. Run dvc repro here."
        )
    if phase:
        _help(workspace, params, phase)
        return
    print(f"join: worker {number} of {hosts} waits for worker 0; Ctrl-C ends it", flush=True)
    command = [sys.executable, "-m", "person_attributes", "join"]
    joined = None
    for told in _announcements(workspace.announcement):
        if told != joined:
            joined = told
            print(f"join: {told['phase']} began", flush=True)
            code = subprocess.run([*command, "--phase", told["phase"]], check=False).returncode
            print(f"join: {told['phase']} {'ended early' if code else 'is done'}", flush=True)


def _announcements(path: Path) -> Iterator[dict[str, Any]]:
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


def _help(workspace: Workspace, params: Params, phase: str) -> None:
    """Trains a phase with the others, and writes nothing."""
    from person_attributes.pipeline.train import identify_phase, prepare_phase
    from person_attributes.runtime.devices import gather_devices, require_agreement
    from person_attributes.training.phase import train_phase
    from person_attributes.runtime.checkpoint import HelpersBackup

    fingerprint = identify_phase(workspace, params, phase)
    with gather_devices("hosts"), tempfile.TemporaryDirectory() as folder:
        require_agreement(phase, fingerprint)
        drawn = Split.read(workspace.split)
        classifier, train, validation = prepare_phase(workspace, params, phase, drawn)
        backup = HelpersBackup(workspace.backups, phase, fingerprint, Path(folder))
        train_phase(classifier, train, validation, params.recipe(phase), backup, listeners=[])
