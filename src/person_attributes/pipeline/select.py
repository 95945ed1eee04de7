"""The stage `select`: copies the weights and the learning curves of the evaluated phases.

DVC cannot turn the list `evaluation.phases` into dependencies. This stage depends on all phases.
Later stages depend on its outputs, which do not change if only another phase changes.
"""

import shutil
from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from person_attributes.config import INITIAL, Params
from person_attributes.files import remove, writing
from person_attributes.tracking.stages import open_stage_run
from person_attributes.workspace import Workspace


def select(workspace: Workspace, params: Params) -> None:
    """Copies the weights and the learning curves of the evaluated phases."""
    reads = _list_files(workspace, params.phases)
    writes = [workspace.evaluated, workspace.learning_curves]
    sections = {"evaluation", "phases"}
    with open_stage_run("select", workspace, params, sections, reads, writes) as run:
        _remove_other_phases(workspace, params)
        copy_weights(workspace, params)
        curves = _read_learning_curves(workspace, params)
        with writing(workspace.learning_curves) as path:
            curves.to_csv(path, index=False, lineterminator="\n")
        run.log_file(workspace.learning_curves)
        run.log_metrics({"networks": len(params.evaluation.phases), "epochs": len(curves)})
        print(f"select: copied the weights of {', '.join(params.evaluation.phases)}")


def _list_files(workspace: Workspace, phases: Iterable[str]) -> list[Path]:
    of_phase = (workspace.weights, workspace.provenance, workspace.history)
    return [path(phase) for phase in phases for path in of_phase]


def copy_weights(workspace: Workspace, params: Params) -> None:
    """Copies the weights of the evaluated phases, and their provenance."""
    with writing(workspace.evaluated) as folder:
        folder.mkdir()
        for phase in params.evaluation.phases:
            for path in (workspace.weights(phase), workspace.provenance(phase)):
                shutil.copyfile(path, folder / path.name)


def _remove_other_phases(workspace: Workspace, params: Params) -> None:
    """Removes the files of phases that params.yaml lacks: DVC digests the whole folders."""
    known = set(_list_files(workspace, (INITIAL, *params.phases)))
    for folder in {path.parent for path in known}:
        for path in folder.glob("[!.]*"):
            if path not in known:
                remove(path)


def _read_learning_curves(workspace: Workspace, params: Params) -> pd.DataFrame:
    """Concatenates the histories of the trained phases: columns `epoch`, `phase`, the metrics."""
    histories = {phase: pd.read_csv(workspace.history(phase)) for phase in params.chain()}
    curves = pd.concat(histories, names=["phase"]).reset_index("phase")
    curves["epoch"] = range(1, len(curves) + 1)
    return curves
