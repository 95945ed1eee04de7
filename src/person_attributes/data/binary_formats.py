"""Reads tables in Parquet and Excel, and refuses other formats."""

import contextlib
import io
import itertools
import re
import warnings
import zipfile
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from person_attributes.data.file_formats import Format, identify, identify_text
from person_attributes.errors import AnnotationsError, one_line

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow

_MAX_REASON_LENGTH = 200
"""Characters of a library's reason in a message."""

_ADVICE = {
    "archive": "Unpack it, or export the table as CSV.",
    "image": "Name another file.",
}
"""How to get a table, by the kind of a format."""

_EXPORT = "Export the table as CSV."

FORMULA = "(formula without a value)"
"""Stands for a cell of a workbook whose formula was not computed."""

_MERGED = re.compile(rb"<(mergeCell) ")
_UNCOMPUTED = re.compile(
    rb'<c r="([A-Z]+\d+)"(?![^>]*t="str")[^>]*><f[^>]*>[^<]*</f>(?:<v ?/>|<v></v>)?</c>'
)
"""Cells of a sheet with a formula but no value; `str` marks an empty text."""

_CONTROL_CHARACTERS = re.compile(rb"[\x01-\x08\x0e-\x1a\x1c-\x1f]")
"""Characters that text does not contain, in any encoding of one byte or in UTF-16."""


def refuse_format(content: bytes, file: str) -> AnnotationsError | None:
    """Describes a file that is not in the format of its ending; None if its format is unknown."""
    return _refuse(file, identify(content))


def refuse_binary(content: bytes, file: str) -> AnnotationsError | None:
    """Describes content that cannot be decoded and is not text; None for text."""
    found = identify(content)
    if found is None and _CONTROL_CHARACTERS.search(content):
        found = Format("binary data in an unknown format")
    return None if found and found.kind == "text" else _refuse(file, found)


def refuse_text(text: str, file: str) -> AnnotationsError | None:
    """Describes text in a known format that is no table; None for other text."""
    return _refuse(file, identify_text(text))


def _refuse(file: str, found: Format | None) -> AnnotationsError | None:
    """Describes a file in another format than its ending says; None for that of its ending."""
    if found is None or f"to {PurePosixPath(file).suffix.lower()}." in found.advice:
        return None
    return AnnotationsError(
        f"{file}: expected a table: text (CSV), Parquet (.parquet) or Excel (.xlsx). Received: "
        f"{found.name}. {found.advice or _ADVICE.get(found.kind, _EXPORT)}"
    )


def read_parquet(
    content: bytes, file: str, is_needed: Callable[[str], bool]
) -> Iterator[tuple[int, Sequence[str]]]:
    """Yields the number and the cells of each row; the first row is the header.

    Args:
        content: The whole file.
        file: Its name, for messages.
        is_needed: Whether a column is needed. The cells of other columns, and of columns with the
            same name, are empty.

    Raises:
        AnnotationsError: If the file is not Parquet. Create it again.
    """
    import pyarrow
    import pyarrow.parquet

    try:
        parquet = pyarrow.parquet.ParquetFile(io.BytesIO(content))
        stored = parquet.schema_arrow.names
        # pandas stores an index without a name as `__index_level_0__`.
        names = [re.sub(r"^__index_level_\d+__$", "", name) for name in stored]
        needed = [
            name
            for name, known in zip(stored, names, strict=True)
            if is_needed(known) and stored.count(name) == 1
        ]
        cells = {name: _list_cells(parquet.read([name])[name]) for name in needed}
    except (pyarrow.ArrowException, OSError, ValueError, KeyError) as error:
        raise refuse_format(content, file) or AnnotationsError(
            f"{file}: not a readable Parquet file: {_shorten(error)}. Create the file again."
        ) from None
    unread = [""] * parquet.metadata.num_rows
    rows = zip(*(map(_to_text, cells.get(name, unread)) for name in stored), strict=True)
    yield 1, names
    yield from enumerate(rows, 2)


def _list_cells(column: "pyarrow.ChunkedArray") -> list[Any]:
    """Returns the values of a column; dates that Python does not support as text."""
    try:
        cells: list[Any] = column.to_pylist()
    except (OverflowError, ValueError):
        cells = column.cast("string").to_pylist()
    return cells


def read_excel(content: bytes, file: str) -> Iterator[tuple[int, Sequence[str]]]:
    """Yields the number and the cells of each row that is not empty, in the first sheet.

    A merged cell has its value in each of its rows, as a spreadsheet shows it.

    Raises:
        AnnotationsError: If the file is not an Excel workbook. Save it again.
    """
    import pandas as pd

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # openpyxl warns about styles that it cannot read
            # Merged cells are only known if the whole workbook is loaded, which needs more memory.
            merged, uncomputed = _find_in_sheets(content, _MERGED, _UNCOMPUTED)
            options = {"read_only": not merged}
            with pd.ExcelFile(io.BytesIO(content), "openpyxl", engine_kwargs=options) as workbook:
                sheet = pd.read_excel(workbook, header=None, dtype=object, na_filter=False)
                _fill_merged_cells(sheet, workbook.book.worksheets[0])
            if uncomputed:
                _mark_formulas(sheet, content, uncomputed)
    except Exception as error:  # openpyxl has no base class for its errors
        raise refuse_format(content, file) or AnnotationsError(
            f"{file}: not a readable Excel workbook: {_shorten(error)}. Save it again as .xlsx."
        ) from None
    for number, row in enumerate(sheet.itertuples(index=False), 1):
        cells = [_to_text(value) for value in row]
        if any(map(str.strip, cells)):
            yield number, cells


def _find_in_sheets(content: bytes, *patterns: re.Pattern[bytes]) -> list[set[str]]:
    """Returns what each pattern captures in the sheets of a workbook."""
    found: list[set[str]] = [set() for _ in patterns]
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        for name in archive.namelist():
            if name.startswith("xl/worksheets/"):
                sheet = archive.read(name)
                for captured, pattern in zip(found, patterns, strict=True):
                    captured.update(map(bytes.decode, pattern.findall(sheet)))
    return found


def _fill_merged_cells(sheet: "pd.DataFrame", worksheet: Any) -> None:
    """Copies the value of each merged cell into the rows below its first one."""
    for cells in getattr(worksheet, "merged_cells", ()):
        rows, column = slice(cells.min_row - 1, cells.max_row), cells.min_col - 1
        if cells.min_row <= len(sheet) and column < len(sheet.columns):
            sheet.iloc[rows, column] = sheet.iloc[rows.start, column]


def _mark_formulas(sheet: "pd.DataFrame", content: bytes, uncomputed: Collection[str]) -> None:
    """Marks cells with a formula that no program computed: they have no value."""
    import pandas as pd

    options = {"data_only": False}
    with pd.ExcelFile(io.BytesIO(content), "openpyxl", engine_kwargs=options) as workbook:
        for cell in itertools.chain.from_iterable(workbook.book.worksheets[0].iter_rows()):
            place = cell.row - 1, cell.column - 1
            is_uncomputed = cell.data_type == "f" and cell.coordinate in uncomputed
            # The same cell of another sheet may be the one that was not computed.
            if is_uncomputed and sheet.iloc[place] == "":
                sheet.iloc[place] = FORMULA


def _shorten(error: Exception) -> str:
    return one_line(error, _MAX_REASON_LENGTH).rstrip(".")


def _to_text(value: Any) -> str:
    """Converts a value to text; a missing one is empty.

    Some programs write text to Parquet without the annotation that it is text, others images.
    """
    if isinstance(value, bytes):
        return _decode(value)
    if isinstance(value, dict):
        return "(nested data)"
    is_missing = value is None or value != value
    return "" if is_missing else str(value)


def _decode(value: bytes) -> str:
    with contextlib.suppress(UnicodeDecodeError):
        if "\0" not in (text := value.decode()):
            return text
    return "(binary data)"
