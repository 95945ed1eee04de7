"""Labels many images with a registered model, with the same decoder and network as its server."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from person_attributes.commands.predict.output import PartialOutput, name_columns
from person_attributes.commands.predict.sources import identify_source, open_images
from person_attributes.config import Params
from person_attributes.data.decoding import map_images
from person_attributes.data.image_names import describe_renamed
from person_attributes.data.images import resize_image
from person_attributes.errors import ImageError, RegistryError, SourceError
from person_attributes.framing import BlackBars
from person_attributes.registry.model import load_model
from person_attributes.registry.promotion import require_champion
from person_attributes.serving.classifier import ServedClassifier
from person_attributes.tracking.connection import connect
from person_attributes.workspace import Workspace

_TABLES = (".csv", ".parquet")


def predict(
    workspace: Workspace, params: Params, images: str, output: Path, model: str, column: str
) -> None:
    """Writes one row per image: its path, then label and probability of each head.

    The row of an unreadable image has a reason in the column `error` and no labels. An interrupted
    run is resumed if model and images are the same.

    Args:
        workspace: The project; its store has the model.
        params: The size limits of archives and images, and the number of images per batch.
        images: An image, a folder (searched recursively), a pattern such as `photos/*.jpg`, a
            table of paths relative to it, or a `.zip`.
        output: The `.csv` or `.parquet` file to write.
        model: A URI such as `models:/person-attributes@champion`; empty for the champion.
        column: The column with the paths in a table, or a pattern such as `images/{id}.jpg`.

    Raises:
        SourceError: If no images are found, or the output has another suffix. Correct the path.
        RegistryError: If there is no such model. `person-attributes models` lists them.
    """
    _check_suffix(output)
    limits = params.data.limits
    opened = open_images(images, column, limits)
    for line in describe_renamed(opened.renamed):
        print(f"predict: {line}")
    classifier, identity = _load_classifier(model or require_champion(workspace, params), workspace)
    label_map = classifier.label_map
    identities = [identity, *identify_source(images), *opened.names]
    with PartialOutput.open(output, identities, name_columns(label_map)) as partial_output:
        start = partial_output.rows
        if start:
            print(f"predict: resuming after {start} images")
        work = partial(_resize, classifier.network.image_size, classifier.black_bars)
        files = opened.find_files(start)
        decoded = map_images(work, opened.source, files, limits, "predicting")
        results = zip(opened.names[start:], decoded, strict=True)
        while batch := list(islice(results, params.evaluation.batch_size)):
            partial_output.append(_score_batch(classifier, batch))
        unreadable = partial_output.finish(label_map)
    print(f"predict: {len(opened.names)} images, {unreadable} unreadable, see {output}")


def _check_suffix(output: Path) -> None:
    if output.suffix not in _TABLES:
        raise SourceError(
            f"{output}: expected a name that ends in {' or '.join(_TABLES)}. "
            f"Received: {output.suffix or 'no suffix'}. Rename the output."
        )


def _load_classifier(model: str, workspace: Workspace) -> tuple[ServedClassifier, str]:
    connect(workspace)
    path = list(sys.path)
    loaded = load_model(model)
    # MLflow prepends the model's own code, which decoding processes would import in place of ours.
    sys.path[:] = path
    classifier = loaded.unwrap_python_model()
    if not isinstance(classifier, ServedClassifier):
        raise RegistryError(
            f"{model}: expected a model of this project. Received: a "
            f"{type(classifier).__name__}. Name another model."
        )
    return classifier, str(loaded.metadata.model_uuid)


def _resize(
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
        cells = [(answer[head]["label"], repr(answer[head]["probability"])) for head in heads]
        rows.append([name, *(cell for pair in cells for cell in pair), ""])
    return rows
