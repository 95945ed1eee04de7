"""Writes the table of predictions: first to a partial file, then to the output itself."""

import contextlib
import csv
import hashlib
import io
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import pandas as pd
import pyarrow
import pyarrow.csv
import pyarrow.parquet

from person_attributes.commands.predict.columns import ERROR, PATH, Column
from person_attributes.files import writing
from person_attributes.runtime.locks import lock_or_refuse

_ROWS = 100_000
"""Rows that are counted at a time."""


@contextlib.contextmanager
def lock_output(output: Path) -> Iterator[None]:
    """Locks an output: two processes would mix their rows.

    Raises:
        BusyError: If another process writes it. Wait for it, or name another one.
    """
    path = output.with_name(f"{output.name}.part.lock")
    refusal = (
        f"{output}: another process writes this file. Expected one process at a time. Wait for it, "
        "or name another output."
    )
    with lock_or_refuse(path, refusal):
        try:
            yield
        finally:
            # Before the release: afterwards, another process may have locked this file.
            path.unlink(missing_ok=True)


class PartialOutput:
    """The finished rows of an output, in `OUTPUT.part` until all rows are finished.

    `OUTPUT.part.json` records how many rows and bytes of it are complete, for resuming.
    """

    def __init__(
        self, output: Path, file: IO[bytes], identity: str, columns: Sequence[Column], rows: int
    ) -> None:
        self._output, self._file, self._identity = output, file, identity
        self._columns, self.rows = columns, rows

    @classmethod
    def open(
        cls, output: Path, identity: Sequence[str], columns: Sequence[Column]
    ) -> "PartialOutput":
        """Resumes an interrupted run with the same identity, or starts a new file.

        Args:
            output: The file to write.
            identity: Identifiers of the run: the model, the source and the names of the images.
            columns: The columns of the heads.
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
            return cls(output, file, digest, columns, state["rows"])
        part = cls(output, path.open("w+b"), digest, columns, 0)
        part._write([[PATH, *(column.name for column in columns), ERROR]])
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
        # Names of files may not be UTF-8, but tables are: invalid bytes become U+FFFD. So does a
        # carriage return, which readers of tables take for the end of a row.
        valid = text.getvalue().encode("utf-8", "surrogateescape").decode("utf-8", "replace")
        self._file.write(valid.replace("\r", "\ufffd").encode("utf-8"))
        self._file.flush()
        _, state_file = _name_parts(self._output)
        state = {"identity": self._identity, "rows": self.rows, "bytes": self._file.tell()}
        with writing(state_file) as path:
            path.write_text(json.dumps(state), encoding="utf-8")

    def finish(self) -> "Summary":
        """Writes the output, removes the partial file and counts the rows."""
        path, state_file = _name_parts(self._output)
        summary = _summarize(path, self._columns)
        if self._output.suffix == ".parquet":
            _write_parquet(path, self._output, self._columns)
            path.unlink()
        else:
            path.replace(self._output)
        state_file.unlink()
        return summary


@dataclass(frozen=True)
class Summary:
    """What an output contains.

    Attributes:
        unreadable: The number of images that cannot be read.
        labels: The number of images of each class, the most common first, by head.
    """

    unreadable: int
    labels: dict[str, list[tuple[str, int]]]


def _name_parts(output: Path) -> tuple[Path, Path]:
    return output.with_name(f"{output.name}.part"), output.with_name(f"{output.name}.part.json")


def _summarize(path: Path, columns: Sequence[Column]) -> Summary:
    heads = [column.name for column in columns if column.keys == (column.name, "label")]
    labels = {head: Counter[str]() for head in heads}
    unreadable = 0
    # Without missing values, because a class may be named None.
    for chunk in pd.read_csv(
        path, usecols=[*heads, ERROR], dtype=str, keep_default_na=False, chunksize=_ROWS
    ):
        readable = chunk[chunk[ERROR] == ""]
        unreadable += len(chunk) - len(readable)
        for head in heads:
            labels[head].update(readable[head])
    return Summary(unreadable, {head: counts.most_common() for head, counts in labels.items()})


def _write_parquet(path: Path, output: Path, columns: Sequence[Column]) -> None:
    """Converts a CSV file to Parquet block by block; empty cells become null."""
    text, number = pyarrow.string(), pyarrow.float64()
    types = {column.name: number if column.is_number else text for column in columns}
    convert = pyarrow.csv.ConvertOptions(
        column_types={PATH: text, **types, ERROR: text},
        null_values=[""],
        strings_can_be_null=True,
    )
    parse = pyarrow.csv.ParseOptions(newlines_in_values=True)
    with (
        writing(output) as written,
        pyarrow.csv.open_csv(path, parse_options=parse, convert_options=convert) as blocks,
        pyarrow.parquet.ParquetWriter(written, blocks.schema) as writer,
    ):
        for block in blocks:
            writer.write_batch(block)
