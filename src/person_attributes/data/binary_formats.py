"""Reads tables in Parquet and Excel, and names other formats."""

import io
import re
import warnings
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from person_attributes.errors import AnnotationsError, one_line

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow

_MAX_REASON_LENGTH = 200
"""Characters of a library's reason in a message."""

_UNPACK = "Unpack it, or export the table as CSV."
_EXPORT = "Export the table as CSV."

_SIGNATURES = (
    (b"PAR1", "a Parquet file", "Rename it to .parquet."),
    (b"\x1f\x8b", "a gzip archive", _UNPACK),
    (b"BZh", "a bzip2 archive", _UNPACK),
    (b"\xfd7zXZ\0", "an xz archive", _UNPACK),
    (b"\x28\xb5\x2f\xfd", "a Zstandard archive", _UNPACK),
    (b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive", _UNPACK),
    (b"Rar!", "a RAR archive", _UNPACK),
    (b"MATLAB", "a MATLAB file", _EXPORT),
    (b"\x89HDF\r\n\x1a\n", "an HDF5 file", _EXPORT),
    (b"\x93NUMPY", "a NumPy array", _EXPORT),
    (b"SQLite format 3\0", "an SQLite database", _EXPORT),
    (b"ARROW1", "an Arrow file", _EXPORT),
    (b"FEA1", "a Feather file", _EXPORT),
    (b"Obj\x01", "an Avro file", _EXPORT),
    (b"$FL2", "an SPSS file", _EXPORT),
    (b"$FL3", "an SPSS file", _EXPORT),
    (b"<stata_dta>", "a Stata file", _EXPORT),
    (bytes(12) + b"\xc2\xea\x81\x60", "a SAS file", _EXPORT),
    (b"RDX2\n", "an R file", _EXPORT),
    (b"RDX3\n", "an R file", _EXPORT),
    (b"X\n\0\0", "an R file", _EXPORT),
    (b"\xd0\xcf\x11\xe0", "an encrypted Excel workbook or an .xls file", "Save it as .xlsx."),
    (b"%PDF", "a PDF file", _EXPORT),
    (b"\xff\xd8\xff", "a JPEG image", ""),
    (b"\x89PNG", "a PNG image", ""),
    (b"GIF8", "a GIF image", ""),
    (b"RIFF", "a WebP image", ""),
    (b"II*\0", "a TIFF image", ""),
    (b"MM\0*", "a TIFF image", ""),
)

_MEMBERS_OF_ZIP = (
    (b"xl/workbook.bin", "a binary Excel workbook (.xlsb)", "Save it as .xlsx."),
    (b"xl/workbook", "an Excel workbook", "Rename it to .xlsx."),
    (b"opendocument.spreadsheet", "an OpenDocument spreadsheet", "Save it as .xlsx."),
    (b".npy", "a NumPy archive", _EXPORT),
    (b"/data.pkl", "a PyTorch file", _EXPORT),
    (b"word/document", "a Word document", _EXPORT),
    (b".iwa", "an Apple Numbers document", _EXPORT),
)
"""Parts of the names of members, or of the first one's content."""

_TEXT_FORMATS = (
    (re.compile("version https://git-lfs"), "a pointer of Git LFS", "Run git lfs pull."),
    (re.compile(r"outs:\s*- "), "a file of DVC", "Name the file that it tracks, without .dvc."),
    (re.compile("/annex/objects/"), "a pointer of git-annex", "Run git annex get."),
    (re.compile(r"\{\\rtf"), "an RTF document", _EXPORT),
    (re.compile(r"ccopy_reg\n|c__builtin__\n|\([dl]p\d"), "a Python pickle", _EXPORT),
    (re.compile(r'\s*(\{\s*"|\[\s*[{\["])'), "JSON", _EXPORT),
    (
        re.compile(
            r"\s*<(!--|!doctype|\?xml|(annotation|body|div|head|html|meta|style|table)\b)",
            re.IGNORECASE,
        ),
        "an HTML or XML document",
        _EXPORT,
    ),
)
"""Formats of text that is no table, by their first characters."""

_CONTROL_CHARACTERS = re.compile(rb"[\x01-\x08\x0e-\x1a\x1c-\x1f]")
"""Characters that text does not contain, in any encoding of one byte or in UTF-16."""


def _identify(content: bytes) -> tuple[str, str]:
    """Identifies a format that is not text.

    Args:
        content: The whole file. A CSV file must not be passed: it may begin with the same bytes.

    Returns:
        The name of the format with its article, and advice; empty if the format is unknown.
    """
    if content.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        for part, name, advice in _MEMBERS_OF_ZIP:
            if part in content:
                return name, advice
        return "a zip archive or an Excel workbook", "Unpack it, or rename a workbook to .xlsx."
    for signature, name, advice in _SIGNATURES:
        if content.startswith(signature):
            return name, advice
    if content[:1] == b"\x80" and content[1:2] <= b"\x05" and content.endswith(b"."):
        return "a Python pickle", _EXPORT
    if content[257:262] == b"ustar":
        return "a tar archive", _UNPACK
    if not content:
        return "an empty file", "Create it again."
    if _is_text(content):
        return "text", "Rename it to .csv."
    return "", ""


def _is_text(content: bytes) -> bool:
    try:
        return "\0" not in content.decode()
    except UnicodeDecodeError:
        return False


def refuse_format(content: bytes, file: str) -> AnnotationsError | None:
    """Describes a file that is not in the format of its ending; None if its format is unknown."""
    received, advice = _identify(content)
    if not received or f"to {PurePosixPath(file).suffix.lower()}." in advice:
        return None
    return _refuse(file, received, advice)


def refuse_binary(content: bytes, file: str) -> AnnotationsError | None:
    """Describes content that cannot be decoded and is not text; None for text."""
    if refused := refuse_format(content, file):
        return refused
    if _CONTROL_CHARACTERS.search(content):
        return _refuse(file, "binary data in an unknown format", _EXPORT)
    return None


def refuse_text(text: str, file: str) -> AnnotationsError | None:
    """Describes text in a known format that is no table; None for other text."""
    for pattern, received, advice in _TEXT_FORMATS:
        if pattern.match(text):
            return _refuse(file, received, advice)
    return None


def _refuse(file: str, received: str, advice: str) -> AnnotationsError:
    return AnnotationsError(
        f"{file}: expected a table: text (CSV), Parquet (.parquet) or Excel (.xlsx). "
        f"Received: {received}. {advice or 'Name another file.'}"
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
            options = {"read_only": not _has_merged_cells(content)}
            with pd.ExcelFile(io.BytesIO(content), "openpyxl", engine_kwargs=options) as workbook:
                sheet = pd.read_excel(workbook, header=None, dtype=object, na_filter=False)
                _fill_merged_cells(sheet, workbook.book.worksheets[0])
    except Exception as error:  # openpyxl has no base class for its errors
        raise refuse_format(content, file) or AnnotationsError(
            f"{file}: not a readable Excel workbook: {_shorten(error)}. Save it again as .xlsx."
        ) from None
    for number, row in enumerate(sheet.itertuples(index=False), 1):
        cells = [_to_text(value) for value in row]
        if any(cells):
            yield number, cells


def _has_merged_cells(content: bytes) -> bool:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        sheets = [name for name in archive.namelist() if name.startswith("xl/worksheets/")]
        return any(b"<mergeCell " in archive.read(name) for name in sheets)


def _fill_merged_cells(sheet: "pd.DataFrame", worksheet: Any) -> None:
    """Copies the value of each merged cell into the rows below its first one."""
    for cells in getattr(worksheet, "merged_cells", ()):
        rows, column = slice(cells.min_row - 1, cells.max_row), cells.min_col - 1
        if cells.min_row <= len(sheet) and column < len(sheet.columns):
            sheet.iloc[rows, column] = sheet.iloc[rows.start, column]


def _shorten(error: Exception) -> str:
    return one_line(error, _MAX_REASON_LENGTH).rstrip(".")


def _to_text(value: Any) -> str:
    """Converts a value to text; a missing one is empty.

    Some programs write text to Parquet without the annotation that it is text, others images.
    """
    if isinstance(value, bytes):
        return value.decode() if _is_text(value) else "(binary data)"
    if isinstance(value, dict):
        return "(nested data)"
    is_missing = value is None or value != value
    return "" if is_missing else str(value)
