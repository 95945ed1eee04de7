"""The connection to MLflow: the store, the experiment, and error messages."""

import contextlib
import os
import re
from collections.abc import Iterator

import mlflow
from alembic.util.exc import CommandError
from mlflow.entities import LifecycleStage
from mlflow.exceptions import MlflowException
from mlflow.store.db import utils as databases
from mlflow.store.db.db_types import DATABASE_ENGINES
from mlflow.tracking import MlflowClient
from mlflow.utils.uri import get_uri_scheme
from requests.exceptions import RequestException
from sqlalchemy import make_url
from sqlalchemy.exc import ArgumentError, OperationalError, SQLAlchemyError

from person_attributes.errors import RegistryError, TrackingError, one_line
from person_attributes.tracking.client import RetryingClient
from person_attributes.tracking.database import (
    EXPERIMENT,
    create_experiment,
    find_file,
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

databases.MAX_RETRY_COUNT = 5  # report an unreachable database after 3 seconds, not 100

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

_REGISTRY_ADDRESS = "MLFLOW_REGISTRY_URI"

_SERVER_ADVICE = "Start the server, or correct MLFLOW_TRACKING_URI"
_LOG_ADVICE = "The server has failed: read its log, or correct MLFLOW_TRACKING_URI"
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

_CAUSE = re.compile(r"\(Caused by (.*)\)", re.DOTALL)
"""The cause in a message about a request that failed."""

_ACCOUNT = re.compile(r"(?<=://)[^/\s]*(?=@)")
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
    # Opening a store can raise errors of its database or its URL.
    errors = (SQLAlchemyError, CommandError, ModuleNotFoundError, ValueError)
    otherwise = f"Correct {ADDRESS}" if ADDRESS in os.environ else ""
    with translate_mlflow_errors(*errors, otherwise=otherwise):
        database = workspace.tracking_database.resolve()
        leave_default_store(database)
        # A copy in which DVC runs an experiment is deleted: relative paths start at the project.
        address = os.environ.get(ADDRESS) or sqlite_address(database)
        if file := find_file(address, database.parent):
            mlflow.set_tracking_uri(sqlite_address(file.resolve()))
        if is_address_of(address, database):
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
        workspace: The project; it contains the artifacts of a store without a server.

    Returns:
        The id of the experiment.

    Raises:
        TrackingError: If the experiment was deleted: restore it or name another.
    """
    if not _find_experiment(client):
        try:
            address = mlflow.get_tracking_uri()
            scheme = get_uri_scheme(address)  # type: ignore[no-untyped-call]
            if scheme in DATABASE_ENGINES:
                folder = workspace.tracking_database.resolve().parent
                create_experiment(address, folder, _name_experiment())
            else:
                client.create_experiment(_name_experiment())
        except MlflowException as error:
            # Another process may have created it in the meantime.
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
    experiment = client.get_experiment(str(_find_experiment(client)))
    if experiment.lifecycle_stage == LifecycleStage.DELETED:
        otherwise = f"set {EXPERIMENT_NAME} to another name"
        if experiment.name != _name_experiment():  # the id takes precedence over the name
            otherwise = f"correct or unset {EXPERIMENT_ID}"
        raise TrackingError(
            f"MLflow at {_name_store()}: the experiment {experiment.name!r} was deleted. Run "
            f"mlflow experiments restore --experiment-id {experiment.experiment_id}, or "
            f"{otherwise}."
        )
    # MLflow assigns logged models to the active experiment.
    return str(mlflow.set_experiment(experiment_id=experiment.experiment_id).experiment_id)


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
        message = hide_account(str(error).partition("[SQL:")[0])
        cause = _CAUSE.search(message)
        reason = one_line(cause[1] if cause else message, 300).rstrip(".")
        advice = advise(error) or otherwise
        if _REGISTRY_ADDRESS in os.environ:
            advice = advice.replace(ADDRESS, f"{ADDRESS} and {_REGISTRY_ADDRESS}")
        then = f" {advice}, and run the command again." if advice else ""
        raise TrackingError(f"MLflow at {_name_store()}: {reason}.{then}") from None


def _name_store() -> str:
    """Returns the SQLite file or the URL of the store, without an account."""
    store = str(mlflow.get_tracking_uri())
    with contextlib.suppress(ArgumentError):
        if store.startswith("sqlite"):
            return make_url(store).database or store
    return hide_account(store)


def hide_account(text: str) -> str:
    """Replaces users and passwords in URLs."""
    return _ACCOUNT.sub("***", text)


@contextlib.contextmanager
def translate_load_errors(uri: str) -> Iterator[None]:
    """Translates errors in the block, which loads or downloads a model, into one line.

    Raises:
        RegistryError: If there is no such model, or its storage refuses access.
            `person-attributes models` lists the models.
        TrackingError: If the store does not respond.
    """
    with translate_mlflow_errors():
        try:
            yield
        except OSError:
            raise
        except Exception as error:  # each kind of storage raises its own types
            if is_unreachable(error):
                raise
            reason = one_line(error, 400).rpartition("##### ")[2][:200].rstrip(".")
            raise RegistryError(
                f"{uri}: cannot be loaded: {reason}. Expected models:/NAME/VERSION, "
                "models:/NAME@ALIAS or the folder of a model. Run person-attributes models to list "
                "the registered versions."
            ) from None


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
        return _LOG_ADVICE if "error responses" in str(error) else _SERVER_ADVICE
    if "filesystem tracking backend" in str(error):  # or an address without http://
        return (
            f"Set {ADDRESS} to a server, such as http://127.0.0.1:5000, or to a database, such as "
            "sqlite:///mlflow.db"
        )
    if isinstance(error, ModuleNotFoundError):
        return "Install the driver of this database, or correct MLFLOW_TRACKING_URI"
    registry = os.environ.get(_REGISTRY_ADDRESS)
    if registry and f"'{registry}'" in str(error):
        return f"Correct or unset {_REGISTRY_ADDRESS}"
    number = os.environ.get(EXPERIMENT_ID)
    if f"id={number} " in str(error) or f"ID '{number}'" in str(error):
        return f"Correct or unset {EXPERIMENT_ID}"
    return _ADVICE.get(getattr(error, "error_code", ""), "")
