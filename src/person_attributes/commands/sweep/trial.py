"""Runs one trial of a sweep: the stages that its parameters affect, in its own folder."""

import contextlib
import shutil
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import keras
import pandas as pd

from person_attributes.config import Params
from person_attributes.digests import digest_paths
from person_attributes.errors import ParamsError
from person_attributes.pipeline.initialize import initialize
from person_attributes.pipeline.phases import identify_phase, list_outputs
from person_attributes.pipeline.split import split
from person_attributes.pipeline.train import train
from person_attributes.runtime.checkpoint import Checkpoint
from person_attributes.tracking.trials import TrialRun
from person_attributes.workspace import Workspace


def run_trial(
    workspace: Workspace,
    trial: Workspace,
    params: Params,
    changed: Params,
    run: TrialRun,
    report: Callable[[int, Mapping[str, float]], None],
) -> dict[str, float]:
    """Runs the stages that the changed parameters affect, in the trial's folder.

    Phases that the changes do not affect are copied from the project if it has trained them.

    Args:
        workspace: The project.
        trial: The trial's folder, which may have the files of an interrupted trial.
        params: The project's parameters.
        changed: The trial's parameters.
        run: The trial's MLflow run.
        report: Called after each epoch with its number, counted over all phases, and its metrics.

    Returns:
        The metrics of the best epoch of the evaluated phase; their means if there are several.
    """
    _link_data(workspace, trial, is_split_shared=changed.split == params.split)
    if changed.split != params.split:
        with run.above_stages():
            split(trial, changed)
    # Keras numbers layers across networks, and files of weights contain these numbers. The pipeline
    # runs each stage in its own process. Clearing the session before each stage gives equal files.
    keras.backend.clear_session()
    with run.above_stages():
        initialize(trial, changed)
    epochs = 0
    for phase in changed.chain():
        if not _copy_phase(workspace, trial, changed, phase):
            keras.backend.clear_session()
            listener = partial(_report_from, epochs, report)
            with run.above_stages():
                train(trial, changed, phase, [listener])
        epochs += changed.phases[phase].epochs
    best = [_read_best_epoch(trial.history(phase)) for phase in changed.evaluation.phases]
    return {str(name): float(mean) for name, mean in pd.DataFrame(best).mean().items()}


def _read_best_epoch(path: Path) -> dict[str, float]:
    """Reads the metrics of the epoch with the lowest validation loss from a history."""
    history = pd.read_csv(path, float_precision="round_trip")
    best = history.iloc[int(history["val_loss"].argmin())]
    return {str(name): float(value) for name, value in best.items()}


def _copy_phase(workspace: Workspace, trial: Workspace, params: Params, phase: str) -> bool:
    """Copies the outputs of a phase from the project, if it has trained the identical phase.

    Args:
        workspace: The project.
        trial: The trial's folder, with the outputs of the previous phase.
        params: The trial's parameters.
        phase: A key of `params.phases`.

    Returns:
        Whether the outputs were copied.
    """
    fingerprint = identify_phase(trial, params, phase)
    outputs = Checkpoint(workspace.checkpoints, phase, fingerprint, 0).finished_outputs()
    paths = list_outputs(workspace, phase)
    if outputs is None or outputs != digest_paths(workspace.root, paths):
        return False
    for path in paths:
        target = trial.root / path.relative_to(workspace.root)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
    return True


def _report_from(
    earlier: int,
    report: Callable[[int, Mapping[str, float]], None],
    epoch: int,
    metrics: Mapping[str, float],
) -> None:
    """Reports an epoch, numbered after those of the earlier phases, whether copied or trained."""
    report(earlier + epoch, metrics)


def require_data(workspace: Workspace) -> None:
    """Refuses to start a sweep before the data stages have run."""
    for path in (*_data(workspace), *_split(workspace)):
        if not path.exists():
            raise ParamsError(
                f"{workspace.relative(path)}: missing, and all trials need it. "
                "Run dvc repro encode split pack."
            )


def _link_data(workspace: Workspace, trial: Workspace, *, is_split_shared: bool) -> None:
    """Links the outputs of the data stages into the folder of a trial."""
    for path in [*_data(workspace), *(_split(workspace) if is_split_shared else [])]:
        link = trial.root / path.relative_to(workspace.root)
        link.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            link.symlink_to(path)


def _data(workspace: Workspace) -> list[Path]:
    return [workspace.records.parent, workspace.one_hot.parent, workspace.pack(0).parent]


def _split(workspace: Workspace) -> list[Path]:
    return [workspace.split, workspace.near_duplicates]
