"""From the project's own store to a server: everything that was tracked, under the same ids.

python deploy/move_tracking.py     # in the project's folder; make move-tracking for our server
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
"""Environment variable that names the server's database, as it does for `mlflow server`."""

_VERSION = sqlalchemy.text("SELECT version_num FROM alembic_version")
_FILLED = {"experiments": 1, "runs": 0, "registered_models": 0}
"""How many rows of tables a new server has."""

_TOLD = ("experiments", "runs", "model_versions")


def move_tracking(workspace: Workspace) -> str:
    """Copies the embedded store into a server that is empty yet; the store stays as it is.

    Ids, times and version numbers are kept, so that whatever names a run still does. Artifacts go
    through the server; then all rows follow in one transaction, so that a move which was stopped
    has moved nothing, and is started again.

    Args:
        workspace: The project. `MLFLOW_TRACKING_URI` names the server, `MLFLOW_BACKEND_STORE_URI`
            its database.

    Returns:
        A line that says what was moved.

    Raises:
        TrackingError: If there is nothing to move, if a server or its database cannot be reached,
            if it has runs or models already, or was made by another version of MLflow.
    """
    if not workspace.tracking_database.exists():
        raise TrackingError(f"{workspace.tracking_database}: missing; there is nothing to move.")
    for name in ("MLFLOW_TRACKING_URI", DATABASE):
        if name not in os.environ:
            raise TrackingError(f"{name}: not set. Name the server and its database.")
    try:
        prepare_store(workspace.tracking_database.resolve())
        source = create_engine(sqlite_address(workspace.tracking_database), poolclass=NullPool)
        target = create_engine(os.environ[DATABASE], poolclass=NullPool)
        with source.begin() as old, target.begin() as new:
            _refuse_another_version(old, new)
            _refuse_what_is_filled(new)
            folders = _move_artifacts(old)
            for table in Base.metadata.sorted_tables:
                _copy_rows(table, old, new, folders)
            counts = [f"{_count(table, new)} {_word(table)}" for table in _TOLD]
    except (sqlalchemy.exc.SQLAlchemyError, ImportError) as error:
        raise TrackingError(
            f"{DATABASE}: {str(error).partition(chr(10))[0]} Start that server once, install the "
            "driver of its database, or correct the variable."
        ) from None
    except MlflowException as error:
        raise TrackingError(
            f"MLflow at {mlflow.get_tracking_uri()}: {one_line(error.message, 300)} "
            "Artifacts are moved by the admin's account."
        ) from None
    return f"{mlflow.get_tracking_uri()} has {', '.join(counts)}; mlflow.db stays as it was."


def _word(table: str) -> str:
    return table.replace("_", " ")


def _count(table: str, connection: Connection) -> int:
    found = connection.scalar(select(func.count()).select_from(Base.metadata.tables[table]))
    return int(found or 0)


def _refuse_another_version(old: Connection, new: Connection) -> None:
    """Tables of two versions differ."""
    if old.scalar(_VERSION) != new.scalar(_VERSION):
        raise TrackingError(
            f"{DATABASE}: the server's MLflow is of another version than the project's store. "
            "Run mlflow db upgrade on the older of both."
        )


def _refuse_what_is_filled(new: Connection) -> None:
    """Numbers of experiments and of versions would clash."""
    for table, least in _FILLED.items():
        if _count(table, new) > least:
            raise TrackingError(
                f"{DATABASE}: expected an empty server. Received: one with {_word(table)}. "
                "Move before anybody tracks there."
            )


def _move_artifacts(old: Connection) -> dict[str, str]:
    """Sends the folders of all experiments; tells where each was and where it is."""
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
    """Copies a table; a row that a new server has by itself gives way."""
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
        # Numbers that were given are not counted.
        sequence = func.pg_get_serial_sequence(table.name, counted.name)
        new.execute(select(func.setval(sequence, select(func.max(counted)).scalar_subquery())))


def _relocate(value: Any, folders: Mapping[str, str]) -> Any:
    """Names an artifact by its new place."""
    if isinstance(value, str):
        for before, after in folders.items():
            if value == before or value.startswith(f"{before}/"):
                return after + value.removeprefix(before)
    return value


def main() -> int:
    """Moves the store of the project in this folder.

    Returns:
        0, or 2 where the user has something to mend.
    """
    try:
        print(move_tracking(Workspace(Path.cwd())))
    except TrackingError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
