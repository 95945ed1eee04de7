"""Finds the images to label."""

import glob
from collections.abc import Iterable
from pathlib import Path

from person_attributes.config import LimitsParams
from person_attributes.data.archive import FolderSource, Source, ZipSource
from person_attributes.data.image_list import read_image_list
from person_attributes.data.tables import TABLE_SUFFIXES
from person_attributes.errors import SourceError

_SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".png", ".webp"})


def open_images(images: str, column: str, limits: LimitsParams) -> tuple[Source, list[str]]:
    """Opens the source of the images, and lists their names in it.

    Raises:
        SourceError: If there are none. Correct the path.
    """
    path = Path(images)
    source: Source = FolderSource(Path.cwd())
    if path.is_dir():
        names = _filter(str(file) for file in path.rglob("*") if file.is_file())
    elif path.suffix.lower() == ".zip" and path.is_file():
        archive = ZipSource(path, limits)
        source, names = archive, _filter(archive.names())
    elif path.suffix.lower() in TABLE_SUFFIXES and path.is_file():
        source, names = FolderSource(path.parent), read_image_list(path, column, limits)
    elif path.is_file():
        names = [str(path)]
    else:
        # Unlike Path.glob, this accepts absolute patterns.
        names = _filter(glob.glob(images, recursive=True))  # noqa: PTH207
    if not names:
        raise SourceError(
            f"{images}: expected an image, a folder, a pattern, a list of images or a "
            f".zip, with images ({', '.join(sorted(_SUFFIXES))}). Received: none. Correct the path."
        )
    return source, names


def identify_source(images: str) -> list[str]:
    """Identifies a source by its path and, for a file, its size and modification time."""
    path = Path(images).resolve()
    if not path.is_file():
        return [str(path)]
    status = path.stat()
    return [str(path), str(status.st_size), str(status.st_mtime_ns)]


def _filter(names: Iterable[str]) -> list[str]:
    return sorted(name for name in names if Path(name).suffix.lower() in _SUFFIXES)
