"""Reads and validates annotations; every fault has its line."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import compress

import pandas as pd

from person_attributes.config import DataParams, HeadParams
from person_attributes.data.class_names import describe_unknown, name_classes
from person_attributes.data.image_names import fold_name, is_image_name
from person_attributes.data.source import Source
from person_attributes.data.tables import read_table, require_columns
from person_attributes.errors import AnnotationsError, suggest
from person_attributes.image_path import ImagePath

_HAS_LABEL = "has_label"

FAULT_COLUMNS = ["row", "line", "image", "kind", "reason"]


@dataclass(frozen=True)
class Annotations:
    """The content of an annotations file.

    Attributes:
        table: All rows. Index: `row` (0 is the first row below the header). Columns: `line` (first
            line of the row in the file), `image`, the kept columns, then one column of class names
            for each head; an empty cell is a missing label.
        faults: All faults. Columns: `row`, `line`, `image`, `kind` and `reason`. A row may have
            several faults.
    """

    table: pd.DataFrame
    faults: pd.DataFrame


def read_annotations(
    source: Source, data: DataParams, heads: Mapping[str, HeadParams]
) -> Annotations:
    """Reads annotations and checks every label.

    Args:
        source: The folder or archive.
        data: The file and the columns to read.
        heads: The label columns and their known classes.

    Returns:
        All rows and their faults.

    Raises:
        AnnotationsError: If the file or a column is missing, or if the file is not a table. Correct
            the file or `data` in `params.yaml`.
    """
    file = _find_file(source, data)
    image = _find_image_path(data)
    names = {name: name for name in data.keep_columns}
    names |= {head: section.column for head, section in heads.items()}
    needed = [*image.columns, *names.values()]
    read = read_table(source, file, needed, data.limits, "params.yaml")
    cells = {name: read.columns[column] for name, column in names.items()}
    table = pd.DataFrame({"line": read.lines, "image": image.compose(read.columns)} | cells)
    table.index.name = "row"
    malformed = make_faults(table, "malformed row", read.malformed)
    for head, section in heads.items():
        table[head] = name_classes(table[head], section)
    faults = pd.concat([malformed, _check_labels(table, heads)], ignore_index=True)
    return Annotations(table, faults)


def check_columns(source: Source, data: DataParams, heads: Mapping[str, HeadParams]) -> None:
    """Checks that the annotations file is a table with all columns, without reading its rows.

    Raises:
        AnnotationsError: See `read_annotations`.
    """
    file = _find_file(source, data)
    columns = [section.column for section in heads.values()]
    needed = [*_find_image_path(data).columns, *data.keep_columns, *columns]
    require_columns(source, file, needed, data.limits, "params.yaml")


def _find_image_path(data: DataParams) -> ImagePath:
    if data.image_path:
        return ImagePath.parse(data.image_path)
    return ImagePath.of_column(data.image_column)


def _find_file(source: Source, data: DataParams) -> str:
    """Returns the name of the annotations file in the source; its form may differ."""
    if file := find_table(source, data.annotations):
        return file
    if link := source.describe_link(data.annotations):
        raise AnnotationsError(f"{data.source}: {data.annotations} is {link}.")
    names = [name for name in source.names() if not is_image_name(name)]
    raise AnnotationsError(
        f"{data.source}: contains no file {data.annotations!r}.{suggest(data.annotations, names)} "
        "Expected the annotations. Correct data.annotations in params.yaml."
    )


def find_table(source: Source, name: str) -> str:
    """Returns the name of a table in a source, whose form may differ; empty if there is none."""
    if name in source:
        return name
    if source.describe_link(name):
        return ""
    key = fold_name(name)
    same = [file for file in source.names() if fold_name(file) == key]
    return same[0] if len(same) == 1 and same[0] in source else ""


def make_faults(table: pd.DataFrame, kind: str, reasons: Mapping[int, str]) -> pd.DataFrame:
    """Creates faults of one kind.

    Args:
        table: `Annotations.table`.
        kind: The kind of fault, such as `missing image`.
        reasons: `{row: reason}`.

    Returns:
        Rows of `Annotations.faults`.
    """
    rows = list(reasons)
    faults = table.loc[rows, ["line", "image"]].assign(kind=kind, reason=list(reasons.values()))
    return faults.reset_index(names="row")[FAULT_COLUMNS]


def _check_labels(table: pd.DataFrame, heads: Mapping[str, HeadParams]) -> pd.DataFrame:
    """Validates rows: every class is known, every image has a name, every row has a label."""
    import pandera.pandas as pa

    known = {head: pa.Check.isin(["", *section.classes]) for head, section in heads.items()}
    has_label = pa.Check(lambda frame: frame[list(heads)].ne("").any(axis=1), name=_HAS_LABEL)
    schema = pa.DataFrameSchema(
        {"image": pa.Column(str, pa.Check.str_length(min_value=1), coerce=True)}
        | {head: pa.Column(str, check, coerce=True) for head, check in known.items()},
        checks=has_label,
    )
    try:
        schema.validate(table, lazy=True)
    except pa.errors.SchemaErrors as error:
        return _describe_failures(table, heads, error.failure_cases)
    return make_faults(table, "", {})


def _describe_failures(
    table: pd.DataFrame, heads: Mapping[str, HeadParams], failures: pd.DataFrame
) -> pd.DataFrame:
    """Converts failures of the schema to faults."""
    is_unlabelled = failures["check"] == _HAS_LABEL  # reported for every column of the row
    unlabelled = failures.loc[is_unlabelled, "index"].unique()
    by_column = failures[~is_unlabelled]
    unnamed = by_column.loc[by_column["column"] == "image", "index"]
    parts = [
        make_faults(table, "no label", dict.fromkeys(unlabelled, "all labels are empty")),
        make_faults(table, "no image named", dict.fromkeys(unnamed, "the cell is empty")),
    ]
    for head, section in heads.items():
        wrong = by_column[by_column["column"] == head]
        values = wrong["failure_case"].astype(str)
        reasons = values.map({value: describe_unknown(value, section) for value in values.unique()})
        parts.append(
            make_faults(table, "unknown class", dict(zip(wrong["index"], reasons, strict=True)))
        )
    return pd.concat(parts, ignore_index=True)


def complete_copies(
    table: pd.DataFrame, keys: pd.Series, heads: Mapping[str, HeadParams]
) -> pd.DataFrame:
    """Gives rows with the same image the labels that they lack and another one has.

    Args:
        table: `Annotations.table`.
        keys: See `find_copies`.
        heads: The label columns.
    """
    copies = keys[keys.duplicated(keep=False)]
    if copies.empty:
        return table
    labels = table.loc[copies.index, list(heads)].replace("", None)
    completed = labels.groupby(copies).transform("first").fillna("")
    return table.assign(**{head: completed[head].combine_first(table[head]) for head in heads})


def find_copies(
    table: pd.DataFrame, keys: pd.Series, heads: Mapping[str, HeadParams]
) -> pd.DataFrame:
    """Finds rows with the same image. The first one is kept, unless their labels differ.

    Args:
        table: `Annotations.table`.
        keys: A key for each row without another fault, indexed by row; equal for copies.
        heads: The label columns.

    Returns:
        Rows of `Annotations.faults`. The kind is `repeated image` for all copies but the first, or
        `conflicting labels` for all copies if their labels differ.
    """
    copies = keys[keys.duplicated(keep=False)]
    is_first = ~copies.duplicated()
    lines = table.loc[copies.index, "line"]
    first = lines.groupby(copies).transform("first")
    # A conflict must name another line: the first row names the last, all others the first.
    other = first.where(~is_first, lines.groupby(copies).transform("last"))
    labels = table.loc[copies.index, list(heads)].replace("", None)
    differs = labels.groupby(copies).transform("nunique").gt(1)
    columns = [section.column for section in heads.values()]
    conflicting = {
        row: f"the same image as line {line}; copies differ in {', '.join(compress(columns, flag))}"
        for row, line, flag in zip(copies.index, other, differs.to_numpy(), strict=True)
        if flag.any()
    }
    repeated = {
        row: f"the same image as line {line}"
        for row, line in first[~is_first].items()
        if row not in conflicting
    }
    return pd.concat(
        [
            make_faults(table, "repeated image", repeated),
            make_faults(table, "conflicting labels", conflicting),
        ],
        ignore_index=True,
    )
