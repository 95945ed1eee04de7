"""Labels many images with a registered model, through the decoder and the network that serve it."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from person_attributes.commands.predict.output import Part, name_columns
from person_attributes.commands.predict.sources import identify_source, open_images
from person_attributes.config import Params
from person_attributes.data.decoding import map_images
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
    """Writes one row an image: its path, then label and probability of each head.

    An image that cannot be read has its reason in the column `error` and no labels. What was done
    before an interruption is taken up again, where model and images are the same.

    Args:
        workspace: The project, whose store holds the model.
        params: How large an archive and an image may be, and after how many images finished rows
            are written.
        images: An image, a folder that is searched with all its folders, a pattern such as
            `photos/*.jpg`, a CSV file with a column of paths relative to it, or a `.zip`.
        output: A `.csv` or `.parquet` file.
        model: Such as `models:/person-attributes@champion`; empty for the champion.
        column: The column of a CSV file.

    Raises:
        SourceError: If there are no images there, or the output has another ending.
        RegistryError: If there is no such model.
    """
    if output.suffix not in _TABLES:
        raise SourceError(
            f"{output}: expected a name that ends in {' or '.join(_TABLES)}. "
            f"Received: {output.suffix or 'no ending'}. Rename the output."
        )
    limits = params.data.limits
    source, names = open_images(images, column, limits)
    classifier, identity = _load_classifier(model or require_champion(workspace, params), workspace)
    label_map = classifier.label_map
    identities = [identity, *identify_source(images), *names]
    with Part.open(output, identities, name_columns(label_map)) as part:
        if part.rows:
            print(f"predict: {part.rows} images were scored before, going on")
        left = names[part.rows :]
        work = partial(_shrink, classifier.network.image_size, classifier.black_bars)
        results = zip(left, map_images(work, source, left, limits, "predicting"), strict=True)
        while batch := list(islice(results, params.evaluation.batch_size)):
            part.append(_score_batch(classifier, batch))
        unreadable = part.finish(label_map)
    print(f"predict: {len(names)} images, {unreadable} unreadable, see {output}")


def _load_classifier(model: str, workspace: Workspace) -> tuple[ServedClassifier, str]:
    connect(workspace)
    path = list(sys.path)
    loaded = load_model(model)
    # MLflow puts the model's own code in front, which processes that decode would take for ours.
    sys.path[:] = path
    classifier = loaded.unwrap_python_model()
    if not isinstance(classifier, ServedClassifier):
        raise RegistryError(f"{model}: expected a model of this project. Name another model.")
    return classifier, str(loaded.metadata.model_uuid)


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
