"""One trial: the stages that its parameters ask for, in a folder of its own."""

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
    place: Workspace,
    params: Params,
    changed: Params,
    run: TrialRun,
    report: Callable[[int, Mapping[str, float]], None],
) -> dict[str, float]:
    """Runs the stages that changed parameters ask for, in a folder of its own.

    Phases that the changes do not touch are taken from the project, where it has them.

    Args:
        workspace: The project.
        place: The trial's folder, kept where it was stopped.
        params: The project's parameters.
        changed: The trial's.
        run: The trial's MLflow run.
        report: Told the number of each epoch, over all phases, and its figures.

    Returns:
        The figures of the best epoch of `evaluation.phase`.
    """
    _link_data(workspace, place, is_split_shared=changed.split == params.split)
    if changed.split != params.split:
        with run.above_stages():
            split(place, changed)
    # Keras numbers layers on from network to network, and files of weights hold the numbers: to the
    # byte they are those of the pipeline, a process a stage, only where every stage starts anew.
    keras.backend.clear_session()
    with run.above_stages():
        initialize(place, changed)
    epochs = 0
    for phase in changed.chain():
        if not adopt_phase(place, workspace, changed, phase):
            keras.backend.clear_session()
            listener = partial(_report_from, epochs, report)
            with run.above_stages():
                train(place, changed, phase, [listener])
        epochs += changed.phases[phase].epochs
    history = pd.read_csv(place.history(changed.evaluation.phase), float_precision="round_trip")
    best = history.iloc[int(history["val_loss"].argmin())]
    return {str(name): float(value) for name, value in best.items()}


def adopt_phase(place: Workspace, project: Workspace, params: Params, phase: str) -> bool:
    """Takes a phase over from the project, where that has trained the very same.

    Args:
        place: The folder of a trial, with the outputs of the phase before.
        project: Where the phase may have been trained.
        params: The trial's.
        phase: A key of its phases.

    Returns:
        Whether the outputs of the phase lie in the trial's folder now.
    """
    fingerprint = identify_phase(place, params, phase)
    outputs = Checkpoint(project.checkpoints, phase, fingerprint, 0).finished_outputs()
    paths = list_outputs(project, phase)
    if outputs is None or outputs != digest_paths(project.root, paths):
        return False
    for path in paths:
        target = place.root / path.relative_to(project.root)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
    return True


def _report_from(
    earlier: int,
    report: Callable[[int, Mapping[str, float]], None],
    epoch: int,
    figures: Mapping[str, float],
) -> None:
    """Counts the epochs of earlier phases in, also of those that were taken over."""
    report(earlier + epoch, figures)


def require_data(workspace: Workspace) -> None:
    """Refuses to begin a sweep, whose name would be taken, before the data is there."""
    for path in (*_data(workspace), *_split(workspace)):
        if not path.exists():
            raise ParamsError(
                f"{workspace.relative(path)}: missing; trials share it. "
                "Run dvc repro encode split pack."
            )


def _link_data(workspace: Workspace, place: Workspace, *, is_split_shared: bool) -> None:
    """Links what the data stages have written into the folder of a trial."""
    for path in [*_data(workspace), *(_split(workspace) if is_split_shared else [])]:
        link = place.root / path.relative_to(workspace.root)
        link.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            link.symlink_to(path)


def _data(workspace: Workspace) -> list[Path]:
    return [workspace.records.parent, workspace.one_hot.parent, workspace.pack(0).parent]


def _split(workspace: Workspace) -> list[Path]:
    return [workspace.split, workspace.near_duplicates]
