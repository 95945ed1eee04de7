"""Read-only access to the members of a `.zip` archive."""

import contextlib
import lzma
import re
import stat
import struct
import unicodedata
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from person_attributes.config import LimitsParams
from person_attributes.data.file_formats import HEAD, identify
from person_attributes.errors import SourceError

_BROKEN_ARCHIVE = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    EOFError,
    NotImplementedError,  # a compression method that Python does not support
    OSError,
    OverflowError,
    RuntimeError,
    ValueError,
)
"""All errors that `zipfile` raises on broken archives."""

_ENCRYPTED = 0x1
"""Bit of a member's flags."""

_UTF8 = 0x800
"""Bit of a member's flags: its name is UTF-8, and not code page 437."""

_CODE_PAGES = (
    *("cp932", "gb18030", "cp950", "cp949"),  # Japanese, Chinese and Korean
    *("cp1252", "cp850", "cp1250", "cp852", "cp1251", "cp866"),  # European
    *("cp1253", "cp737", "cp1254", "cp857", "cp1255", "cp862", "cp1256", "cp720"),
    *("cp874", "cp1258"),  # Thai and Vietnamese
)
"""Encodings of names in archives that programs on Windows write, beside code page 437."""

_DRIVE = re.compile(r"^[A-Za-z]:")


class ZipSource:
    """The members of a zip archive; a single top folder is removed from their names.

    A name with that folder is accepted, too. So is a name that the archive has in an old code page.

    Members are decompressed in memory, one at a time. Nothing is written to the disk.
    """

    def __init__(self, path: Path, limits: LimitsParams) -> None:
        """Opens the archive and checks the list of its members.

        Raises:
            SourceError: If it is not a zip archive, if a member is encrypted, a link, a duplicate
                or outside the archive, or if a limit is exceeded. Create the archive again, or
                raise the limit.
        """
        self._path, self._limits = path, limits
        try:
            self._archive = zipfile.ZipFile(path)
        except _BROKEN_ARCHIVE as error:
            raise SourceError(f"{path}: {_describe_broken(path, error)}") from None
        members = [info for info in self._archive.infolist() if not _is_ignored(info)]
        _check_members(path, members, limits)
        names = [PurePosixPath(_name(info)) for info in members]
        has_top = len(names) > 1 and len({name.parts[0] for name in names}) == 1
        start = 1 if has_top and all(len(name.parts) > 1 for name in names) else 0
        self._top = f"{names[0].parts[0]}/" if start else ""
        self._has_code_page = any(map(_has_code_page, members))
        self._members = {
            "/".join(name.parts[start:]): info for name, info in zip(names, members, strict=True)
        }

    def names(self) -> list[str]:
        return list(self._members)

    def __reduce__(self) -> tuple[Any, ...]:
        return ZipSource, (self._path, self._limits)

    def __contains__(self, name: object) -> bool:
        return self._find(str(name)) in self._members

    def describe_link(self, name: str) -> str:
        return ""  # an archive with links is refused

    def size(self, name: str) -> int:
        return self._members[self._find(name)].file_size

    def read(self, name: str) -> bytes:
        info = self._members[self._find(name)]
        try:
            with self._archive.open(info) as file:
                # Bounded, because a malicious archive may declare too small a size.
                return file.read(info.file_size + 1)
        except _BROKEN_ARCHIVE as error:
            raise SourceError(
                f"{name}: cannot be decompressed: {error}. Create the archive again"
            ) from None

    def _find(self, name: str) -> str:
        """Returns the name of a member, which may be given with the top folder."""
        name = _normalize(name)
        spellings = (name, *_spell_in_code_pages(name)) if self._has_code_page else (name,)
        for spelling in spellings:
            for member in (spelling, spelling.removeprefix(self._top)):
                if member in self._members:
                    return member
        return name


def _spell_in_code_pages(name: str) -> Iterator[str]:
    """Yields a name as `_name` reads it if the archive has it in one of the code pages."""
    if not name.isascii():
        for code_page in _CODE_PAGES:
            with contextlib.suppress(UnicodeError):
                encoded = unicodedata.normalize("NFC", name).encode(code_page)
                yield _normalize(encoded.decode("cp437").replace("\\", "/"))


def _has_code_page(info: zipfile.ZipInfo) -> bool:
    """Whether the name of a member is in an unknown code page."""
    return not (info.flag_bits & _UTF8 or info.filename.isascii())


def _normalize(name: str) -> str:
    """Normalizes a path: `a//./b` becomes `a/b`."""
    return "/".join(PurePosixPath(name).parts)


def _name(info: zipfile.ZipInfo) -> str:
    """Returns the name of a member: UTF-8 even without its flag, and with slashes.

    macOS does not set the flag, and some programs on Windows write backslashes.
    """
    name = info.filename
    if not info.flag_bits & _UTF8:
        with contextlib.suppress(UnicodeError):
            name = name.encode("cp437").decode("utf-8")
    return name.replace("\\", "/")


def _is_ignored(info: zipfile.ZipInfo) -> bool:
    """Whether a member is a folder or metadata of macOS."""
    name = _name(info)
    parts = PurePosixPath(name).parts
    is_folder = name.endswith("/")  # `is_dir` fails if the name is empty
    return is_folder or not parts or parts[0] == "__MACOSX" or parts[-1] == ".DS_Store"


def _describe_broken(path: Path, error: Exception) -> str:
    """Says why a file cannot be read as a zip archive, with advice."""
    head = b""
    with contextlib.suppress(OSError), path.open("rb") as file:
        head = file.read(HEAD)
    if head.startswith(b"PK\3\4") and not zipfile.is_zipfile(path):
        return (
            "the end of the archive is missing. Copy or download it again, or join its parts if it "
            "was split."
        )
    found = None if head.startswith(b"PK") else identify(head)
    if found is None:
        return f"not a readable zip archive: {error}. Create the archive again."
    if found.kind == "pointer":
        advice = found.advice
    elif found.kind == "archive":
        advice = "Unpack it, and name its folder."
    else:
        advice = "Copy or download the archive again, or name another file."
    return f"expected a zip archive. Received: {found.name}. {advice}"


def _check_members(path: Path, members: list[zipfile.ZipInfo], limits: LimitsParams) -> None:
    if len(members) > limits.members:
        raise SourceError(
            f"{path}: {len(members)} members. Expected at most {limits.members}. "
            "Raise data.limits.members in params.yaml if the archive is correct."
        )
    gigabytes = sum(info.file_size for info in members) / 1e9
    if gigabytes > limits.unpacked_gigabytes:
        raise SourceError(
            f"{path}: {gigabytes:.1f} GB when decompressed. Expected at most "
            f"{limits.unpacked_gigabytes}. "
            "Raise data.limits.unpacked_gigabytes in params.yaml if the archive is correct."
        )
    if any(info.header_offset < 0 for info in members):
        raise SourceError(
            f"{path}: the beginning of the archive is missing. Join its parts if it was split, or "
            "copy or download it again."
        )
    counts = Counter(_normalize(_name(info)) for info in members)
    for info in members:
        name = _normalize(_name(info))
        if fault := _find_fault(info) or ("appears twice" if counts[name] > 1 else ""):
            without = "a password" if info.flag_bits & _ENCRYPTED else "it"
            raise SourceError(
                f"{path}: member {name!r} {fault}. Create the archive again without {without}."
            )


def _find_fault(info: zipfile.ZipInfo) -> str:
    """Describes what is wrong with a member; empty if nothing is."""
    if info.filename.startswith(("/", "\\")) or _DRIVE.match(info.filename):
        return "has an absolute path"
    if ".." in re.split(r"[/\\]", info.filename):
        return "is outside the archive because of '..'"
    if stat.S_ISLNK(info.external_attr >> 16):
        return "is a link"
    if info.flag_bits & _ENCRYPTED:
        return "is encrypted"
    return ""
