"""The embedded store: an SQLite file in the project, made at once, and usable where it is moved."""

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
"""Where runs go unless somebody names another experiment."""

_LOCATIONS = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
)
"""Tables and columns that say where artifacts lie."""


def sqlite_address(path: Path) -> str:
    """Gives the address of an SQLite file, whatever characters its path holds.

    It names the driver: MLflow makes the folder of an address without one, and does not unquote it.
    """
    return URL.create("sqlite+pysqlite", database=str(path)).render_as_string()


def is_address_of(address: str, path: Path) -> bool:
    """Says whether an address is that of an SQLite file; a relative one starts at its folder."""
    is_sqlite = address.startswith("sqlite")
    return is_sqlite and (path.parent / (make_url(address).database or "")).resolve() == path


def prepare_store(database: Path) -> None:
    """Makes the store where there is none, and has one that was moved look where it is now.

    Args:
        database: The file, behind all links.

    Raises:
        TrackingError: If MLflow cannot work in this folder.
    """
    folder = str(database.parent)
    if unquote(folder) != folder:
        raise TrackingError(
            f"{folder}: MLflow takes the % in this path for the escape of another character, and "
            "would not find its artifacts. Rename the folder, or set MLFLOW_TRACKING_URI to a "
            "server."
        )
    if _is_ready(database):
        return
    with filelock.FileLock(database.with_name(f"{database.name}.lock")):
        if not _has_content(database):
            _create(database)
        elif not _is_ready(database):
            _follow_move(database)


def create_experiment(database: Path, name: str) -> None:
    """Makes an experiment whose artifacts lie beside the database, not in the working directory."""
    _open(database, database).create_experiment(name)  # type: ignore[no-untyped-call]


def _open(file: Path, database: Path) -> SqlAlchemyStore:
    """Opens the store in a file, whose place is or will be that of the database."""
    artifacts = (database.parent / "mlruns").as_uri()
    return SqlAlchemyStore(sqlite_address(file), artifacts)  # type: ignore[no-untyped-call]


def _has_content(database: Path) -> bool:
    return database.exists() and database.stat().st_size > 0


def _is_ready(database: Path) -> bool:
    if not _has_content(database):
        return False
    with create_engine(sqlite_address(database), poolclass=NullPool).connect() as connection:
        return _find_roots(connection) <= {database.parent.as_uri()}


def _create(database: Path) -> None:
    """Makes the store beside its place and renames it: one that is there is whole."""
    with writing(database) as draft:
        for rest in database.parent.glob(f".writing-*-{database.name}-*"):
            rest.unlink()  # what SQLite had beside the draft of a killed process
        _open(draft, database).engine.dispose()


def _find_roots(connection: Connection) -> set[str]:
    """Gives the folder that the store was made in: where MLflow puts artifacts there by itself.

    Artifacts on other storage, such as S3, stay where they are.
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
    """Rewrites where artifacts lie, all at once: a copy must not write to its original's place."""
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
        if _to_path(root) != folder:  # else MLflow has made it here and spelled it otherwise
            print(
                f"{database.name}: was made in {_to_path(root)}; its artifacts are looked for in "
                f"{folder / 'mlruns'} from now on.",
                file=sys.stderr,
            )


def _was_moved(root: str, folder: Path) -> bool:
    """Says whether the artifacts came along, or are gone: other storage keeps its own."""
    if root == folder.as_uri():
        return False
    return (folder / "mlruns").exists() or not (_to_path(root) / "mlruns").exists()


def _to_path(root: str) -> Path:
    return Path(url2pathname(urlparse(root).path) if root.startswith("file:") else root)


def _replace_start(
    connection: Connection, table: str, column: str, before: str, after: str, **equal: str
) -> None:
    """Replaces the start of values; only in rows with equal values of other columns."""
    columns = Base.metadata.tables[table].c
    starts = func.substr(columns[column], 1, len(before)) == before
    rest = func.substr(columns[column], len(before) + 1)
    where = [columns[name] == value for name, value in equal.items()]
    connection.execute(
        update(Base.metadata.tables[table])
        .where(starts, *where)
        .values({column: literal(after) + rest})
    )
