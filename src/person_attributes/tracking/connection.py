"""The connection to MLflow: the store, the experiment, and error messages."""

import contextlib
import os
import re
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
    EXPERIMENT_ID,
    EXPERIMENT_NAME,
    find_named_experiment,
    leave_default_store,
)
from person_attributes.workspace import Workspace

NOT_THERE = {"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"}
"""Error codes for an unknown run, alias or version."""

_SQLITE_ADVICE = {
    "is full": "Free some disk space",
    "is locked": "Another process is writing to it: wait for that process",
    "readonly": "Get write permission",
    "unable to open": "Get write permission",
    "malformed": "Restore a backup, or move the file away to start with a new one",
    "not a database": "Restore a backup, or move the file away to start with a new one",
    "no such table": "Its creation was interrupted, so it contains no runs: delete the file",
    "already exists": "Its creation was interrupted, so it contains no runs: delete the file",
}
"""Advice by a part of SQLite's message."""

_SERVER_ADVICE = "Start the server, or correct MLFLOW_TRACKING_URI"
_ACCOUNT_ADVICE = "Set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD to a valid account"

_ADVICE = {
    "TEMPORARILY_UNAVAILABLE": _SERVER_ADVICE,
    "DEADLINE_EXCEEDED": _SERVER_ADVICE,
    "ENDPOINT_NOT_FOUND": "This is not an MLflow server: correct MLFLOW_TRACKING_URI",
    "UNAUTHENTICATED": _ACCOUNT_ADVICE,
    "CUSTOMER_UNAUTHORIZED": _ACCOUNT_ADVICE,
    "PERMISSION_DENIED": _ACCOUNT_ADVICE,
}
"""Advice by MLflow's error code."""

_ACCOUNT = re.compile(r"(?<=://)[^/@\s]*(?=@)")
"""The user and password in a URL."""


def connect(workspace: Workspace) -> MlflowClient:
    """Connects MLflow to the project's own store, or to the one that the user has set.

    It also marks runs whose process no longer exists as KILLED.

    Args:
        workspace: The project.

    Returns:
        A client of the store.

    Raises:
        TrackingError: If the store cannot be reached or created. The message contains advice.
    """
    # Opening a store can raise errors of its database.
    errors = (SQLAlchemyError, CommandError, ModuleNotFoundError)
    otherwise = f"Correct {ADDRESS}" if ADDRESS in os.environ else ""
    with translate_mlflow_errors(*errors, otherwise=otherwise):
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
    """Selects the experiment that `mlflow run` or the user names, or the project's own.

    The experiment is created if it does not exist.

    Args:
        client: A client of the store.
        workspace: The project; it contains the artifacts of its own store.

    Returns:
        The id of the experiment.
    """
    if not _find_experiment(client):
        try:
            database = workspace.tracking_database.resolve()
            if is_address_of(mlflow.get_tracking_uri(), database):
                create_experiment(database, _name_experiment())
            else:
                client.create_experiment(_name_experiment())
        except MlflowException as error:
            # Another process may have created it in the meantime.
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
    # MLflow assigns logged models to the active experiment.
    return str(mlflow.set_experiment(experiment_id=_find_experiment(client)).experiment_id)


def _name_experiment() -> str:
    return os.environ.get(EXPERIMENT_NAME) or EXPERIMENT


def _find_experiment(client: MlflowClient) -> str | None:
    if number := find_named_experiment():
        return number
    found = client.get_experiment_by_name(_name_experiment())
    return str(found.experiment_id) if found else None


@contextlib.contextmanager
def translate_mlflow_errors(*more: type[Exception], otherwise: str = "") -> Iterator[None]:
    """Translates errors of MLflow in the block into one line, with advice where the cause is known.

    Args:
        more: Exceptions of other libraries to translate.
        otherwise: Advice if the cause is unknown.

    Raises:
        TrackingError: If the block raises one of them.
    """
    translated: tuple[type[Exception], ...] = (MlflowException, *more)
    try:
        yield
    except translated as error:
        store = mlflow.get_tracking_uri()
        if store.startswith("sqlite"):
            store = str(make_url(store).database)
        reason = one_line(str(error).partition("[SQL:")[0], 300).rstrip(".")
        advice = advise(error) or otherwise
        then = f" {advice}, and run the command again." if advice else ""
        line = f"MLflow at {store}: {reason}.{then}"
        raise TrackingError(_ACCOUNT.sub("***", line)) from None


def is_unreachable(error: BaseException) -> bool:
    """Returns whether an error of MLflow means that its server does not respond."""
    return isinstance(error, OperationalError | RequestException) or isinstance(
        error.__context__, RequestException
    )


def advise(error: BaseException) -> str:
    """Returns what to do about an error of the store; empty if its cause is unknown."""
    if "(sqlite3." in str(error):
        matching = [advice for text, advice in _SQLITE_ADVICE.items() if text in str(error)]
        return next(iter(matching), "")
    if is_unreachable(error):
        return _SERVER_ADVICE
    if isinstance(error, ModuleNotFoundError):
        return "Install the driver of this database, or correct MLFLOW_TRACKING_URI"
    if f"id={os.environ.get(EXPERIMENT_ID)} " in str(error):
        return f"Correct or unset {EXPERIMENT_ID}"
    return _ADVICE.get(getattr(error, "error_code", ""), "")
