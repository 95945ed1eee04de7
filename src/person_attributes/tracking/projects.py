"""The store and the experiment that `mlflow run` passes to a project."""

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
"""The experiment `Default`, which MLflow passes if the user has named none."""


def leave_default_store(database: Path) -> None:
    """Replaces the default store of `mlflow run PATH`, in the caller's folder, by the project's.

    Args:
        database: The project's own store.
    """
    run_id, address = os.environ.get(RUN_ID), os.environ.get(ADDRESS)
    if not run_id or not address or is_address_of(address, database):
        return
    if not _is_default(address, run_id):
        return
    theirs = MlflowClient(address)
    source = theirs.get_run(run_id).data.tags.get(MLFLOW_SOURCE_NAME, "")
    if not database.is_relative_to(source.removeprefix("file://").partition("#")[0] or "-"):
        return  # the project is a temporary clone
    theirs.set_tag(run_id, MLFLOW_RUN_NOTE, f"The project tracks its stages in `{database}`.")
    del os.environ[ADDRESS]
    # The id is valid only in the other store; the name is valid in both.
    experiment = theirs.get_experiment(os.environ.pop(EXPERIMENT_ID, _DEFAULT_EXPERIMENT))
    if experiment.experiment_id != _DEFAULT_EXPERIMENT:
        os.environ[EXPERIMENT_NAME] = experiment.name


def _is_default(address: str, run_id: str) -> bool:
    """Returns whether `mlflow run` was started without a store and uses the one of its folder."""
    for ancestor in psutil.Process().parents():
        with contextlib.suppress(psutil.Error):
            environment = ancestor.environ()
            if environment.get(RUN_ID) != run_id:
                default = Path(ancestor.cwd(), "mlflow.db").resolve()
                return ADDRESS not in environment and is_address_of(address, default)
    return False


def find_named_experiment() -> str | None:
    """Returns the id of the experiment that the user has named, as passed by `mlflow run`."""
    number = os.environ.get(EXPERIMENT_ID)
    return number if number != _DEFAULT_EXPERIMENT else None
