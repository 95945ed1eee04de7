"""The table that is written: finished rows beside it until all are, then the table itself."""

import csv
import hashlib
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

import pandas as pd
import pyarrow
import pyarrow.csv
import pyarrow.parquet

from person_attributes.files import writing
from person_attributes.labels import LabelMap


class Part:
    """Rows that are finished, beside the output until all are: `.part`, and how far it is sound."""

    def __init__(self, output: Path, file: IO[bytes], identity: str, rows: int) -> None:
        self._output, self._file, self._identity, self.rows = output, file, identity, rows

    @classmethod
    def open(cls, output: Path, identity: Sequence[str], columns: Sequence[str]) -> "Part":
        """Goes on where an earlier scoring of the same images by the same model was cut off."""
        digest = hashlib.sha256("\0".join(identity).encode("utf-8", "surrogatepass")).hexdigest()
        path, mark = _name_parts(output)
        before: dict[str, Any] = {}
        if path.exists() and mark.exists():
            before = json.loads(mark.read_text(encoding="utf-8"))
        if before.get("identity") == digest:
            file = path.open("r+b")
            file.truncate(before["bytes"])
            file.seek(before["bytes"])
            return cls(output, file, digest, before["rows"])
        part = cls(output, path.open("w+b"), digest, 0)
        part._write([columns])
        return part

    def __enter__(self) -> "Part":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def append(self, rows: Sequence[Sequence[str]]) -> None:
        """Adds finished rows; after it they are not scored again."""
        self.rows += len(rows)
        self._write(rows)

    def _write(self, rows: Sequence[Sequence[str]]) -> None:
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows(rows)
        # A name of other bytes than UTF-8 is told as well as that can be: tables hold UTF-8 alone.
        whole = text.getvalue().encode("utf-8", "surrogateescape").decode("utf-8", "replace")
        self._file.write(whole.encode("utf-8"))
        self._file.flush()
        _, mark = _name_parts(self._output)
        state = {"identity": self._identity, "rows": self.rows, "bytes": self._file.tell()}
        with writing(mark) as path:
            path.write_text(json.dumps(state), encoding="utf-8")

    def finish(self, label_map: LabelMap) -> int:
        """Makes the output of it, and counts the images that could not be read."""
        path, mark = _name_parts(self._output)
        if self._output.suffix == ".parquet":
            unreadable = _write_parquet(path, self._output, label_map)
            path.unlink()
        else:
            unreadable = sum(
                int(chunk["error"].notna().sum())
                for chunk in pd.read_csv(path, usecols=["error"], chunksize=100_000)
            )
            path.replace(self._output)
        mark.unlink()
        return unreadable


def name_columns(label_map: LabelMap) -> list[str]:
    """Names the columns: the path, label and probability of each head, and what went wrong."""
    parts = [f"{head}{part}" for head in label_map.heads for part in ("", "_probability")]
    return ["path", *parts, "error"]


def _name_parts(output: Path) -> tuple[Path, Path]:
    return output.with_name(f"{output.name}.part"), output.with_name(f"{output.name}.part.json")


def _write_parquet(path: Path, output: Path, label_map: LabelMap) -> int:
    """Turns a CSV file into Parquet, a block at a time; what is empty is null there."""
    types = {
        name: pyarrow.float64() if name.endswith("_probability") else pyarrow.string()
        for name in name_columns(label_map)
    }
    convert = pyarrow.csv.ConvertOptions(
        column_types=types, null_values=[""], strings_can_be_null=True
    )
    parse = pyarrow.csv.ParseOptions(newlines_in_values=True)
    unreadable = 0
    with (
        writing(output) as written,
        pyarrow.csv.open_csv(path, parse_options=parse, convert_options=convert) as blocks,
        pyarrow.parquet.ParquetWriter(written, blocks.schema) as writer,
    ):
        for block in blocks:
            writer.write_batch(block)
            error = block.column("error")
            unreadable += len(error) - error.null_count
    return unreadable
