"""Labels many images with a registered model, through the decoder and the network that serve it."""

import csv
import glob
import hashlib
import io
import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import IO, Any

import mlflow
import numpy as np
import numpy.typing as npt
import pandas as pd
from mlflow.exceptions import MlflowException
from PIL import Image

from person_attributes.config import LimitsParams
from person_attributes.data.archive import FolderSource, Source, ZipSource
from person_attributes.data.decoding import map_images
from person_attributes.data.images import resize_image
from person_attributes.errors import ImageError, RegistryError, SourceError
from person_attributes.framing import BlackBars
from person_attributes.labels import LabelMap
from person_attributes.serving.classifier import ServedClassifier
from person_attributes.tracking.connection import connect
from person_attributes.workspace import Workspace

_SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".png", ".webp"})
_TABLES = (".csv", ".parquet")


@dataclass(frozen=True)
class Scoring:
    """What to score, and where to write it.

    Attributes:
        images: An image, a folder that is searched with all its folders, a pattern such as
            `photos/*.jpg`, a CSV file with a column of paths relative to it, or a `.zip`.
        column: The column of a CSV file.
        output: A `.csv` or `.parquet` file.
        model: Such as `models:/person-attributes@champion`.
    """

    images: str
    column: str
    output: Path
    model: str


def score_images(
    scoring: Scoring, workspace: Workspace, limits: LimitsParams, batch_size: int
) -> None:
    """Writes one row an image: its path, then label and probability of each head.

    An image that cannot be read has its reason in the column `error` and no labels. What was done
    before an interruption is taken up again, where model and images are the same.

    Args:
        scoring: What to score, and where to write it.
        workspace: The project, whose store holds the model.
        limits: How large an archive and an image may be.
        batch_size: After so many images, finished rows are written.

    Raises:
        SourceError: If there are no images there, or the output has another ending.
        RegistryError: If there is no such model.
    """
    if scoring.output.suffix not in _TABLES:
        raise SourceError(
            f"{scoring.output}: expected a name that ends in {' or '.join(_TABLES)}. "
            f"Received: {scoring.output.suffix or 'no ending'}. Rename the output."
        )
    source, names = _open_images(scoring, limits)
    classifier, identity = _load_classifier(scoring.model, workspace)
    label_map = classifier.label_map
    identities = [identity, *_identify_source(scoring.images), *names]
    with _Part.open(scoring.output, identities, _name_columns(label_map)) as part:
        if part.rows:
            print(f"predict: {part.rows} images were scored before, going on")
        left = names[part.rows :]
        work = partial(_shrink, classifier.network.image_size, classifier.black_bars)
        results = zip(left, map_images(work, source, left, limits, "predicting"), strict=True)
        while batch := list(islice(results, batch_size)):
            part.append(_score_batch(classifier, batch))
        unreadable = part.finish(label_map)
    print(f"predict: {len(names)} images, {unreadable} unreadable, see {scoring.output}")


def _load_classifier(model: str, workspace: Workspace) -> tuple[ServedClassifier, str]:
    connect(workspace)
    path = list(sys.path)
    try:
        loaded = mlflow.pyfunc.load_model(model)
    except MlflowException as error:
        raise RegistryError(
            f"{model}: cannot be loaded: {' '.join(error.message.split())[:200]} "
            "Run person-attributes models, which lists what is registered."
        ) from None
    # MLflow puts the model's own code in front, which processes that decode would take for ours.
    sys.path[:] = path
    classifier = loaded.unwrap_python_model()
    if not isinstance(classifier, ServedClassifier):
        raise RegistryError(f"{model}: expected a model of this project. Name another model.")
    return classifier, str(loaded.metadata.model_uuid)


def _identify_source(images: str) -> list[str]:
    """Tells a source from others with the same names in it: where it lies, its size and time."""
    path = Path(images).resolve()
    if not path.is_file():
        return [str(path)]
    status = path.stat()
    return [str(path), str(status.st_size), str(status.st_mtime_ns)]


def _shrink(
    image_size: str, black_bars: BlackBars, _: bytes, image: Image.Image
) -> npt.NDArray[np.uint8]:
    return resize_image(image, image_size, black_bars)


def _score_batch(
    classifier: ServedClassifier,
    batch: Sequence[tuple[str, npt.NDArray[np.uint8] | ImageError]],
) -> list[list[str]]:
    images = [result for _, result in batch if not isinstance(result, ImageError)]
    heads = classifier.label_map.heads
    answers: Iterator[Mapping[str, Any]] = iter(
        classifier.answer(np.stack(images)) if images else []
    )
    rows = []
    for name, result in batch:
        if isinstance(result, ImageError):
            rows.append([name, *[""] * (2 * len(heads)), str(result)])
            continue
        answer = next(answers)
        said = [(answer[head]["label"], repr(answer[head]["probability"])) for head in heads]
        rows.append([name, *(cell for pair in said for cell in pair), ""])
    return rows


def _name_columns(label_map: LabelMap) -> list[str]:
    parts = [f"{head}{part}" for head in label_map.heads for part in ("", "_probability")]
    return ["path", *parts, "error"]


class _Part:
    """Rows that are finished, beside the output until all are: `.part`, and how far it is sound."""

    def __init__(self, output: Path, file: IO[bytes], identity: str, rows: int) -> None:
        self._output, self._file, self._identity, self.rows = output, file, identity, rows

    @classmethod
    def open(cls, output: Path, identity: Sequence[str], columns: Sequence[str]) -> "_Part":
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

    def __enter__(self) -> "_Part":
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
        written = mark.with_name(f"{mark.name}.new")
        written.write_text(json.dumps(state), encoding="utf-8")
        written.replace(mark)

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


def _name_parts(output: Path) -> tuple[Path, Path]:
    return output.with_name(f"{output.name}.part"), output.with_name(f"{output.name}.part.json")


def _write_parquet(path: Path, output: Path, label_map: LabelMap) -> int:
    """Turns a CSV file into Parquet, a block at a time; what is empty is null there."""
    import pyarrow
    import pyarrow.csv
    import pyarrow.parquet

    types = {
        name: pyarrow.float64() if name.endswith("_probability") else pyarrow.string()
        for name in _name_columns(label_map)
    }
    convert = pyarrow.csv.ConvertOptions(
        column_types=types, null_values=[""], strings_can_be_null=True
    )
    parse = pyarrow.csv.ParseOptions(newlines_in_values=True)
    unreadable = 0
    written = output.with_name(f"{output.name}.new")
    with (
        pyarrow.csv.open_csv(path, parse_options=parse, convert_options=convert) as blocks,
        pyarrow.parquet.ParquetWriter(written, blocks.schema) as writer,
    ):
        for block in blocks:
            writer.write_batch(block)
            error = block.column("error")
            unreadable += len(error) - error.null_count
    written.replace(output)
    return unreadable


def _open_images(scoring: Scoring, limits: LimitsParams) -> tuple[Source, list[str]]:
    path = Path(scoring.images)
    source: Source = FolderSource(Path.cwd())
    if path.is_dir():
        names = _filter(str(one) for one in path.rglob("*") if one.is_file())
    elif path.suffix.lower() == ".zip" and path.is_file():
        archive = ZipSource(path, limits)
        source, names = archive, _filter(archive.names())
    elif path.suffix.lower() == ".csv" and path.is_file():
        source, names = FolderSource(path.parent), _read_paths(path, scoring.column)
    elif path.is_file():
        names = [str(path)]
    else:
        # Patterns may be absolute, which those of Path are not.
        names = _filter(glob.glob(scoring.images, recursive=True))  # noqa: PTH207
    if not names:
        raise SourceError(
            f"{scoring.images}: expected an image, a folder, a pattern, a CSV file of paths or a "
            f".zip, with images ({', '.join(sorted(_SUFFIXES))}). Received: none. Correct the path."
        )
    return source, names


def _filter(names: Iterable[str]) -> list[str]:
    return sorted(name for name in names if Path(name).suffix.lower() in _SUFFIXES)


def _read_paths(path: Path, column: str) -> list[str]:
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
    except (ValueError, UnicodeError) as error:  # pandas' errors of CSV files are of the first kind
        raise SourceError(f"{path}: not a readable CSV file: {error}. Mend the file.") from None
    if column not in table:
        raise SourceError(
            f"{path}: expected a column {column!r} of paths. Received: "
            f"{', '.join(map(str, table.columns))}. Name one with --column."
        )
    return [str(name) for name in table[column]]
