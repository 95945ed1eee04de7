"""Reads tables of text, Parquet and Excel: annotations, and lists of images."""

import codecs
import csv
import io
import re
import sys
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice, repeat
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from person_attributes.config import LimitsParams
from person_attributes.data.binary_formats import (
    FORMULA,
    read_excel,
    read_parquet,
    refuse_binary,
    refuse_text,
)
from person_attributes.data.image_names import is_image_name
from person_attributes.data.source import Source
from person_attributes.errors import AnnotationsError, one_line, suggest
from person_attributes.invisible import strip_invisible

if TYPE_CHECKING:
    import _csv

TABLE_SUFFIXES = frozenset({".csv", ".parquet", ".tab", ".tsv", ".txt", ".xls", ".xlsx"})
"""Endings of lists of images; `.xls` is refused with advice."""

_DELIMITERS = ",;\t| "

_BYTE_ORDER_MARKS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}

_MAX_HEADER_LENGTH = 300
"""Characters of a header in a message."""

_PEEKED_ROWS = 100
"""Rows from which it is concluded what the header lacks."""

csv.field_size_limit(2**31 - 1)  # data.limits limits the size of the file

_Rows = Iterator[tuple[int, Sequence[str]]]
"""The first line and the cells of each row; the header is the first row."""


@dataclass(frozen=True)
class Table:
    """Some columns of a table.

    Attributes:
        lines: The first line of each row in the file.
        columns: `{column: cells}`, without whitespace around a cell.
        malformed: `{row: reason}` for rows with more or fewer values than the header.
    """

    lines: list[int]
    columns: dict[str, list[str]]
    malformed: dict[int, str]


def read_table(
    source: Source, file: str, columns: Iterable[str], limits: LimitsParams, named_in: str
) -> Table:
    """Reads columns of a table.

    A file that ends in `.parquet` or `.xlsx` has that format; of a workbook, the first sheet is
    read. Any other file is text: UTF-8, or UTF-16 with a byte order mark. Its delimiter is a comma,
    semicolon, tab, bar or blank. A first line with nothing but a count, or with the delimiter as in
    `sep=;`, is skipped. So are blank rows.

    Args:
        source: The folder or archive with the file.
        file: Its name in the source.
        columns: The columns to read. The empty string is the column whose name is empty; or the
            first column, if the header has no name for it and one value less than most rows.
        limits: The largest size of the file.
        named_in: Where the user names the columns, for messages.

    Raises:
        AnnotationsError: If the file is too large or no table, or if a column is missing.
    """
    columns = list(dict.fromkeys(columns))
    rows = _read_rows(source, file, columns, limits)
    return _collect(rows, file, columns, named_in)


def require_columns(
    source: Source, file: str, columns: Iterable[str], limits: LimitsParams, named_in: str
) -> None:
    """Checks that a table has columns. The arguments and errors are those of `read_table`."""
    columns = list(dict.fromkeys(columns))
    rows = _read_rows(source, file, columns, limits)
    line, header, below = _read_first_rows(rows, file, columns)
    _find_columns(line, header, below, file, columns, named_in)


def read_header(source: Source, file: str, limits: LimitsParams) -> list[str]:
    """Reads the names of all columns of a table, as `read_table` accepts them.

    Raises:
        AnnotationsError: If the file is too large or no table.
    """
    _, header, _ = _read_first_rows(_read_rows(source, file, [""], limits), file, [""])
    return header


def describe_sheet(file: str) -> str:
    """Says which sheet of a workbook is read; empty for other tables."""
    return " Of a workbook, the first sheet is read." if file.lower().endswith(".xlsx") else ""


def describe_single_column(file: str, name: str) -> str:
    """Says why a table may have one column only, by the name of the column."""
    if PurePosixPath(file).suffix.lower() in (".parquet", ".xlsx"):
        return describe_sheet(file)
    if any(delimiter in name for delimiter in _DELIMITERS.strip()):
        return " The whole line is in quotation marks: remove them from all lines."
    return " Add the other columns, or separate them by a comma, semicolon, tab, bar or blank."


def _read_rows(source: Source, file: str, columns: Sequence[str], limits: LimitsParams) -> _Rows:
    megabytes = source.size(file) / 1e6
    if megabytes > limits.annotations_megabytes:
        raise AnnotationsError(
            f"{file}: {megabytes:.0f} MB. Expected at most {limits.annotations_megabytes:g}. "
            "Raise data.limits.annotations_megabytes in params.yaml if the file is correct."
        )
    content = source.read(file)
    match PurePosixPath(file).suffix.lower():
        case ".parquet":
            needed = {_normalize(column) for column in columns}
            return read_parquet(content, file, lambda name: _normalize(name) in needed)
        case ".xlsx":
            return read_excel(content, file)
        case _:
            return _read_text(content, file, columns)


def _read_first_rows(
    rows: _Rows, file: str, columns: Sequence[str]
) -> tuple[int, list[str], list[tuple[int, Sequence[str]]]]:
    """Returns the line of the header, the names in it, and the first rows below it."""
    first = next(rows, None)
    if first and first[1] and _is_preamble(first[1], columns):
        first = next(rows, None)
    if first is None or not first[1]:
        raise AnnotationsError(
            f"{file}: empty. Expected a header and rows.{describe_sheet(file)} Add rows."
        )
    line, header = first[0], [_normalize(name) for name in first[1]]
    if any(map(is_image_name, header)):
        raise AnnotationsError(
            f"{file}:{line}: expected a header with the names of the columns. Received: the name "
            f"of an image, in {_shorten(header)}. Add a header above this line."
        )
    below = list(islice(rows, _PEEKED_ROWS))
    if not below:
        raise AnnotationsError(f"{file}: no rows below the header.{describe_sheet(file)} Add rows.")
    # A row that ends with a delimiter has no first column without a name.
    unnamed = [cells for _, cells in below if _is_first_unnamed(header, cells) and cells[-1]]
    return line, ["", *header] if 2 * len(unnamed) > max(len(below), 2) else header, below


def _is_first_unnamed(header: Sequence[str], cells: Sequence[str]) -> bool:
    """Whether the header has no name for the first column, and one value less than a row."""
    return "" not in header and len(cells) == len(header) + 1


def _collect(rows: _Rows, file: str, columns: Sequence[str], named_in: str) -> Table:
    """Collects the cells of some columns, and finds malformed rows."""
    line, header, below = _read_first_rows(rows, file, columns)
    indices = _find_columns(line, header, below, file, columns, named_in)
    table = Table([], {column: [] for column in columns}, {})
    for line, cells in chain(below, rows):
        if len(cells) < len(header) or any(map(str.strip, cells[len(header) :])):
            table.malformed[len(table.lines)] = f"{len(cells)} values; the header has {len(header)}"
            cells = [*cells, *repeat("", len(header))]
        table.lines.append(line)
        for column, index in indices.items():
            table.columns[column].append(sys.intern(_clean(cells[index])))
    _refuse_formulas(table, file)
    return table


def _refuse_formulas(table: Table, file: str) -> None:
    for column, cells in table.columns.items():
        if FORMULA in cells:
            raise AnnotationsError(
                f"{file}:{table.lines[cells.index(FORMULA)]}: column {column!r} has a formula "
                "without a value. Open the file in a spreadsheet program, and save it."
            )


def _find_columns(
    line: int,
    header: Sequence[str],
    below: Sequence[tuple[int, Sequence[str]]],
    file: str,
    columns: Sequence[str],
    named_in: str,
) -> dict[str, int]:
    """Returns the index of each column."""
    try:
        return {column: _find_column(column, header, columns) for column in columns}
    except AnnotationsError as error:
        hint = _explain_header(header, below, file, columns)
        raise AnnotationsError(
            f"{file}:{line}: {error}{hint} Correct the header or {named_in}."
        ) from None


def _explain_header(
    header: Sequence[str],
    below: Iterable[tuple[int, Sequence[str]]],
    file: str,
    columns: Iterable[str],
) -> str:
    """Says what may be wrong with a header that lacks columns."""
    if len(header) == 1:
        return describe_single_column(file, header[0])
    needed = set(map(_normalize, columns))
    for line, cells in below:
        if needed.issubset(map(_normalize, cells)):
            return f" Line {line} has these names: delete the lines above it."
    unnamed = " The column without a name is ''." if "" in header else ""
    return unnamed + describe_sheet(file)


def _is_preamble(cells: Sequence[str], columns: Sequence[str]) -> bool:
    """Whether a line above the header is the number of rows, or `sep=;` as in files for Excel."""
    first = cells[0].strip(' "')
    is_count = len(cells) == 1 and first.isdecimal() and first not in columns
    return is_count or (first.startswith("sep=") and not any(cells[1:]))


def _normalize(name: str) -> str:
    """Normalizes the name of a column.

    Systems write accents differently, and cells of spreadsheets contain line breaks.
    """
    return unicodedata.normalize("NFC", " ".join(strip_invisible(name).split()))


def _clean(cell: str) -> str:
    """Removes surrounding whitespace, and normalizes line breaks to the form that pandas keeps."""
    return strip_invisible(cell).replace("\r\n", "\n").replace("\r", "\n")


def _find_column(column: str, header: Sequence[str], columns: Sequence[str]) -> int:
    """Returns the index of a column.

    Raises:
        AnnotationsError: If it does not appear once; without the place and the advice.
    """
    name = _normalize(column)
    if header.count(name) == 1:
        return header.index(name)
    received = f"Received: {_shorten(header)}."
    if name in header:
        times = header.count(name)
        raise AnnotationsError(f"column {column!r} appears {times} times. {received}")
    hint = suggest(name, header)
    expected = ", ".join(map(_show, columns))
    raise AnnotationsError(f"no column {column!r}.{hint} Expected columns: {expected}. {received}")


def _shorten(header: Sequence[str]) -> str:
    """Lists the names in a header, for a message."""
    return one_line(", ".join(map(_show, header)), _MAX_HEADER_LENGTH)


def _show(name: str) -> str:
    return name or "''"


def _read_text(content: bytes, file: str, columns: Sequence[str]) -> _Rows:
    text = _decode(content, file)
    if refused := refuse_text(text, file):
        raise refused
    delimiter = _find_delimiter(text, columns)
    # Not StringIO: it uses four bytes per character.
    lines: Iterator[str] = io.TextIOWrapper(io.BytesIO(text.encode()), "utf-8", newline="")
    if delimiter == " ":
        lines = map(_collapse_blanks, lines)
    reader = csv.reader(lines, delimiter=delimiter, skipinitialspace=True, strict=True)
    return _read_csv(reader, file)


def _decode(content: bytes, file: str) -> str:
    marks = (name for mark, name in _BYTE_ORDER_MARKS.items() if content.startswith(mark))
    encoding = next(marks, "utf-8")
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise refuse_binary(content, file) or AnnotationsError(
            f"{file}:{line}: not {encoding.upper()} text. Expected UTF-8, or UTF-16 "
            "with a byte order mark. Save the file as UTF-8."
        ) from None
    if "\0" in text:
        line = text.partition("\0")[0].count("\n") + 1
        is_wide = text.count("\0") > len(text) / 4  # UTF-16 and UTF-32
        advice = "Save the file as UTF-8" if is_wide else "Delete these characters"
        raise refuse_binary(content, file) or AnnotationsError(
            f"{file}:{line}: contains a null character. Expected UTF-8 text, or UTF-16 "
            f"with a byte order mark. {advice}."
        )
    # Some programs write a second byte order mark, or Ctrl-Z as the end of the file.
    return text.lstrip("\ufeff").rstrip("\x1a")


def _find_delimiter(text: str, columns: Sequence[str]) -> str:
    """Returns the delimiter that gives most of the needed columns.

    If the first line has none of them, the lines below it decide, so that a message can name the
    line of the header. If no line has them, it returns a delimiter that gives the header and the
    next line as many values; a blank only if no other does. Of these, it returns the one that gives
    most.
    """
    lines = [match[0] for match in islice(re.finditer(r"[^\r\n]+", text), _PEEKED_ROWS)]
    start = 1 if lines and _is_preamble(lines[:1], columns) else 0
    header, row = [*lines[start:], "", ""][:2]
    needed = {_normalize(column) for column in columns}
    for line in lines[start:]:
        names = {delimiter: _split_line(line, delimiter) for delimiter in _DELIMITERS}
        best = max(names, key=lambda delimiter: len(needed.intersection(names[delimiter])))
        if not needed.isdisjoint(names[best]):
            return best
        needed.discard("")  # an empty cell of a row is no name
    return max(_DELIMITERS, key=lambda delimiter: _rate_delimiter(delimiter, header, row))


def _rate_delimiter(delimiter: str, header: str, row: str) -> tuple[bool, bool, int]:
    names, cells = _split_line(header, delimiter), _split_line(row, delimiter)
    is_regular = len(names) > 1 and (len(names) == len(cells) or _is_first_unnamed(names, cells))
    return is_regular and delimiter != " ", is_regular, len(names)


def _split_line(line: str, delimiter: str) -> list[str]:
    line = _collapse_blanks(line) if delimiter == " " else line
    reader = csv.reader([line], delimiter=delimiter, skipinitialspace=True)
    try:
        return [_normalize(name) for name in next(reader, [])]
    except csv.Error:  # reported by `_read_csv`
        return []


def _collapse_blanks(line: str) -> str:
    """Replaces runs of blanks between values by one blank."""
    return re.sub(r"[ \t]+", " ", line.strip()) + "\n"


def _read_csv(reader: "_csv.Reader", file: str) -> _Rows:
    """Yields the rows that are not blank."""
    line = 1
    try:
        for cells in reader:
            if any(map(str.strip, cells)):
                yield line, cells
            line = reader.line_num + 1
    except csv.Error as error:
        raise AnnotationsError(
            f"{file}:{line}: not a CSV file: {error}. {_advise(error)}"
        ) from None


def _advise(error: csv.Error) -> str:
    if "expected after" in str(error):
        return (
            "In the row that begins on this line, write a quotation mark inside a value twice, as "
            'in "a ""good"" one", or close the quotation marks around a value.'
        )
    return "Look for an unclosed quotation mark in the row that begins on this line."
