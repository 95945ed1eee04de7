"""The stage `select`: copies the weights and the learning curves of the evaluated phases.

DVC cannot turn the list `evaluation.phases` into dependencies. This stage depends on all phases.
Later stages depend on its outputs, which do not change if only another phase changes.
"""

import shutil
from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from person_attributes.config import INITIAL, Params
from person_attributes.files import writing
from person_attributes.tracking.stages import open_stage_run
from person_attributes.workspace import Workspace


def select(workspace: Workspace, params: Params) -> None:
    """Copies the weights and the learning curves of the evaluated phases."""
    reads = _list_files(workspace, params.phases)
    writes = [workspace.selected, workspace.learning_curves]
    sections = {"evaluation", "phases"}
    with open_stage_run("select", workspace, params, sections, reads, writes) as run:
        copy_weights(workspace, params)
        curves = _read_learning_curves(workspace, params)
        with writing(workspace.learning_curves) as path:
            curves.to_csv(path, index=False, lineterminator="\n")
        run.log_file(workspace.learning_curves)
        run.log_metrics({"networks": len(params.evaluation.phases), "epochs": len(curves)})
        print(f"select: copied the weights of {', '.join(params.evaluation.phases)}")
        if removed := _remove_other_phases(workspace, params):
            print(f"select: removed {', '.join(removed)}: params.yaml has no such phase")


def _list_files(workspace: Workspace, phases: Iterable[str]) -> list[Path]:
    of_phase = (workspace.weights, workspace.provenance, workspace.history)
    return [path(phase) for phase in phases for path in of_phase]


def copy_weights(workspace: Workspace, params: Params) -> None:
    """Copies the weights and the provenance of the evaluated phases."""
    with writing(workspace.selected) as folder:
        folder.mkdir()
        for phase in params.evaluation.phases:
            for path in (workspace.weights(phase), workspace.provenance(phase)):
                shutil.copyfile(path, folder / path.name)


def _remove_other_phases(workspace: Workspace, params: Params) -> list[str]:
    """Removes the files of phases that params.yaml lacks: DVC digests the whole folders.

    Returns:
        The paths of the removed files.
    """
    known, removed = set(_list_files(workspace, (INITIAL, *params.phases))), []
    for pattern in _list_files(workspace, ["[!.]*"]):
        for path in sorted(set(pattern.parent.glob(pattern.name)) - known):
            path.unlink()
            removed.append(workspace.relative(path))
    return removed


def _read_learning_curves(workspace: Workspace, params: Params) -> pd.DataFrame:
    """Concatenates the histories of the trained phases: columns `phase`, `epoch`, the metrics."""
    histories = {phase: pd.read_csv(workspace.history(phase)) for phase in params.chain()}
    curves = pd.concat(histories, names=["phase"]).reset_index("phase")
    curves["epoch"] = range(1, len(curves) + 1)
    return curves
