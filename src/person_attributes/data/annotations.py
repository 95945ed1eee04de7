"""Parses and validates an annotations CSV; every fault has its line."""

import codecs
import csv
import io
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import compress
from typing import TYPE_CHECKING

import pandas as pd

from person_attributes.config import DataParams, HeadParams
from person_attributes.data.archive import Source
from person_attributes.data.class_names import describe_unknown, name_classes
from person_attributes.errors import AnnotationsError, suggest

if TYPE_CHECKING:
    import _csv

_DELIMITERS = ",;\t|"

_BYTE_ORDER_MARKS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}

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

    The encoding is UTF-8, or UTF-16 with a byte order mark. The delimiter is a comma, semicolon,
    tab or bar. Whitespace around values is removed.

    Args:
        source: The folder or archive.
        data: The file and the columns to read.
        heads: The label columns and their known classes.

    Returns:
        All rows and their faults.

    Raises:
        AnnotationsError: If the file or a column is missing, or if the file is not CSV. Correct
            the file or `data` in `params.yaml`.
    """
    text = _read_text(source, data)
    names = {"image": data.image_column} | {name: name for name in data.keep_columns}
    names |= {head: section.column for head, section in heads.items()}
    table, malformed = _parse(text, data.annotations, names)
    for head, section in heads.items():
        table[head] = name_classes(table[head], section)
    faults = pd.concat([malformed, _check_labels(table, heads)], ignore_index=True)
    return Annotations(table, faults)


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


def _read_text(source: Source, data: DataParams) -> str:
    if link := source.describe_link(data.annotations):
        raise AnnotationsError(f"{data.source}: {data.annotations} is {link}.")
    if data.annotations not in source:
        raise AnnotationsError(
            f"{data.source}: contains no file {data.annotations!r}. Expected the annotations CSV. "
            "Correct data.annotations in params.yaml."
        )
    megabytes = source.size(data.annotations) / 1e6
    if megabytes > data.limits.annotations_megabytes:
        raise AnnotationsError(
            f"{data.annotations}: {megabytes:.0f} MB. Expected at most "
            f"{data.limits.annotations_megabytes:g}. "
            "Raise data.limits.annotations_megabytes in params.yaml if the file is correct."
        )
    content = source.read(data.annotations)
    marks = (name for mark, name in _BYTE_ORDER_MARKS.items() if content.startswith(mark))
    encoding = next(marks, "utf-8")
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise AnnotationsError(
            f"{data.annotations}:{line}: not {encoding.upper()} text. Expected UTF-8, or UTF-16 "
            "with a byte order mark. Save the file as UTF-8."
        ) from None
    if "\0" in text:
        line = text.partition("\0")[0].count("\n") + 1
        raise AnnotationsError(
            f"{data.annotations}:{line}: contains a null character. Expected UTF-8 text, or UTF-16 "
            "with a byte order mark. Save the file as UTF-8."
        )
    return text


def _parse(text: str, file: str, names: Mapping[str, str]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Parses the needed columns, `{our name: name in the header}`, and finds malformed rows."""
    delimiter = _find_delimiter(text, names)
    # Not StringIO: it uses four bytes per character.
    lines_of_text = io.TextIOWrapper(io.BytesIO(text.encode()), "utf-8", newline="")
    reader = csv.reader(lines_of_text, delimiter=delimiter, strict=True)
    rows = _read_rows(reader, file)
    first = next(rows, None)
    if first is None:
        raise AnnotationsError(f"{file}: empty. Expected a header and rows. Add annotations.")
    header = [name.strip() for name in first[1]]
    indices = [_find_column(column, header, names, file) for column in names.values()]
    columns: list[list[str]] = [[] for _ in names]
    lines: list[int] = []
    malformed: dict[int, str] = {}
    for line, cells in rows:
        if len(cells) != len(header):
            malformed[len(lines)] = f"{len(cells)} values; the header has {len(header)}"
            cells = (cells + [""] * len(header))[: len(header)]
        lines.append(line)
        for column, index in zip(columns, indices, strict=True):
            column.append(sys.intern(_clean(cells[index])))
    if not lines:
        raise AnnotationsError(f"{file}: no rows below the header. Add annotations.")
    table = pd.DataFrame({"line": lines} | dict(zip(names, columns, strict=True)))
    table.index.name = "row"
    return table, make_faults(table, "malformed row", malformed)


def _clean(cell: str) -> str:
    """Removes surrounding whitespace, and normalizes line breaks to the form that pandas keeps."""
    return cell.strip().replace("\r\n", "\n").replace("\r", "\n")


def _find_delimiter(text: str, names: Mapping[str, str]) -> str:
    """Returns the delimiter that splits the header into most of the needed columns."""
    first = re.split(r"[\r\n]", text.lstrip("\r\n"), maxsplit=1)[0]
    needed = set(names.values())

    def count(delimiter: str) -> int:
        try:
            cells = next(csv.reader([first], delimiter=delimiter), [])
        except csv.Error:  # reported by `_read_rows`
            return 0
        return len(needed & {cell.strip() for cell in cells})

    return max(_DELIMITERS, key=count)


def _read_rows(reader: "_csv.Reader", file: str) -> Iterator[tuple[int, list[str]]]:
    """Yields the rows that are not blank, each with its first line in the file."""
    line = 1
    try:
        for cells in reader:
            if cells:
                yield line, cells
            line = reader.line_num + 1
    except csv.Error as error:
        raise AnnotationsError(
            f"{file}:{line}: not a CSV file: {error}. Look for an unclosed quotation mark in the "
            "row that begins on this line."
        ) from None


def _find_column(column: str, header: Sequence[str], names: Mapping[str, str], file: str) -> int:
    if header.count(column) == 1:
        return header.index(column)
    found = ", ".join(header)
    if column in header:
        raise AnnotationsError(
            f"{file}:1: column {column!r} appears {header.count(column)} times. Expected it once. "
            f"Received: {found}. Rename or remove the others."
        )
    raise AnnotationsError(
        f"{file}:1: no column {column!r}.{suggest(column, header)} Expected the columns "
        f"{', '.join(names.values())}. "
        f"Received: {found}. Correct the header or params.yaml."
    )


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
        row: f"the same image as line {line}, with another {', '.join(compress(columns, flags))}"
        for row, line, flags in zip(copies.index, other, differs.to_numpy(), strict=True)
        if flags.any()
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
