"""Several hosts that train a phase: the first one announces it, the others join.

All hosts see one folder. The first one runs the pipeline as ever, and is the only one that writes.
"""

import contextlib
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from person_attributes.config import Params
from person_attributes.errors import TrainingError
from person_attributes.workspace import Workspace

_BEAT_SECONDS = 1.0
"""How often the first host renews its announcement; the others look half as often."""


@contextlib.contextmanager
def announcing(workspace: Workspace, params: Params, phase: str) -> Iterator[None]:
    """Tells the other hosts in the block to join; does nothing where there are none."""
    if params.runtime.devices != "hosts":
        yield
        return
    path, is_over = workspace.announcement, threading.Event()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"phase": phase, "began": time.time()}), encoding="utf-8")

    def renew() -> None:
        while not is_over.wait(_BEAT_SECONDS):
            path.touch()

    thread = threading.Thread(target=renew, daemon=True)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()
        path.unlink()


def require_first_host(params: Params, phase: str) -> None:
    """Refuses to write what the first of several hosts writes.

    Raises:
        TrainingError: If `TF_CONFIG` says that this is another host: join there.
    """
    if params.runtime.devices != "hosts":
        return
    from person_attributes.training.devices import read_cluster

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
    from person_attributes.training.devices import read_cluster

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
    """Gives what the first host announces, as long as it renews it: a dead one does not."""
    looked_at = None
    while True:
        with contextlib.suppress(FileNotFoundError, ValueError):
            written = path.stat().st_mtime_ns
            if looked_at not in (None, written):
                yield json.loads(path.read_text(encoding="utf-8"))
            looked_at = written
        time.sleep(2 * _BEAT_SECONDS)


def _help(workspace: Workspace, params: Params, phase: str) -> None:
    """Trains a phase with the others, and writes nothing."""
    from person_attributes.stages.training import identify_phase, prepare_phase
    from person_attributes.training.devices import gather_devices, require_agreement
    from person_attributes.training.phase import train_phase
    from person_attributes.training.resume import Backup, HelpersBackup

    fingerprint = identify_phase(workspace, params, phase)
    with gather_devices("hosts"), tempfile.TemporaryDirectory() as folder:
        require_agreement(phase, fingerprint)
        classifier, train, validation = prepare_phase(workspace, params, phase)
        shared = Backup(workspace.backups, phase, fingerprint, params.runtime.backup_minutes)
        backup = HelpersBackup(shared, Path(folder))
        train_phase(classifier, train, validation, params.recipe(phase), backup, listeners=[])
