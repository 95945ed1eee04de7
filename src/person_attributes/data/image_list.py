"""Reads lists of images."""

import os.path
from collections.abc import Sequence
from pathlib import Path

from person_attributes.config import LimitsParams
from person_attributes.data.folder import FolderSource
from person_attributes.data.image_names import match_names
from person_attributes.data.tables import read_table
from person_attributes.errors import AnnotationsError, SourceError
from person_attributes.image_path import ImagePath


def read_image_list(path: Path, column: str, limits: LimitsParams) -> list[str]:
    """Reads the paths in a table.

    Args:
        path: A table in any format of annotations.
        column: The column with the paths, or a pattern such as `images/{id}.jpg`.
        limits: The largest size of the table.

    Raises:
        AnnotationsError: If the file is not a table, or a row has a wrong number of values.
        SourceError: If `column` is neither a column nor a pattern.
    """
    try:
        image = ImagePath.parse(column) if "{" in column else ImagePath.of_column(column)
    except ValueError as error:
        raise SourceError(f"--column: {error}") from None
    table = read_table(FolderSource(Path.cwd()), str(path), image.columns, limits, "--column")
    for row, reason in table.malformed.items():
        raise AnnotationsError(
            f"{path}:{table.lines[row]}: {reason}. Correct the row, or put quotes around a value "
            "that contains the delimiter."
        )
    return image.compose(table.columns)


def find_images(folder: Path, names: Sequence[str]) -> dict[str, str]:
    """Finds listed images whose names differ in form from those of their files.

    Args:
        folder: The folder of the list.
        names: The listed names.

    Returns:
        `{listed name: path relative to the folder}` of the images that were found.
    """
    # Path.is_file raises if a name is too long.
    present = {name for name in names if os.path.isfile(folder / name)}  # noqa: PTH113
    absent = dict.fromkeys(name for name in names if name and name not in present)
    return match_names(absent.keys(), present, FolderSource(folder), str(folder)).found
