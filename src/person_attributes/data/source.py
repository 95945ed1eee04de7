"""Opens the user's files in a folder or a `.zip` archive, for reading only."""

import re
import unicodedata
from pathlib import Path
from typing import Protocol

from person_attributes.config import LimitsParams
from person_attributes.data.archive import ZipSource
from person_attributes.data.folder import FolderSource
from person_attributes.errors import SourceError, suggest

_PACKED = frozenset({".7z", ".bz2", ".gz", ".rar", ".tar", ".tgz", ".xz", ".zst"})
"""Endings of archives in other formats."""

_PART = re.compile(r"\.(\d{3}|[rz]\d\d)$", re.IGNORECASE)
"""Endings of the parts of an archive."""

_ELSEWHERE = (
    (re.compile(r"[A-Za-z][\w+.-]+:"), "a URL. Download the data."),
    (re.compile(r"[A-Za-z]:(\\.*)?"), "a path of Windows. Write the path on this machine."),
    (re.compile("~"), "a path with ~. Write the whole path."),
)
"""Parts of paths that do not name a file on this machine, with advice."""


class Source(Protocol):
    """A read-only collection of named files; it can be pickled for another process."""

    def __contains__(self, name: object) -> bool:
        """Whether a file with this name exists."""

    def names(self) -> list[str]:
        """Lists the names of all files."""

    def describe_link(self, name: str) -> str:
        """Describes a link that cannot be followed, with advice; empty for other names."""

    def size(self, name: str) -> int:
        """Returns the number of bytes of a file.

        Raises:
            SourceError: If it does not exist.
        """

    def read(self, name: str) -> bytes:
        """Returns the bytes of a file.

        Raises:
            SourceError: If it cannot be read.
        """


def open_source(path: Path, limits: LimitsParams) -> Source:
    """Opens a folder or a `.zip`.

    Args:
        path: A folder, or a file that ends in `.zip`.
        limits: Limits on the number and the size of an archive's members.

    Returns:
        The files, named by their path relative to the folder or to the archive's top folder.

    Raises:
        SourceError: If the path does not exist or is neither a folder nor a `.zip`; correct
            `data.source`. Also if the archive is unsafe; the message names the member.
    """
    if path.is_dir():
        return FolderSource(path)
    if path.is_file() and path.suffix.lower() == ".zip":
        return ZipSource(path, limits)
    raise SourceError(
        f"{path}: expected a folder or a .zip file. Received: {describe_other(path)} "
        "Correct data.source in params.yaml."
    )


def describe_other(path: Path) -> str:
    """Describes a path that is neither a folder nor a `.zip`, with advice, by its ending."""
    if not path.exists():
        return _describe_missing(path)
    if path.suffix.lower() in _PACKED:
        return f"an archive that ends in {path.suffix}. Unpack it."
    if _PART.search(path.name):
        return "a part of an archive that was split. Join its parts, or unpack them."
    return "another type of file."


def _describe_missing(path: Path) -> str:
    """Describes a path that does not exist, with advice or a similar name in its folder."""
    for pattern, received in _ELSEWHERE:
        if any(map(pattern.fullmatch, path.parts)):
            return received
    if path.is_symlink():
        return f"a link to {path.readlink()}, which does not exist."
    names = [file.name for file in path.parent.iterdir()] if path.parent.is_dir() else []
    composed = {unicodedata.normalize("NFC", name) for name in names}
    if unicodedata.normalize("NFC", path.name) in composed:
        return "no such path. Its folder has a name that differs in its Unicode form only."
    return f"no such path.{suggest(path.name, names)}"
