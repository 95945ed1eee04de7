"""Proposes values of `params.yaml` for new data."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from person_attributes.commands.init.columns import Column, describe_column, name_heads
from person_attributes.commands.init.images import Location, describe_images, locate_images
from person_attributes.commands.init.sizes import fit_image_size, measure_images
from person_attributes.commands.init.source import open_data
from person_attributes.config import SMALLEST_SIZES, LimitsParams, Params
from person_attributes.data.source import Source
from person_attributes.data.tables import (
    describe_sheet,
    describe_single_column,
    read_header,
    read_table,
)
from person_attributes.errors import AnnotationsError, SourceError, one_line

_VALUES: Mapping[tuple[str, ...], Any] = {
    ("data", "keep_columns"): [],
    ("data", "max_quarantined_share"): 0.01,
    ("split", "method"): "stratified",
    ("split", "validation_share"): 0.15,
    ("split", "test_share"): 0.15,
    ("split", "group_by", "column"): "",
    ("split", "group_by", "pattern"): "",
    ("split", "near_duplicates", "similarity"): 0.65,
    ("card", "licence"): "not stated",
    ("card", "intended_use"): "not stated",
    ("card", "contact"): "not stated",
}
"""Values for photographs, where the recipes have those of their data set."""

_MANY_ROWS = 10_000
"""With more rows, the search for near-duplicates needs a smaller distance of hashes."""

_HASH_DISTANCE = 10

_MAX_LISTED = 300
"""Characters of a list of columns in a message."""


@dataclass(frozen=True)
class Proposal:
    """What was found in new data.

    Attributes:
        path: The folder or archive.
        table: The name of the table in it.
        rows: Number of rows of the table.
        location: How the rows name their images.
        columns: The columns of the table.
        height: Median height of the images, in pixels.
        width: Median width of the images, in pixels.
    """

    path: Path
    table: str
    rows: int
    location: Location
    columns: list[Column]
    height: int
    width: int

    @property
    def heads(self) -> dict[str, dict[str, Any]]:
        """The section `heads`."""
        return name_heads(self.columns)

    def change(self, template: Params, root: Path) -> dict[tuple[str, ...], Any]:
        """Returns new values for a parameter file.

        Args:
            template: The parameters in the file.
            root: The folder of the project. The path of data in it becomes relative.

        Returns:
            `{keys of a value: new value}`.
        """
        smallest = SMALLEST_SIZES[template.model.backbone]
        sizes = {
            size: fit_image_size(size, self.height, self.width, smallest)
            for size in template.data.image_sizes
        }
        changes = {
            **_VALUES,
            ("data", "source"): _relative_to(root, self.path),
            ("data", "annotations"): self.table,
            ("data", "image_column"): self.location.column,
            ("data", "image_path"): self.location.pattern,
            ("data", "image_sizes"): list(dict.fromkeys(sizes.values())),
            ("heads",): self.heads,
            ("registry", "model_name"): _name_model(self.path),
        }
        if self.rows > _MANY_ROWS:
            changes["split", "near_duplicates", "hash_distance"] = _HASH_DISTANCE
        for name, phase in template.phases.items():
            changes["phases", name, "image_size"] = sizes[phase.image_size]
        return changes


def propose(data: str, annotations: str, limits: LimitsParams) -> Proposal:
    """Reads new data.

    Args:
        data: A folder, a `.zip`, or a table beside its images.
        annotations: The name of the table in the folder or archive; empty if there is only one.
        limits: Limits on archives, tables and images.

    Raises:
        SourceError: If there are no data, or no images. Correct the path.
        AnnotationsError: If there is no table, or none of its columns can be a head.
    """
    path, source, table = open_data(data, annotations, limits)
    columns, repeated = _read_columns(source, table, limits)
    location = locate_images(columns, source, str(path))
    if location is None:
        first_cells = {name: cells[0] for name, cells in columns.items()}
        for cell in first_cells.values():
            if link := source.describe_link(cell):
                raise SourceError(f"{path}: {cell} is {link}.")
        raise SourceError(
            f"{path}: contains no images of {table}. Expected a column with their paths relative "
            f"to {path}, or parts of the paths. Received: {_list(first_cells)}."
            f"{describe_sheet(table)} {describe_images(source)}"
        )
    described = [
        Column(name, {}, "names the image")
        if name == location.column
        else describe_column(name, cells)
        for name, cells in columns.items()
    ]
    described += [Column(name, {}, "appears twice; rename one") for name in repeated]
    if not any(column.head for column in described):
        descriptions = {column.name: column.description for column in described}
        raise AnnotationsError(
            f"{table}: no column can be a head. Expected one with few different values, the names "
            f"of classes. Received: {_list(descriptions)}.{describe_sheet(table)} Add such a "
            "column, or delete what is above the header."
        )
    height, width = measure_images(source, location.found, limits)
    rows = len(columns[location.column])
    return Proposal(path, table, rows, location, described, height, width)


def _read_columns(
    source: Source, table: str, limits: LimitsParams
) -> tuple[dict[str, list[str]], list[str]]:
    """Reads all columns whose name is unique, without malformed rows.

    Returns:
        The columns, and the names of the others.
    """
    header = read_header(source, table, limits)
    if len(header) == 1:
        raise AnnotationsError(
            f"{table}: expected a column for the images and one for labels. Received: only the "
            f"column {one_line(header[0], _MAX_LISTED)}.{describe_single_column(table, header[0])} "
            "Correct the table."
        )
    names = [name for name in header if header.count(name) == 1]
    read = read_table(source, table, names, limits, "the table")
    good = [row for row in range(len(read.lines)) if row not in read.malformed]
    if not good or not names:
        reason = next(iter(read.malformed.values()), "no name of a column is unique")
        raise AnnotationsError(
            f"{table}: {reason}. Correct the table, or delete what is above its header."
        )
    repeated = [name for name in dict.fromkeys(header) if name not in names]
    return {name: [cells[row] for row in good] for name, cells in read.columns.items()}, repeated


def _list(columns: Mapping[str, str]) -> str:
    """Lists columns with a remark about each, for a message."""
    remarks = [f"{name or repr(name)} ({remark})" for name, remark in columns.items()]
    return one_line(", ".join(remarks), _MAX_LISTED)


def _relative_to(root: Path, path: Path) -> str:
    root = root.resolve()
    absolute = (root / path).resolve()
    return (absolute.relative_to(root) if absolute.is_relative_to(root) else absolute).as_posix()


def _name_model(path: Path) -> str:
    """Names the model like the data, without the characters that MLflow refuses."""
    return re.sub(r"[^\w-]+", "-", path.resolve().stem).strip("-") or "attributes"
