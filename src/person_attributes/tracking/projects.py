"""What `mlflow run` hands to a project: a store and an experiment, named by somebody or not."""

import contextlib
import os
from pathlib import Path

import psutil
from mlflow.tracking import MlflowClient
from mlflow.utils.mlflow_tags import MLFLOW_RUN_NOTE, MLFLOW_SOURCE_NAME

from person_attributes.tracking.database import is_address_of

RUN_ID, EXPERIMENT_ID = "MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_ID"
EXPERIMENT_NAME, ADDRESS = "MLFLOW_EXPERIMENT_NAME", "MLFLOW_TRACKING_URI"

_DEFAULT_EXPERIMENT = "0"
"""The experiment `Default`: what MLflow names where nobody did."""


def leave_default_store(database: Path) -> None:
    """Leaves the store of the caller's folder, which `mlflow run PATH` takes by default.

    Args:
        database: The project's own store, which is used instead.
    """
    run_id, address = os.environ.get(RUN_ID), os.environ.get(ADDRESS)
    if not run_id or not address or is_address_of(address, database):
        return
    if not _is_default(address, run_id):
        return
    theirs = MlflowClient(address)
    source = theirs.get_run(run_id).data.tags.get(MLFLOW_SOURCE_NAME, "")
    if not database.is_relative_to(source.removeprefix("file://").partition("#")[0] or "-"):
        return  # MLflow has cloned the project into a temporary folder
    theirs.set_tag(run_id, MLFLOW_RUN_NOTE, f"The project tracks its stages in `{database}`.")
    del os.environ[ADDRESS]
    # Its number is the other store's; its name holds in both.
    experiment = theirs.get_experiment(os.environ.pop(EXPERIMENT_ID, _DEFAULT_EXPERIMENT))
    if experiment.experiment_id != _DEFAULT_EXPERIMENT:
        os.environ[EXPERIMENT_NAME] = experiment.name


def _is_default(address: str, run_id: str) -> bool:
    """Says whether the process that runs the project was given no store, and took its folder's."""
    for ancestor in psutil.Process().parents():
        with contextlib.suppress(psutil.Error):
            environment = ancestor.environ()
            if environment.get(RUN_ID) != run_id:
                default = Path(ancestor.cwd(), "mlflow.db").resolve()
                return ADDRESS not in environment and is_address_of(address, default)
    return False


def find_named_experiment() -> str | None:
    """Gives the number of the experiment that somebody named, as `mlflow run` hands it on."""
    number = os.environ.get(EXPERIMENT_ID)
    return number if number != _DEFAULT_EXPERIMENT else None
