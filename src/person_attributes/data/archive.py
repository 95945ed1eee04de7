"""Where a user's files come from: a folder or a `.zip`, read in place and never written."""

import lzma
import re
import stat
import struct
import zipfile
import zlib
from collections import Counter
from pathlib import Path, PurePosixPath
from typing import Any, Protocol

from person_attributes.config import LimitsParams
from person_attributes.errors import SourceError

_BROKEN_ARCHIVE = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    EOFError,
    NotImplementedError,  # a way of packing that Python lacks
    OSError,
    OverflowError,
    RuntimeError,
    ValueError,
)
"""What `zipfile` raises, depending on where the bytes are wrong."""

_ENCRYPTED = 0x1
"""The bit of a member's flags that says so."""

_DRIVE = re.compile(r"^[A-Za-z]:")


class Source(Protocol):
    """A read-only collection of named files; it can be sent to another process."""

    def __contains__(self, name: object) -> bool:
        """Whether there is a file of that name."""

    def size(self, name: str) -> int:
        """Returns the number of bytes of a file.

        Raises:
            SourceError: If there is none.
        """

    def read(self, name: str) -> bytes:
        """Returns the bytes of a file.

        Raises:
            SourceError: If they cannot be read.
        """


class FolderSource:
    """The files below a folder; links that lead out of it are not followed."""

    def __init__(self, root: Path) -> None:
        self._root = root.resolve()

    def __contains__(self, name: object) -> bool:
        try:
            path = (self._root / str(name)).resolve()
            return path.is_relative_to(self._root) and path.is_file()
        except (OSError, ValueError, RuntimeError):  # too long, a null byte, a circle of links
            return False

    def size(self, name: str) -> int:
        try:
            return (self._root / name).stat().st_size
        except OSError as error:
            raise SourceError(f"{name}: cannot be read: {error.strerror}") from None

    def read(self, name: str) -> bytes:
        try:
            return (self._root / name).read_bytes()
        except OSError as error:
            raise SourceError(f"{name}: cannot be read: {error.strerror}") from None


class ZipSource:
    """The members of a zip archive, below its one top folder where it has one.

    They are read in memory, one at a time: nothing is unpacked onto the disk.
    """

    def __init__(self, path: Path, limits: LimitsParams) -> None:
        """Opens the archive and checks the list of its members.

        Raises:
            SourceError: If it is no archive, or if it names, links, encrypts or claims what it
                should not; make it anew, or raise the limit.
        """
        self._path, self._limits = path, limits
        try:
            self._archive = zipfile.ZipFile(path)
        except _BROKEN_ARCHIVE as error:
            raise SourceError(
                f"{path}: not a readable zip archive: {error}. Make the archive anew."
            ) from None
        members = [info for info in self._archive.infolist() if not _is_ignored(info)]
        _check_members(path, members, limits)
        names = [PurePosixPath(info.filename) for info in members]
        has_top = len(names) > 1 and len({name.parts[0] for name in names}) == 1
        start = 1 if has_top and all(len(name.parts) > 1 for name in names) else 0
        self._members = {
            "/".join(name.parts[start:]): info for name, info in zip(names, members, strict=True)
        }

    def names(self) -> list[str]:
        """Lists the members."""
        return list(self._members)

    def __reduce__(self) -> tuple[Any, ...]:
        return ZipSource, (self._path, self._limits)

    def __contains__(self, name: object) -> bool:
        return _normalize(str(name)) in self._members

    def size(self, name: str) -> int:
        return self._members[_normalize(name)].file_size

    def read(self, name: str) -> bytes:
        info = self._members[_normalize(name)]
        try:
            with self._archive.open(info) as file:
                # Bounded: where the archive claims too little, no more than that is unpacked.
                return file.read(info.file_size + 1)
        except _BROKEN_ARCHIVE as error:
            raise SourceError(f"{name}: cannot be unpacked: {error}") from None


def _normalize(name: str) -> str:
    """Takes out what means nothing in a path: `a//./b` is `a/b`."""
    return "/".join(PurePosixPath(name).parts)


def _is_ignored(info: zipfile.ZipInfo) -> bool:
    """Leaves out folders and what macOS puts beside the files."""
    parts = PurePosixPath(info.filename).parts
    is_folder = info.filename.endswith("/")  # `is_dir` fails on a member without a name
    return is_folder or not parts or parts[0] == "__MACOSX" or parts[-1] == ".DS_Store"


def _check_members(path: Path, members: list[zipfile.ZipInfo], limits: LimitsParams) -> None:
    if len(members) > limits.members:
        raise SourceError(
            f"{path}: {len(members)} members. Expected at most {limits.members}. "
            "Raise data.limits.members in params.yaml if that is right."
        )
    gigabytes = sum(info.file_size for info in members) / 1e9
    if gigabytes > limits.unpacked_gigabytes:
        raise SourceError(
            f"{path}: {gigabytes:.1f} GB when unpacked. Expected at most "
            f"{limits.unpacked_gigabytes}. "
            "Raise data.limits.unpacked_gigabytes in params.yaml if that is right."
        )
    counts = Counter(_normalize(info.filename) for info in members)
    for info in members:
        name = _normalize(info.filename)
        if fault := _find_fault(info) or ("is there twice" if counts[name] > 1 else ""):
            raise SourceError(f"{path}: member {name!r} {fault}. Make the archive anew without it.")


def _find_fault(info: zipfile.ZipInfo) -> str:
    """Says what is wrong with a member, or nothing."""
    if info.filename.startswith(("/", "\\")) or _DRIVE.match(info.filename):
        return "has an absolute path"
    if ".." in re.split(r"[/\\]", info.filename):
        return "leads out of the archive by '..'"
    if stat.S_ISLNK(info.external_attr >> 16):
        return "is a link"
    if info.flag_bits & _ENCRYPTED:
        return "is encrypted"
    return ""


def open_source(path: Path, limits: LimitsParams) -> Source:
    """Opens a folder or a `.zip`.

    Args:
        path: A folder, or a file that ends in `.zip`.
        limits: How many members an archive may have, and how large they may be.

    Returns:
        The files in it, named by their path relative to the folder or the archive's top folder.

    Raises:
        SourceError: If there is nothing at that path, or it is neither; correct `data.source`. If
            it is an archive that cannot be trusted; the message names the member.
    """
    if path.is_dir():
        return FolderSource(path)
    if path.is_file() and path.suffix.lower() == ".zip":
        return ZipSource(path, limits)
    received = "a file of another kind" if path.exists() else "nothing there"
    raise SourceError(
        f"{path}: expected a folder or a .zip file. Received: {received}. "
        "Correct data.source in params.yaml."
    )
