"""Corrected photographs: image files, and a table of their right classes that `ingest` reads."""

import csv
import hashlib
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from person_attributes.config import DataParams, HeadParams
from person_attributes.data.class_names import name_classes
from person_attributes.data.images import decode_image
from person_attributes.data.metadata import find_format
from person_attributes.errors import AnnotationsError, ParamsError
from person_attributes.files import writing

TABLE = "corrections.csv"
_IMAGES = "images"
_SUFFIXES = {"JPEG": ".jpg", "PNG": ".png", "WebP": ".webp", "BMP": ".bmp"}


class Corrections:
    """The corrections in a folder. Each photograph has one row; unknown classes stay empty.

    The table has the columns of `params.yaml`, so the folder is a source for `ingest`. The name of
    an image is the digest of its file. A head with `bins` whose classes are numbers cannot be
    corrected: `ingest` would put its class into a bin.
    """

    def __init__(self, folder: Path, data: DataParams, heads: Mapping[str, HeadParams]) -> None:
        """Opens the folder, and creates it if it does not exist.

        Args:
            folder: The folder.
            data: The columns of the table besides the labels.
            heads: The heads and their classes.

        Raises:
            AnnotationsError: If the folder has another table. Correct it, or name another folder.
            ParamsError: If the column of images is also another one. Rename it.
        """
        labels = [head.column for head in heads.values()]
        self._columns = [data.image_column, *data.keep_columns, *labels]
        if self._columns.count(data.image_column) > 1:  # possible with data.image_path
            raise ParamsError(
                f"data.image_column: {data.image_column!r} is also the name of another column. "
                "Corrections need a column of images. Name another one in params.yaml."
            )
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._heads = {name: head for name, head in heads.items() if _keeps_classes(head)}
        self._image_column, self._max_megapixels = data.image_column, data.limits.image_megapixels
        self._lock = threading.Lock()
        self._read_rows()

    def describe(self) -> dict[str, Any]:
        """Returns the folder, the number of kept photographs, and the classes of each head."""
        return {
            "folder": str(self._folder),
            "images": len(self._read_rows()),
            "classes": {name: list(head.classes) for name, head in self._heads.items()},
        }

    def accepts(self, head: str, label: str) -> bool:
        """Returns whether a head has a class; the empty class stands for none."""
        return head in self._heads and label in ("", *self._heads[head].classes)

    def read(self, content: bytes) -> dict[str, str]:
        """Returns the kept classes of a photograph, `{head: class}`."""
        for name, row in self._read_rows().items():
            if Path(name).stem == _digest(content):
                return self._get_labels(row)
        return {}

    def keep(self, content: bytes, head: str, label: str) -> dict[str, str]:
        """Keeps a photograph and the right class of one head.

        Args:
            content: The bytes of an image file.
            head: A head.
            label: Its class; empty to remove the correction of this head.

        Returns:
            All kept classes of this photograph, `{head: class}`. If there are none, the photograph
            is removed.

        Raises:
            ImageError: If it is not an image.
        """
        decode_image(content, self._max_megapixels)
        with self._lock:
            rows = self._read_rows()
            name = _name_image(content)
            row = rows.setdefault(name, dict.fromkeys(self._columns, ""))
            row |= {self._image_column: name, self._heads[head].column: label}
            labels = self._get_labels(row)
            if labels:
                with writing(self._folder / name) as path:
                    path.write_bytes(content)
                self._write_rows(rows)
            else:
                del rows[name]
                self._write_rows(rows)
                self._remove_image(name)
        return labels

    def delete(self) -> None:
        """Deletes the table and its images."""
        with self._lock:
            names = list(self._read_rows())
            self._write_rows({})
            for name in names:
                self._remove_image(name)

    def _remove_image(self, name: str) -> None:
        # Never a file outside the folder, even if somebody has edited the table.
        (self._folder / _IMAGES / Path(name).name).unlink(missing_ok=True)

    def _get_labels(self, row: Mapping[str, str]) -> dict[str, str]:
        return {name: row[head.column] for name, head in self._heads.items() if row[head.column]}

    def _read_rows(self) -> dict[str, dict[str, str]]:
        """Reads the table: `{image: row}`."""
        table = self._folder / TABLE
        if not table.exists():
            return {}
        try:
            with table.open(encoding="utf-8", newline="") as file:
                header, *rows = list(csv.reader(file)) or [[]]
        except (csv.Error, UnicodeError):
            header, rows = [], []
        if header != self._columns or any(len(row) != len(header) for row in rows):
            raise AnnotationsError(
                f"{table}: expected a table of the demo with the columns "
                f"{', '.join(self._columns)}. Received: another table. Correct it, or name another "
                "folder with --corrections."
            )
        named = [dict(zip(header, row, strict=True)) for row in rows]
        return {row[self._image_column]: row for row in named}

    def _write_rows(self, rows: Mapping[str, Mapping[str, str]]) -> None:
        """Writes the table, or removes it if there are no rows."""
        table = self._folder / TABLE
        if not rows:
            table.unlink(missing_ok=True)
            return
        with writing(table) as path, path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, self._columns, lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows.values())


def _keeps_classes(head: HeadParams) -> bool:
    """Whether `ingest` reads the name of each class as this class."""
    return list(name_classes(pd.Series(head.classes), head)) == list(head.classes)


def _name_image(content: bytes) -> str:
    return f"{_IMAGES}/{_digest(content)}{_SUFFIXES[find_format(content) or '']}"


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:32]
