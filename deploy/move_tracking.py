"""Copies the project's local tracking store to a server, with all ids.

Run it in the project's folder: `python deploy/move_tracking.py`. For the server of `make server`,
run `make move-tracking`.
"""

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import mlflow
import sqlalchemy
from mlflow.exceptions import MlflowException
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
from mlflow.store.db.base_sql_model import Base
from mlflow.store.model_registry.dbmodels import models as _registry_tables  # noqa: F401
from mlflow.store.tracking.dbmodels import models as _tracking_tables  # noqa: F401
from mlflow.store.workspace.dbmodels import models as _workspace_tables  # noqa: F401
from mlflow.utils.file_utils import local_file_uri_to_path
from mlflow.utils.uri import is_local_uri
from sqlalchemy import Connection, Table, create_engine, func, select
from sqlalchemy.pool import NullPool

from person_attributes.errors import TrackingError, one_line
from person_attributes.tracking.database import prepare_store, sqlite_address
from person_attributes.workspace import Workspace

DATABASE = "MLFLOW_BACKEND_STORE_URI"
"""Environment variable with the URL of the server's database, as for `mlflow server`."""

_VERSION = sqlalchemy.text("SELECT version_num FROM alembic_version")
_NEW_SERVER_ROWS = {"experiments": 1, "runs": 0, "registered_models": 0}
"""Number of rows in the tables of a new server."""

_REPORTED_TABLES = ("experiments", "runs", "model_versions")


def move_tracking(workspace: Workspace) -> str:
    """Copies the local store to an empty server. The local store is not changed.

    Ids, times and version numbers are kept. Artifacts are copied first; all rows follow in one
    transaction. An interrupted move has copied no rows and can be run again.

    Args:
        workspace: The project. `MLFLOW_TRACKING_URI` is the address of the server,
            `MLFLOW_BACKEND_STORE_URI` the URL of its database.

    Returns:
        A line that reports what was copied.

    Raises:
        TrackingError: If there is nothing to copy, if the server or its database cannot be reached,
            if the server is not empty, or if its MLflow has another version.
    """
    if not workspace.tracking_database.exists():
        raise TrackingError(f"{workspace.tracking_database}: missing. There is nothing to move.")
    for name in ("MLFLOW_TRACKING_URI", DATABASE):
        if name not in os.environ:
            raise TrackingError(f"{name}: not set. Set it to the server or its database.")
    try:
        counts = _move(workspace)
    except (sqlalchemy.exc.SQLAlchemyError, ImportError) as error:
        raise TrackingError(
            f"{DATABASE}: {str(error).partition(chr(10))[0]} Start the server once, install the "
            "driver of its database, or correct the variable."
        ) from None
    except MlflowException as error:
        raise TrackingError(
            f"MLflow at {mlflow.get_tracking_uri()}: {one_line(error.message, 300)} "
            "Use the account of the admin."
        ) from None
    return f"{mlflow.get_tracking_uri()} has {', '.join(counts)}; mlflow.db is unchanged."


def _move(workspace: Workspace) -> list[str]:
    """Copies artifacts and rows; returns the number of rows of each reported table."""
    prepare_store(workspace.tracking_database.resolve())
    source = create_engine(sqlite_address(workspace.tracking_database), poolclass=NullPool)
    target = create_engine(os.environ[DATABASE], poolclass=NullPool)
    with source.begin() as old, target.begin() as new:
        _check_versions(old, new)
        _check_empty(new)
        folders = _move_artifacts(old)
        for table in Base.metadata.sorted_tables:
            _copy_rows(table, old, new, folders)
        return [f"{_count(table, new)} {_label(table)}" for table in _REPORTED_TABLES]


def _label(table: str) -> str:
    return table.replace("_", " ")


def _count(table: str, connection: Connection) -> int:
    found = connection.scalar(select(func.count()).select_from(Base.metadata.tables[table]))
    return int(found or 0)


def _check_versions(old: Connection, new: Connection) -> None:
    """Refuses a server with another version of the tables."""
    if old.scalar(_VERSION) != new.scalar(_VERSION):
        raise TrackingError(
            f"{DATABASE}: the MLflow of the server has another version than the local store. "
            "Run mlflow db upgrade on the older of the two."
        )


def _check_empty(new: Connection) -> None:
    """Refuses a server with content: its ids and version numbers could conflict."""
    for table, rows in _NEW_SERVER_ROWS.items():
        if _count(table, new) > rows:
            raise TrackingError(
                f"{DATABASE}: expected an empty server. Received: one with {_label(table)}. "
                "Move the store before anybody tracks there."
            )


def _move_artifacts(old: Connection) -> dict[str, str]:
    """Copies the artifacts of all experiments.

    Returns:
        The new location of each old location.
    """
    experiments = Base.metadata.tables["experiments"]
    folders = {}
    for row in old.execute(select(experiments)).mappings():
        folder = row["artifact_location"]
        if is_local_uri(folder):  # type: ignore[no-untyped-call]
            folders[folder] = f"mlflow-artifacts:/{row['experiment_id']}"
            path = Path(local_file_uri_to_path(folder))  # type: ignore[no-untyped-call]
            if path.exists():
                repository = get_artifact_repository(folders[folder])
                repository.log_artifacts(str(path))  # type: ignore[no-untyped-call]
    return folders


def _copy_rows(table: Table, old: Connection, new: Connection, folders: Mapping[str, str]) -> None:
    """Copies a table; replaces the rows that every new server has."""
    rows = [
        {name: _relocate(value, folders) for name, value in row.items()}
        for row in old.execute(select(table)).mappings()
    ]
    if not rows:
        return
    new.execute(table.delete())
    new.execute(table.insert(), rows)
    counted = table.autoincrement_column
    if counted is not None and new.dialect.name == "postgresql":
        # Inserting explicit ids does not advance the sequence.
        sequence = func.pg_get_serial_sequence(table.name, counted.name)
        new.execute(select(func.setval(sequence, select(func.max(counted)).scalar_subquery())))


def _relocate(value: Any, folders: Mapping[str, str]) -> Any:
    """Replaces the old location of artifacts in a value by the new one."""
    if isinstance(value, str):
        for before, after in folders.items():
            if value == before or value.startswith(f"{before}/"):
                return after + value.removeprefix(before)
    return value


def main() -> int:
    """Moves the store of the project in this folder.

    Returns:
        0 on success, 2 for an error that the user can fix.
    """
    try:
        print(move_tracking(Workspace(Path.cwd())))
    except TrackingError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
