"""Writes the table of predictions: first to a partial file, then to the output itself."""

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


class PartialOutput:
    """The finished rows of an output, in `OUTPUT.part` until all rows are finished.

    `OUTPUT.part.json` records how many rows and bytes of it are complete, for resuming.
    """

    def __init__(self, output: Path, file: IO[bytes], identity: str, rows: int) -> None:
        self._output, self._file, self._identity, self.rows = output, file, identity, rows

    @classmethod
    def open(cls, output: Path, identity: Sequence[str], columns: Sequence[str]) -> "PartialOutput":
        """Resumes an interrupted run with the same identity, or starts a new file.

        Args:
            output: The file to write.
            identity: Identifiers of the run: the model, the source and the names of the images.
            columns: The names of the columns.
        """
        digest = hashlib.sha256("\0".join(identity).encode("utf-8", "surrogatepass")).hexdigest()
        path, state_file = _name_parts(output)
        state: dict[str, Any] = {}
        if path.exists() and state_file.exists():
            state = json.loads(state_file.read_text(encoding="utf-8"))
        if state.get("identity") == digest:
            file = path.open("r+b")
            file.truncate(state["bytes"])
            file.seek(state["bytes"])
            return cls(output, file, digest, state["rows"])
        part = cls(output, path.open("w+b"), digest, 0)
        part._write([columns])
        return part

    def __enter__(self) -> "PartialOutput":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def append(self, rows: Sequence[Sequence[str]]) -> None:
        """Adds finished rows. A resumed run does not score them again."""
        self.rows += len(rows)
        self._write(rows)

    def _write(self, rows: Sequence[Sequence[str]]) -> None:
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows(rows)
        # Names of files may not be UTF-8, but tables are: invalid bytes become U+FFFD.
        valid = text.getvalue().encode("utf-8", "surrogateescape").decode("utf-8", "replace")
        self._file.write(valid.encode("utf-8"))
        self._file.flush()
        _, state_file = _name_parts(self._output)
        state = {"identity": self._identity, "rows": self.rows, "bytes": self._file.tell()}
        with writing(state_file) as path:
            path.write_text(json.dumps(state), encoding="utf-8")

    def finish(self, label_map: LabelMap) -> int:
        """Writes the output, removes the partial file and counts the unreadable images."""
        path, state_file = _name_parts(self._output)
        if self._output.suffix == ".parquet":
            unreadable = _write_parquet(path, self._output, label_map)
            path.unlink()
        else:
            unreadable = sum(
                int(chunk["error"].notna().sum())
                for chunk in pd.read_csv(path, usecols=["error"], chunksize=100_000)
            )
            path.replace(self._output)
        state_file.unlink()
        return unreadable


def name_columns(label_map: LabelMap) -> list[str]:
    """Returns the columns: the path, the label and probability of each head, and the error."""
    heads = [f"{head}{suffix}" for head in label_map.heads for suffix in ("", "_probability")]
    return ["path", *heads, "error"]


def _name_parts(output: Path) -> tuple[Path, Path]:
    return output.with_name(f"{output.name}.part"), output.with_name(f"{output.name}.part.json")


def _write_parquet(path: Path, output: Path, label_map: LabelMap) -> int:
    """Converts a CSV file to Parquet block by block; empty cells become null.

    Returns:
        The number of rows with an error.
    """
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
