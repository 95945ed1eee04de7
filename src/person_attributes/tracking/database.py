"""The embedded store: an SQLite file in the project, created atomically, which can be moved."""

import os
import sys
from pathlib import Path
from urllib.parse import unquote, urlparse
from urllib.request import url2pathname

import filelock
from mlflow.store.db.base_sql_model import Base
from mlflow.store.model_registry.dbmodels import models as _registry_tables  # noqa: F401
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
from sqlalchemy import URL, Connection, create_engine, func, literal, make_url, select, update
from sqlalchemy.pool import NullPool

from person_attributes.errors import TrackingError
from person_attributes.files import writing
from person_attributes.tracking.processes import PLACE, name_place

EXPERIMENT = "person-attributes"
"""Name of the default experiment."""

_LOCATIONS = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
)
"""Tables and columns that contain locations of artifacts."""


_LONGEST_PATH = 440
"""Bytes: SQLite accepts 500, and its temporary files have longer names."""


def sqlite_address(path: Path) -> str:
    """Returns the URL of an SQLite file; its path may contain any characters.

    The URL names the driver. Without it, MLflow creates the parent folder under its quoted name.
    """
    return URL.create("sqlite+pysqlite", database=str(path)).render_as_string()


def is_address_of(address: str, path: Path) -> bool:
    """Returns whether a URL points to an SQLite file; a relative one starts at its folder."""
    file = find_file(address, path.parent)
    return file is not None and file.resolve() == path


def find_file(address: str, folder: Path) -> Path | None:
    """Returns the SQLite file of a URL; a relative one starts at a folder.

    Returns:
        None for another kind of store.

    Raises:
        ArgumentError: If it is not a URL.
    """
    if not address.startswith("sqlite"):
        return None
    name = (make_url(address).database or "").strip()
    return folder / name if name not in ("", ":memory:") else None


def prepare_store(database: Path) -> None:
    """Creates the store if it does not exist, and updates the paths of a moved store.

    Args:
        database: The SQLite file, with links resolved.

    Raises:
        TrackingError: If MLflow or SQLite does not support the path: rename the folder.
    """
    refuse_path(database)
    if _is_ready(database):
        return
    with filelock.FileLock(database.with_name(f"{database.name}.lock")):
        if not _has_content(database):
            _create(database)
        elif not _is_ready(database):
            _follow_move(database)


def refuse_path(database: Path) -> None:
    """Refuses a path at which SQLite cannot create the store, or MLflow would not find artifacts.

    Raises:
        TrackingError: If the path is a folder, is too long, or has a % that MLflow decodes: rename
            the folder.
    """
    folder = database.parent
    if database.is_dir():
        raise TrackingError(
            f"{database}: expected the file of the MLflow store. Received: a folder. Remove or "
            "rename it."
        )
    if (length := len(os.fsencode(database))) > _LONGEST_PATH:
        raise TrackingError(
            f"{folder}: expected a path with which that of {database.name} has at most "
            f"{_LONGEST_PATH} bytes, for SQLite. Received: {length} bytes. Move the project, or "
            "set MLFLOW_TRACKING_URI to a server."
        )
    if unquote(str(folder)) != str(folder):
        raise TrackingError(
            f"{folder}: MLflow decodes the % in this path as the escape of another character, and "
            "would not find its artifacts. Rename the folder, or set MLFLOW_TRACKING_URI to a "
            "server."
        )


def create_experiment(address: str, folder: Path, name: str) -> None:
    """Creates an experiment; its artifacts go into a folder, not into the working directory.

    Args:
        address: The URL of the database.
        folder: The project.
        name: Name of the experiment.
    """
    _open(address, folder).create_experiment(name)  # type: ignore[no-untyped-call]


def _open(address: str, folder: Path) -> SqlAlchemyStore:
    """Opens a store whose artifacts are in a folder."""
    artifacts = (folder / "mlruns").as_uri()
    return SqlAlchemyStore(address, artifacts)  # type: ignore[no-untyped-call]


def _has_content(database: Path) -> bool:
    return database.exists() and database.stat().st_size > 0


def _is_ready(database: Path) -> bool:
    if not _has_content(database):
        return False
    with create_engine(sqlite_address(database), poolclass=NullPool).connect() as connection:
        return _find_roots(connection) <= {database.parent.as_uri()}


def _create(database: Path) -> None:
    """Creates the store in a temporary file and renames it, so that it is never incomplete."""
    with writing(database) as draft:
        for rest in database.parent.glob(f".writing-*-{database.name}-*"):
            rest.unlink()  # SQLite's side files of a killed process
        _open(sqlite_address(draft), database.parent).engine.dispose()


def _find_roots(connection: Connection) -> set[str]:
    """Finds the folder in which the store was created, from its default artifact locations.

    Artifacts on other storage, such as S3, are ignored.
    """
    experiments = Base.metadata.tables["experiments"]
    own = experiments.c.name.in_(["Default", EXPERIMENT])
    rows = connection.execute(
        select(experiments.c.experiment_id, experiments.c.artifact_location).where(own)
    )
    layouts = [(str(location), f"/mlruns/{number}") for number, location in rows]
    return {
        location.removesuffix(end)
        for location, end in layouts
        if location.endswith(end) and location.startswith(("file:", "/"))
    }


def _follow_move(database: Path) -> None:
    """Rewrites all artifact locations: a copy must not write to the folder of its original."""
    folder = database.parent
    engine = create_engine(sqlite_address(database), poolclass=NullPool)
    with engine.begin() as connection:
        moved = {root for root in _find_roots(connection) if _was_moved(root, folder)}
        for root in moved:
            for table, column in _LOCATIONS:
                _replace_start(connection, table, column, f"{root}/", f"{folder.as_uri()}/")
            before, after = name_place(_to_path(root)), name_place(folder)
            _replace_start(connection, "tags", "value", f"{before}/", f"{after}/", key=PLACE)
    for root in moved:
        if _to_path(root) != folder:  # otherwise MLflow created it here and spelled it differently
            print(
                f"{database.name}: moved from {_to_path(root)}; the artifact locations now point "
                f"to {folder / 'mlruns'}.",
                file=sys.stderr,
            )


def _was_moved(root: str, folder: Path) -> bool:
    """Returns whether the artifacts moved too, or are missing; false for other storage."""
    if root == folder.as_uri():
        return False
    return (folder / "mlruns").exists() or not (_to_path(root) / "mlruns").exists()


def _to_path(root: str) -> Path:
    return Path(url2pathname(urlparse(root).path) if root.startswith("file:") else root)


def _replace_start(
    connection: Connection, table: str, column: str, before: str, after: str, **equal: str
) -> None:
    """Replaces a prefix of values, only in rows where other columns have the given values."""
    columns = Base.metadata.tables[table].c
    starts = func.substr(columns[column], 1, len(before)) == before
    rest = func.substr(columns[column], len(before) + 1)
    where = [columns[name] == value for name, value in equal.items()]
    connection.execute(
        update(Base.metadata.tables[table])
        .where(starts, *where)
        .values({column: literal(after) + rest})
    )
