"""Names the format of a file by its content."""

import codecs
import re
from typing import Literal, NamedTuple

HEAD = 4096
"""Bytes from the beginning of a file that tell most formats."""


class Format(NamedTuple):
    """A format.

    Attributes:
        name: Its name, with the article.
        kind: An archive may contain any files, and a pointer stands for a file that is elsewhere.
        advice: How to get the file from a pointer, or a table from another file; may be empty.
    """

    name: str
    kind: Literal["archive", "image", "pointer", "text", "other"] = "other"
    advice: str = ""


_SAVE_AS_EXCEL = "Save it as .xlsx."

_SIGNATURES = (
    (b"PAR1", Format("a Parquet file", advice="Rename it to .parquet.")),
    (b"\x1f\x8b", Format("a gzip archive", "archive")),
    (b"BZh", Format("a bzip2 archive", "archive")),
    (b"\xfd7zXZ\0", Format("an xz archive", "archive")),
    (b"\x28\xb5\x2f\xfd", Format("a Zstandard archive", "archive")),
    (b"7z\xbc\xaf\x27\x1c", Format("a 7-Zip archive", "archive")),
    (b"Rar!", Format("a RAR archive", "archive")),
    (b"MATLAB", Format("a MATLAB file")),
    (b"\x89HDF\r\n\x1a\n", Format("an HDF5 file")),
    (b"\x93NUMPY", Format("a NumPy array")),
    (b"SQLite format 3\0", Format("an SQLite database")),
    (b"ARROW1", Format("an Arrow file")),
    (b"FEA1", Format("a Feather file")),
    (b"Obj\x01", Format("an Avro file")),
    (b"$FL2", Format("an SPSS file")),
    (b"$FL3", Format("an SPSS file")),
    (b"<stata_dta>", Format("a Stata file")),
    (bytes(12) + b"\xc2\xea\x81\x60", Format("a SAS file")),
    (b"RDX2\n", Format("an R file")),
    (b"RDX3\n", Format("an R file")),
    (b"X\n\0\0", Format("an R file")),
    (
        b"\xd0\xcf\x11\xe0",
        Format("an encrypted Excel workbook or an .xls file", advice=_SAVE_AS_EXCEL),
    ),
    (b"%PDF", Format("a PDF file")),
    (b"\xff\xd8\xff", Format("a JPEG image", "image")),
    (b"\x89PNG\r\n\x1a\n", Format("a PNG image", "image")),
    (b"\x89PNG", Format("a damaged PNG image")),
    (b"GIF8", Format("a GIF image", "image")),
    (b"II*\0", Format("a TIFF image", "image")),
    (b"MM\0*", Format("a TIFF image", "image")),
    (b"8BPS", Format("a Photoshop image", "image")),
    (b"\0\0\1\0", Format("an icon", "image")),
    (b"\0\0\0\x0cjP  ", Format("a JPEG 2000 image", "image")),
    (b"\xff\x4f\xff\x51", Format("a JPEG 2000 image", "image")),
    (b"\0\0\0\x0cJXL ", Format("a JPEG XL image", "image")),
    (b"\xff\x0a", Format("a JPEG XL image", "image")),
)

_MEMBERS_OF_ZIP = (
    (b"xl/workbook.bin", Format("a binary Excel workbook (.xlsb)", advice=_SAVE_AS_EXCEL)),
    (b"xl/workbook", Format("an Excel workbook", advice="Rename it to .xlsx.")),
    (
        b"opendocument.spreadsheet",
        Format("an OpenDocument spreadsheet", advice=_SAVE_AS_EXCEL),
    ),
    (b".npy", Format("a NumPy archive")),
    (b"/data.pkl", Format("a PyTorch file")),
    (b"word/document", Format("a Word document")),
    (b".iwa", Format("an Apple Numbers document")),
)
"""Parts of the names of members, or of the first one's content."""

_ZIP = Format(
    "a zip archive or an Excel workbook",
    "archive",
    "Unpack it, or rename a workbook to .xlsx.",
)

_BRANDS = (
    (b"hei", Format("an HEIC image", "image")),
    (b"hev", Format("an HEIC image", "image")),
    (b"mif1", Format("an HEIC image", "image")),
    (b"avi", Format("an AVIF image", "image")),
    (b"", Format("a video")),
)
"""Beginnings of the brand of an ISO media file."""

_TEXTS = (
    (
        re.compile("version https://git-lfs"),
        Format("a pointer of Git LFS", "pointer", "Run git lfs pull."),
    ),
    (
        re.compile(r"outs:\s*- "),
        Format("a file of DVC", "pointer", "Name the file that it tracks, without .dvc."),
    ),
    (
        re.compile("/annex/objects/"),
        Format("a pointer of git-annex", "pointer", "Run git annex get."),
    ),
    (re.compile(r"\{\\rtf"), Format("an RTF document", "text")),
    (re.compile(r"ccopy_reg\n|c__builtin__\n|\([dl]p\d"), Format("a Python pickle")),
    (re.compile(r'\s*(\{\s*"|\[\s*[{\["])'), Format("JSON", "text")),
    (
        re.compile(r"\s*(<\?xml[^>]*>\s*)?<svg\b", re.IGNORECASE),
        Format("an SVG drawing", "image"),
    ),
    (
        re.compile(
            r"\s*<(!--|!doctype|\?xml|(annotation|body|div|head|html|meta|style|table)\b)",
            re.IGNORECASE,
        ),
        Format("an HTML or XML document", "text"),
    ),
    (re.compile(r"\s*@relation\s", re.IGNORECASE), Format("an ARFF file", "text")),
    (
        re.compile(
            r"(?>\s+|--[^\n]*|/\*[^\n]*)*+"  # comments
            r"((create|drop)\s+table|insert\s+into|(pragma|set)\s+\w+\s*=)",
            re.IGNORECASE,
        ),
        Format("SQL", "text"),
    ),
)
"""Formats of text, by its first characters."""

_TEXT = Format("text", "text", "Rename it to .csv.")


def identify(content: bytes) -> Format | None:
    """Identifies the format of a file.

    Args:
        content: The file, or at least its first `HEAD` bytes. The whole of a CSV file must not be
            passed: it may begin with the same bytes as a binary file.

    Returns:
        The format; None if it is unknown.
    """
    if not content:
        return Format("an empty file", advice="Create it again.")
    if content.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return next((found for part, found in _MEMBERS_OF_ZIP if part in content), _ZIP)
    for signature, found in _SIGNATURES:
        if content.startswith(signature):
            return found
    if content[:1] == b"\x80" and content[1:2] <= b"\x05" and content.endswith(b"."):
        return Format("a Python pickle")
    if content[4:8] == b"ftyp":
        return next(found for brand, found in _BRANDS if content.startswith(brand, 8))
    if content.startswith(b"RIFF"):
        is_webp = content.startswith(b"WEBP", 8)
        return Format("a WebP image", "image") if is_webp else Format("audio or video")
    if content[128:132] == b"DICM":
        return Format("a DICOM image", "image")
    if content[257:262] == b"ustar":
        return Format("a tar archive", "archive")
    text = _decode(content)
    return (identify_text(text) or _TEXT) if text else None


def identify_text(text: str) -> Format | None:
    """Identifies a format of text that is no table; None for other text."""
    return next((found for pattern, found in _TEXTS if pattern.match(text)), None)


def _decode(content: bytes) -> str:
    """Returns text whose last character may be incomplete; empty if the content is not text."""
    try:
        text = codecs.getincrementaldecoder("utf-8-sig")().decode(content)
    except UnicodeDecodeError:
        return ""
    return "" if "\0" in text else text
