"""The servable model of the published network: built, exported, checked and logged."""

import tempfile
from pathlib import Path

import keras
import numpy as np

from person_attributes.config import Params
from person_attributes.data.images import Images
from person_attributes.errors import RegistryError
from person_attributes.files import write_json
from person_attributes.framing import height_and_width
from person_attributes.labels import LabelMap
from person_attributes.modeling.classifier import (
    Normalization,
    average_flips,
    build_classifier,
    scale_temperatures,
)
from person_attributes.registry.export import export_network
from person_attributes.registry.model import log_model, read_limits
from person_attributes.registry.pretrained import Pretrained
from person_attributes.reporting.model_card import write_card
from person_attributes.serving.network import Network
from person_attributes.tracking.connection import choose_experiment, connect
from person_attributes.workspace import Workspace


def log_pretrained(network: Pretrained, workspace: Workspace, params: Params) -> str:
    """Exports the published network and logs the servable model, without a run.

    Args:
        network: The published network.
        workspace: The project; the model is logged to its store.
        params: The parameters of the project: the served heads and the limits of a request.

    Returns:
        The URI of the logged model, to register.

    Raises:
        RegistryError: If the answers differ from the published ones. Run `make env`.
    """
    labels = LabelMap.declare(network.params.heads).without(params.registry.serving.excluded_heads)
    classifier = build_pretrained(network)
    served = average_flips(classifier) if network.params.evaluation.flips else classifier
    served = scale_temperatures(served, network.provenance["temperatures"])
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        exported, label_map = folder / "network.onnx", folder / "label_map.json"
        weights, normalization = folder / "pretrained.weights.h5", folder / "normalization.json"
        export_network(served, exported, params.registry.serving.excluded_heads)
        _check_answers(network, exported, params.registry.max_export_difference)
        labels.write(label_map)
        classifier.save_weights(weights)
        write_json(normalization, network.provenance["normalization"])
        card = write_card(network.card, folder, params.report.colour)
        choose_experiment(connect(workspace), workspace)
        return log_model(
            exported,
            label_map,
            [*card, weights, normalization, network.params_file],
            read_limits(params),
            network.params.data.black_bars,
        )


def build_pretrained(network: Pretrained) -> keras.Model:
    """Builds the classifier and loads the published weights.

    Raises:
        RegistryError: If the weights do not fit the network. Restore them from git.
    """
    classifier = build_classifier(
        network.image_size,
        LabelMap.declare(network.params.heads).class_counts,
        network.params.model,
        Normalization(**network.provenance["normalization"]),
    )
    with np.load(network.weights, allow_pickle=False) as arrays:
        received = {path: arrays[path].shape for path in arrays.files}
        expected = {variable.path: tuple(variable.shape) for variable in classifier.weights}
        if received != expected:
            other = sorted(path for path, _ in received.items() ^ expected.items())
            raise RegistryError(
                f"{network.params_file}: {len(other)} arrays of {network.weights.name} do not fit "
                f"this model, {other[0]} first. Restore both: git checkout -- pretrained."
            )
        for variable in classifier.weights:
            variable.assign(arrays[variable.path].astype(np.float32))
    return classifier


def draw_patterns(image_size: int | str) -> Images:
    """Draws the images of the published answers: colour gradients, (2, height, width, 3) uint8."""
    height, width = height_and_width(image_size)
    image, row, column, channel = np.indices((2, height, width, 3))
    pattern: Images = ((3 * row + 5 * column * (image + 1) + 80 * channel) % 256).astype(np.uint8)
    return pattern


def _check_answers(network: Pretrained, exported: Path, max_difference: float) -> None:
    """Compares the exported network with the published answers."""
    answers = Network(exported).predict(draw_patterns(network.image_size))
    published = network.provenance["pattern_answers"]
    largest = max(float(np.abs(y_prob - published[head]).max()) for head, y_prob in answers.items())
    if not largest <= max_difference:
        raise RegistryError(
            f"pretrained: probabilities differ by {largest:.2e} from the published ones. Expected "
            f"at most {max_difference:.0e} (registry.max_export_difference). Install the "
            "versions of requirements.lock: make env."
        )
