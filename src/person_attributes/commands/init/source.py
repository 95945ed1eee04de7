"""Finds the table of new data."""

from pathlib import Path, PurePosixPath

from person_attributes.config import LimitsParams
from person_attributes.data.annotations import find_table
from person_attributes.data.image_names import is_image_name, is_unreadable_name
from person_attributes.data.source import Source, describe_other, open_source
from person_attributes.data.tables import TABLE_SUFFIXES
from person_attributes.errors import AnnotationsError, SourceError, suggest

_MAX_LISTED = 3
"""Number of files in a message that are no tables."""

_MAX_TABLES = 10
"""Number of tables in a message."""

_SUFFIXES = ", ".join(sorted(TABLE_SUFFIXES))


def open_data(data: str, annotations: str, limits: LimitsParams) -> tuple[Path, Source, str]:
    """Opens a folder or archive, and finds its table.

    Args:
        data: A folder, a `.zip`, or a table in a folder.
        annotations: The name of the table in the folder or archive; empty if there is only one.
        limits: Limits on an archive.

    Returns:
        The folder or archive, its files, and the name of the table in it.

    Raises:
        SourceError: If there is no such folder, archive or table. Correct the path.
        AnnotationsError: If there is not exactly one table. Create it, or name it.
    """
    path = Path(data)
    if path.suffix.lower() in TABLE_SUFFIXES and path.is_file():
        path, annotations = path.parent, path.name
    elif not path.is_dir() and path.suffix.lower() != ".zip":
        raise SourceError(
            f"{data}: expected a folder, a .zip or a table ({_SUFFIXES}). Received: "
            f"{describe_other(path)} Correct the path."
        )
    source = open_source(path, limits)
    table = annotations or _find_table(path, source)
    if link := source.describe_link(table):
        raise AnnotationsError(f"{path}: {table} is {link}.")
    if not (file := find_table(source, table)):
        hint = suggest(table, source.names())
        raise AnnotationsError(f"{path}: contains no file {table!r}.{hint} Correct --annotations.")
    return path, source, file


def _find_table(path: Path, source: Source) -> str:
    files = [PurePosixPath(name) for name in source.names() if not _is_hidden(name)]
    tables = sorted(file for file in files if file.suffix.lower() in TABLE_SUFFIXES)
    # A text file next to another table is usually a description.
    tables = [file for file in tables if file.suffix.lower() != ".txt"] or tables
    if not tables:
        others = sorted(str(file) for file in files if not _is_image(file.name))
        received = f" Received: {', '.join(others[:_MAX_LISTED])}." if others else ""
        raise AnnotationsError(
            f"{path}: contains no table ({_SUFFIXES}). Expected one with a row for each image."
            f"{received} Create it, or export it as CSV; see docs/datasets.md if the names of "
            "files or folders are the labels."
        )
    if len(tables) > 1:
        count = len(tables) - _MAX_TABLES
        rest = f" and {count:,} others" if count > 0 else ""
        raise AnnotationsError(
            f"{path}: contains {len(tables)} tables. Expected one with a row for each image. "
            f"Name it with --annotations: {', '.join(map(str, tables[:_MAX_TABLES]))}{rest}"
        )
    return str(tables[0])


def _is_image(name: str) -> bool:
    return is_image_name(name) or is_unreadable_name(name)


def _is_hidden(name: str) -> bool:
    """Whether a file or a folder above it is hidden, or a backup of an editor."""
    return any(part.startswith((".", "~")) for part in PurePosixPath(name).parts)
