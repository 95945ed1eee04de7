"""Where a user's files come from: a folder or a `.zip`, read in place and never written."""

import zipfile
from pathlib import Path, PurePosixPath
from typing import Protocol

from person_attributes.errors import SourceError


class Source(Protocol):
    """A read-only collection of named files."""

    def __contains__(self, name: object) -> bool:
        """Whether there is a file of that name."""

    def read(self, name: str) -> bytes:
        """Returns the bytes of a file."""


class FolderSource:
    """The files below a folder."""

    def __init__(self, root: Path) -> None:
        self._root = root.resolve()

    def __contains__(self, name: object) -> bool:
        path = (self._root / str(name)).resolve()
        return path.is_relative_to(self._root) and path.is_file()

    def read(self, name: str) -> bytes:
        return (self._root / name).read_bytes()


class ZipSource:
    """The members of a zip archive, below its one top folder where it has one."""

    def __init__(self, path: Path) -> None:
        try:
            self._archive = zipfile.ZipFile(path)
        except (zipfile.BadZipFile, OSError) as error:
            raise SourceError(
                f"{path}: not a readable zip archive: {error}. Make the archive anew."
            ) from None
        files = [info.filename for info in self._archive.infolist() if not info.is_dir()]
        tops = {PurePosixPath(name).parts[0] for name in files if PurePosixPath(name).parts}
        self._prefix = f"{tops.pop()}/" if len(tops) == 1 and len(files) > 1 else ""
        self._members = set(files)

    def __contains__(self, name: object) -> bool:
        return f"{self._prefix}{name}" in self._members

    def read(self, name: str) -> bytes:
        return self._archive.read(f"{self._prefix}{name}")


def open_source(path: Path) -> Source:
    """Opens a folder or a `.zip`.

    Args:
        path: A folder, or a file that ends in `.zip`.

    Returns:
        The files in it, named by their path relative to the folder or the archive's top folder.

    Raises:
        SourceError: If there is nothing at that path, or it is neither; correct `data.source`.
    """
    if path.is_dir():
        return FolderSource(path)
    if path.is_file() and path.suffix.lower() == ".zip":
        return ZipSource(path)
    received = "a file of another kind" if path.exists() else "nothing there"
    raise SourceError(
        f"{path}: expected a folder or a .zip file. Received: {received}. "
        "Correct data.source in params.yaml."
    )
