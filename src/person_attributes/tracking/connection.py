"""How the project reaches MLflow: which store, which experiment, and how errors are worded."""

import contextlib
import os
from collections.abc import Iterator

import mlflow
from alembic.util.exc import CommandError
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient
from requests.exceptions import RequestException
from sqlalchemy import make_url
from sqlalchemy.exc import OperationalError, SQLAlchemyError

from person_attributes.errors import TrackingError, one_line
from person_attributes.tracking.client import RetryingClient
from person_attributes.tracking.database import (
    EXPERIMENT,
    create_experiment,
    is_address_of,
    prepare_store,
    sqlite_address,
)
from person_attributes.tracking.processes import end_abandoned_runs
from person_attributes.tracking.projects import (
    ADDRESS,
    EXPERIMENT_NAME,
    find_named_experiment,
    leave_default_store,
)
from person_attributes.workspace import Workspace

NOT_THERE = {"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"}
"""What a store says of a run, an alias or a version that it does not know."""

_SQLITE_ADVICE = {
    "is full": "Free some room",
    "is locked": "Another process writes to it: wait for it",
    "readonly": "Ask for the right to write there",
    "unable to open": "Ask for the right to write there",
    "malformed": "Restore a copy of it, or move it away for a new one",
    "not a database": "Restore a copy of it, or move it away for a new one",
    "no such table": "It was not made to its end and holds no run: remove it",
    "already exists": "It was not made to its end and holds no run: remove it",
}
"""What to do, by what SQLite says."""

_SERVER_ADVICE = "Start that server, or correct MLFLOW_TRACKING_URI"
_ACCOUNT_ADVICE = "Name an account in MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"
_CORRECT = "Correct that"

_ADVICE = {
    "TEMPORARILY_UNAVAILABLE": _SERVER_ADVICE,
    "DEADLINE_EXCEEDED": _SERVER_ADVICE,
    "ENDPOINT_NOT_FOUND": "No MLflow answers there: correct MLFLOW_TRACKING_URI",
    "UNAUTHENTICATED": _ACCOUNT_ADVICE,
    "CUSTOMER_UNAUTHORIZED": _ACCOUNT_ADVICE,
    "PERMISSION_DENIED": _ACCOUNT_ADVICE,
}
"""What to do, by MLflow's code of an error."""


def connect(workspace: Workspace) -> MlflowClient:
    """Points MLflow at the project's own store, unless somebody named another.

    Runs whose process is gone are ended.

    Args:
        workspace: The project.

    Returns:
        A client of the store.

    Raises:
        TrackingError: If the store cannot be reached or made.
    """
    # Stores that MLflow opens or makes say what their database says.
    with translate_mlflow_errors(SQLAlchemyError, CommandError):
        database = workspace.tracking_database.resolve()
        leave_default_store(database)
        own = sqlite_address(database)
        if is_address_of(os.environ.get(ADDRESS) or own, database):
            mlflow.set_tracking_uri(own)
            prepare_store(database)
        client = RetryingClient()
        experiment = _find_experiment(client)
        if experiment:
            end_abandoned_runs(client, experiment)
    return client


def choose_experiment(client: MlflowClient, workspace: Workspace) -> str:
    """Takes the experiment that `mlflow run` or the user names, or the project's own.

    Args:
        client: Of the store.
        workspace: The project; artifacts of its own store lie in it.

    Returns:
        The experiment's id. It is made where there is none of that name.
    """
    if not _find_experiment(client):
        try:
            database = workspace.tracking_database.resolve()
            if is_address_of(mlflow.get_tracking_uri(), database):
                create_experiment(database, _name_experiment())
            else:
                client.create_experiment(_name_experiment())
        except MlflowException as error:
            # Another process may have made it since.
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
    # Registered models go to the experiment that MLflow takes for the active one.
    return str(mlflow.set_experiment(experiment_id=_find_experiment(client)).experiment_id)


def _name_experiment() -> str:
    return os.environ.get(EXPERIMENT_NAME) or EXPERIMENT


def _find_experiment(client: MlflowClient) -> str | None:
    if number := find_named_experiment():
        return number
    found = client.get_experiment_by_name(_name_experiment())
    return str(found.experiment_id) if found else None


@contextlib.contextmanager
def translate_mlflow_errors(*more: type[Exception]) -> Iterator[None]:
    """Says in one line what MLflow says in many, and what to do.

    Args:
        more: Errors of other libraries, which are said alike.
    """
    worded: tuple[type[Exception], ...] = (MlflowException, *more)
    try:
        yield
    except worded as error:
        store = mlflow.get_tracking_uri()
        if store.startswith("sqlite"):
            store = str(make_url(store).database)
        said = one_line(str(error).partition("[SQL:")[0], 300).rstrip(".")
        raise TrackingError(
            f"MLflow at {store}: {said}. {_advise(error)}, and run it again."
        ) from None


def _advise(error: Exception) -> str:
    """Says what mends an error of the store."""
    if "(sqlite3." in str(error):
        fitting = [advice for said, advice in _SQLITE_ADVICE.items() if said in str(error)]
        return fitting[0] if fitting else _CORRECT
    if isinstance(error, OperationalError) or isinstance(error.__context__, RequestException):
        return _SERVER_ADVICE
    return _ADVICE.get(getattr(error, "error_code", ""), _CORRECT)
