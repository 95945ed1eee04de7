"""Labels many images with a registered model, with the same decoder and network as its server."""

import time
from collections.abc import Sequence
from functools import partial
from itertools import islice
from pathlib import Path

from PIL import Image
from tqdm import tqdm

from person_attributes.commands.predict.columns import Column, format_row, list_columns
from person_attributes.commands.predict.output import PartialOutput, lock_output
from person_attributes.commands.predict.sources import Images, identify_source, open_images
from person_attributes.config import LimitsParams, Params
from person_attributes.data.decoding import apply_to_image
from person_attributes.data.image_names import describe_renamed
from person_attributes.errors import ImageError, ParamsError, RegistryError, SourceError, suggest
from person_attributes.registry.model import load_model
from person_attributes.registry.promotion import require_champion
from person_attributes.serving.classifier import Answer, ServedClassifier
from person_attributes.serving.requests import RefusedRequest, RequestOptions
from person_attributes.serving.row_pool import RowFunction, RowPool
from person_attributes.serving.threads import count_threads
from person_attributes.tracking.connection import connect
from person_attributes.workspace import Workspace

_TABLES = (".csv", ".parquet")


def predict(
    workspace: Workspace,
    params: Params,
    images: str,
    output: Path,
    model: str,
    column: str,
    heads: str,
    top_k: int,
    probabilities: bool,
) -> None:
    """Writes one row per image: its path, then label and probability of each head.

    The row of an unreadable image has a reason in the column `error` and no labels. An interrupted
    run is resumed if model, images and columns are the same.

    Args:
        workspace: The project; its store has the model.
        params: The size limits of archives and images, and the number of images per batch.
        images: An image, a folder (searched recursively), a pattern such as `photos/*.jpg`, a
            table of paths relative to it, or a `.zip`.
        output: The `.csv` or `.parquet` file to write.
        model: A URI such as `models:/person-attributes@champion`; empty for the champion.
        column: The column with the paths in a table, or a pattern such as `images/{id}.jpg`.
        heads: The heads to predict, separated by commas; empty for all.
        top_k: The number of most probable classes to write for each head.
        probabilities: Whether to write the probability of each class.

    Raises:
        SourceError: If no images are found, or the output cannot be written. Correct the path.
        BusyError: If another process writes the output. Wait for it, or name another one.
        ParamsError: If a head is unknown, or `top_k` is negative.
        RegistryError: If there is no such model. `person-attributes models` lists them.
    """
    _check_output(output, images)
    opened = open_images(images, column, params.data.limits)
    for line in describe_renamed(opened.renamed):
        print(f"predict: {line}")
    classifier, identity = _load_classifier(model or require_champion(workspace, params), workspace)
    options = _read_options(classifier, heads, top_k, probabilities)
    columns = list_columns(classifier.label_map, options)
    names = opened.names
    identities = [identity, *(one.name for one in columns), *identify_source(images), *names]
    with (
        lock_output(output),
        PartialOutput.open(output, identities, columns) as partial_output,
    ):
        if partial_output.rows:
            print(f"predict: resuming after {partial_output.rows} images")
        remaining = names[partial_output.rows :]
        label = partial(_label, classifier, opened, params.data.limits, options)
        _score(label, remaining, columns, params.evaluation.batch_size, partial_output)
        summary = partial_output.finish()
    print(f"predict: {len(names)} images, {summary.unreadable} unreadable, see {output}")
    for head, counts in summary.labels.items():
        if counts:
            print(f"predict: {head}: {', '.join(f'{name} {count}' for name, count in counts)}")


def _check_output(output: Path, images: str) -> None:
    if output.suffix not in _TABLES:
        raise SourceError(
            f"{output}: expected a name that ends in {' or '.join(_TABLES)}. "
            f"Received: {output.suffix or 'no suffix'}. Rename the output."
        )
    if output.resolve() == Path(images).resolve():
        raise SourceError(f"{output}: is also the table of paths. Rename the output.")
    if output.is_dir():
        raise SourceError(f"{output}: expected a file. Received: a folder. Rename the output.")
    if not output.parent.is_dir():
        raise SourceError(f"{output.parent}: no such folder. Create it, or name another output.")


def _load_classifier(model: str, workspace: Workspace) -> tuple[ServedClassifier, str]:
    connect(workspace)
    loaded = load_model(model)
    classifier = loaded.unwrap_python_model()
    if not isinstance(classifier, ServedClassifier):
        raise RegistryError(
            f"{model}: expected a model of this project. Received: a "
            f"{type(classifier).__name__}. Name another model."
        )
    try:
        classifier.network  # noqa: B018  waits until it is loaded
    except RefusedRequest as error:
        raise RegistryError(f"{model}: {error.message}") from None
    return classifier, str(loaded.metadata.model_uuid)


def _read_options(
    classifier: ServedClassifier, heads: str, top_k: int, probabilities: bool
) -> RequestOptions:
    """Checks the options here: messages of the server do not contain values of a request."""
    known = classifier.label_map.heads
    selected = tuple(head.strip() for head in heads.split(",") if head.strip())
    for head in selected:
        if head not in known:
            raise ParamsError(
                f"predict: --heads: expected some of {', '.join(known)}. Received: {head!r}."
                f"{suggest(head, known)} Correct the option."
            )
    if top_k < 0:
        raise ParamsError(
            f"predict: --top-k: expected 0 or more. Received: {top_k}. Correct the option."
        )
    return RequestOptions(top_k, selected, probabilities)


def _label(
    classifier: ServedClassifier,
    images: Images,
    limits: LimitsParams,
    options: RequestOptions,
    name: str,
    all_cores: bool,
) -> Answer | ImageError:
    def answer(_: bytes, image: Image.Image) -> Answer:
        try:
            y_prob = classifier.score(classifier.resize(image), all_cores)
        except RefusedRequest as error:
            raise RegistryError(f"predict: {error.message}") from None
        return classifier.describe(y_prob, options)

    if not name:
        return ImageError("no image named: the cell is empty")
    return apply_to_image(answer, images.source, limits, images.find_file(name))


def _score(
    label: RowFunction[str, Answer | ImageError],
    names: Sequence[str],
    columns: Sequence[Column],
    batch_size: int,
    partial_output: PartialOutput,
) -> None:
    """Labels images on all cores, and appends their rows in batches."""
    began = time.perf_counter()
    answers = RowPool(count_threads()).map(label, names)
    bar = tqdm(answers, "predicting", len(names), unit="image", disable=None)
    rows = (format_row(name, answer, columns) for name, answer in zip(names, bar, strict=True))
    while batch := list(islice(rows, batch_size)):
        partial_output.append(batch)
    rate = len(names) / (time.perf_counter() - began)
    print(f"predict: {rate:.0f} images a second")
