"""Read-only access to the user's files in a folder."""

import functools
import os
import re
from pathlib import Path

from person_attributes.errors import SourceError

_SURROGATES = re.compile("[\ud800-\udfff]")
"""How Python reads the names of files that are not UTF-8; no table can contain such a name."""


class FolderSource:
    """The files in a folder and its subfolders.

    Links to files outside are ignored, except those that DVC makes into its cache.
    """

    def __init__(self, root: Path) -> None:
        self._root = root.resolve()

    def __contains__(self, name: object) -> bool:
        try:
            path = (self._root / str(name)).resolve()
            is_inside = path.is_relative_to(self._root) or self._is_from_cache(str(name), path)
            return is_inside and path.is_file()
        except (OSError, ValueError, RuntimeError):  # too long, a null byte, circular links
            return False

    def names(self) -> list[str]:
        names = []
        for folder, _, files in os.walk(self._root):
            prefix = Path(folder).relative_to(self._root)
            names += [(prefix / file).as_posix() for file in files]
        return [name for name in names if not _SURROGATES.search(name)]

    def describe_link(self, name: str) -> str:
        try:
            path = (self._root / name).resolve()
            if name in self or not self._is_name_inside(name):
                return ""
            if self._is_from_cache(name, path):
                return f"a link to {path}, which is missing. Run dvc pull"
            if path.is_relative_to(self._root):
                is_link = (self._root / name).is_symlink()
                return f"a link to {path}, which is not a file. Correct the link" if is_link else ""
        except (OSError, ValueError, RuntimeError):
            return ""
        return (
            f"a link that leads out of the source, to {path}. Copy the file into the source, or "
            "set data.source to a folder that contains both"
        )

    def _is_from_cache(self, name: str, path: Path) -> bool:
        """Whether a name in the folder is a link into DVC's cache, as with its type symlink."""
        cache = _find_dvc_cache(Path.cwd()) if self._is_name_inside(name) else None
        return cache is not None and path.is_relative_to(cache)

    def _is_name_inside(self, name: str) -> bool:
        """Whether a path is in the folder before links are followed."""
        return Path(os.path.normpath(self._root / name)).is_relative_to(self._root)

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


@functools.cache
def _find_dvc_cache(folder: Path) -> Path | None:
    """Returns the cache of the DVC repository in a folder; None if there is none."""
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    try:
        with Repo(str(folder)) as repo:
            return Path(repo.cache.local_cache_dir).resolve()
    except DvcException:
        return None
