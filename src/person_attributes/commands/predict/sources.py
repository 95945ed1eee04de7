"""Finds the images to label."""

import glob
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from person_attributes.config import LimitsParams
from person_attributes.data.archive import ZipSource
from person_attributes.data.folder import FolderSource
from person_attributes.data.image_list import find_images, read_image_list
from person_attributes.data.image_names import IMAGE_SUFFIXES, is_image_name
from person_attributes.data.source import Source
from person_attributes.data.tables import TABLE_SUFFIXES
from person_attributes.errors import SourceError


@dataclass(frozen=True)
class Images:
    """The images to label.

    Attributes:
        source: Their files.
        names: The name of each image in the output: as listed, or its path.
        renamed: `{listed name: name in the source}` of images whose names differ.
    """

    source: Source
    names: list[str]
    renamed: Mapping[str, str]

    def find_file(self, name: str) -> str:
        """Returns the name of an image in the source."""
        return self.renamed.get(name, name)


def open_images(images: str, column: str, limits: LimitsParams) -> Images:
    """Finds the images.

    Raises:
        SourceError: If there are none. Correct the path.
        AnnotationsError: If a list cannot be read. Correct it.
    """
    path = Path(images)
    source: Source = FolderSource(Path.cwd())
    renamed: Mapping[str, str] = {}
    if path.is_dir():
        names = _filter(str(file) for file in path.rglob("*") if file.is_file())
    elif path.suffix.lower() == ".zip" and path.is_file():
        source = ZipSource(path, limits)
        names = _filter(source.names())
    elif path.suffix.lower() in TABLE_SUFFIXES and path.is_file():
        source, names = FolderSource(path.parent), read_image_list(path, column, limits)
        renamed = find_images(path.parent, names)
    elif path.is_file():
        names = [str(path)]
    else:
        # Unlike Path.glob, this accepts absolute patterns.
        names = _filter(glob.glob(images, recursive=True))  # noqa: PTH207
    if not names:
        raise SourceError(
            f"{images}: expected an image, a folder, a pattern, a table of paths or a .zip, with "
            f"images ({', '.join(sorted(IMAGE_SUFFIXES))}). Received: none. Correct the path."
        )
    return Images(source, names, renamed)


def identify_source(images: str) -> list[str]:
    """Identifies a source by its path and, for a file, its size and modification time."""
    path = Path(images).resolve()
    if not path.is_file():
        return [str(path)]
    status = path.stat()
    return [str(path), str(status.st_size), str(status.st_mtime_ns)]


def _filter(names: Iterable[str]) -> list[str]:
    return sorted(filter(is_image_name, names))
