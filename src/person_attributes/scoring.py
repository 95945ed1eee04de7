"""Labels a folder of images with a registered model, through the same code that serves it."""

import base64
import csv
from pathlib import Path

import mlflow
import pandas as pd
from mlflow.exceptions import MlflowException
from tqdm import tqdm

from person_attributes.errors import RegistryError, SourceError
from person_attributes.serving import INPUT_COLUMN, InvalidImageRequest
from person_attributes.tracking.runs import connect
from person_attributes.workspace import Workspace

_SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".png", ".webp"})


def score_images(images: Path, output: Path, model: str, workspace: Workspace) -> None:
    """Writes one row an image: its path, then label and probability of each head.

    An image that cannot be read has its reason in the column `error` and no labels.

    Args:
        images: An image, or a folder that is searched with all its folders.
        output: The CSV file to write.
        model: Such as `models:/person-attributes@champion`.
        workspace: The project, whose store holds the model.

    Raises:
        SourceError: If there are no images at that path.
        RegistryError: If there is no such model.
    """
    paths = _find_images(images)
    connect(workspace)
    try:
        classifier = mlflow.pyfunc.load_model(model)
    except MlflowException as error:
        raise RegistryError(
            f"{model}: cannot be loaded: {error.message} Run dvc repro, or name another model."
        ) from None
    heads = classifier.metadata.get_output_schema().input_names()
    columns = ["path", *(f"{head}{part}" for head in heads for part in ("", "_probability"))]
    with output.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, [*columns, "error"], lineterminator="\n")
        writer.writeheader()
        for path in tqdm(paths, "predicting", unit="image", disable=None):
            row = {"path": str(path)}
            encoded = base64.b64encode(path.read_bytes()).decode()
            try:
                answer = classifier.predict(pd.DataFrame({INPUT_COLUMN: [encoded]}))[0]
            except InvalidImageRequest as error:
                row["error"] = error.message.partition(": ")[2]
            else:
                for head, said in answer.items():
                    row[head] = said["label"]
                    row[f"{head}_probability"] = f"{said['probability']:.6f}"
            writer.writerow(row)
    print(f"predict: {len(paths)} images, see {output}")


def _find_images(images: Path) -> list[Path]:
    found = sorted(images.rglob("*")) if images.is_dir() else [images]
    paths = [path for path in found if path.is_file() and path.suffix.lower() in _SUFFIXES]
    if not paths:
        raise SourceError(
            f"{images}: expected an image or a folder of images ({', '.join(sorted(_SUFFIXES))}). "
            "Received: none. Correct the path."
        )
    return paths
