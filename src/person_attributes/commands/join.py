"""The command `join`: helps the first of several hosts to train."""

import subprocess
import sys
import tempfile
from pathlib import Path

from person_attributes.config import Params
from person_attributes.data.dataset import Dataset
from person_attributes.errors import TrainingError
from person_attributes.pipeline.phases import identify_phase, prepare_phase
from person_attributes.runtime.checkpoint import WorkerCheckpoint
from person_attributes.runtime.devices import gather_devices, read_cluster, require_agreement
from person_attributes.runtime.hosts import watch_announcements
from person_attributes.training.phase import train_phase
from person_attributes.workspace import Workspace


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
    for told in watch_announcements(workspace.announcement):
        if told != joined:
            joined = told
            print(f"join: {told['phase']} began", flush=True)
            code = subprocess.run([*command, "--phase", told["phase"]], check=False).returncode
            print(f"join: {told['phase']} {'ended early' if code else 'is done'}", flush=True)


def _help(workspace: Workspace, params: Params, phase: str) -> None:
    """Trains a phase with the others, and writes nothing."""
    fingerprint = identify_phase(workspace, params, phase)
    with gather_devices("hosts"), tempfile.TemporaryDirectory() as folder:
        require_agreement(phase, fingerprint)
        dataset = Dataset(workspace, params.phases[phase].image_size)
        classifier, train, validation = prepare_phase(dataset, params, phase)
        checkpoint = WorkerCheckpoint(workspace.checkpoints, phase, fingerprint, Path(folder))
        train_phase(classifier, train, validation, params.recipe(phase), checkpoint, listeners=[])
