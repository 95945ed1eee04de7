"""The command `join`: trains as one of several hosts, together with the first host."""

import subprocess
import sys
import tempfile
from pathlib import Path

from person_attributes.config import Params
from person_attributes.data.dataset import Dataset
from person_attributes.errors import TrainingError
from person_attributes.pipeline.phases import identify_phase, prepare_phase
from person_attributes.runtime.checkpoint import WorkerCheckpoint
from person_attributes.runtime.devices import gather_devices, read_cluster
from person_attributes.runtime.hosts import watch_announcements
from person_attributes.training.phase import train_phase
from person_attributes.training.replicas import require_agreement
from person_attributes.workspace import Workspace


def join(workspace: Workspace, params: Params, phase: str) -> None:
    """Trains one phase, or every phase that the first host announces.

    Each phase runs in its own process: TensorFlow can join a cluster only once per process.

    Args:
        workspace: The folder that all hosts share.
        params: All parameters.
        phase: A key of `params.phases`; empty to wait for announcements.

    Raises:
        TrainingError: If this is the first host: run `dvc repro` instead. Or if the hosts disagree
            about the phase.
    """
    number, hosts = read_cluster()
    if not number:
        raise TrainingError(
            "join: this is worker 0 in TF_CONFIG. Expected another worker. Run dvc repro here."
        )
    if phase:
        _train(workspace, params, phase)
        return
    print(f"join: worker {number} of {hosts}, waiting for worker 0; Ctrl-C to quit", flush=True)
    command = [sys.executable, "-m", "person_attributes", "join"]
    joined = None
    for announced in watch_announcements(workspace.announcement):
        if announced != joined:
            joined, phase = announced, announced["phase"]
            print(f"join: {phase} started", flush=True)
            code = subprocess.run([*command, "--phase", phase], check=False).returncode
            outcome = f"failed with exit code {code}" if code else "finished"
            print(f"join: {phase} {outcome}", flush=True)


def _train(workspace: Workspace, params: Params, phase: str) -> None:
    """Trains a phase together with the other hosts; only the first host writes outputs."""
    fingerprint = identify_phase(workspace, params, phase)
    with gather_devices("hosts"), tempfile.TemporaryDirectory() as folder:
        require_agreement(phase, fingerprint)
        dataset = Dataset(workspace, params.phases[phase].image_size)
        classifier, train, validation = prepare_phase(dataset, params, phase)
        checkpoint = WorkerCheckpoint(workspace.checkpoints, phase, fingerprint, Path(folder))
        train_phase(classifier, train, validation, params.recipe(phase), checkpoint, listeners=[])
