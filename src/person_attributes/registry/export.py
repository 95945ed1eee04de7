"""Exports the network to ONNX, and compares its predictions with those of Keras."""

from collections.abc import Collection, Mapping
from pathlib import Path

import keras
import numpy as np
import numpy.typing as npt

from person_attributes.data.images import Images
from person_attributes.errors import RegistryError
from person_attributes.evaluation.gate import Condition
from person_attributes.serving.network import Network

_EXPORT_BATCH = 64


def export_network(classifier: keras.Model, path: Path, excluded_heads: Collection[str]) -> None:
    """Exports a network of `build_classifier` to ONNX.

    Args:
        classifier: The network with its weights. The backend must be TensorFlow.
        path: The `.onnx` file to write.
        excluded_heads: Heads that the exported network must not have.
    """
    served = {head: out for head, out in classifier.output.items() if head not in excluded_heads}
    classifier = keras.Model(classifier.input, served)
    height, width, channels = classifier.input_shape[1:]
    # Keras exports only a model that was called.
    classifier(np.zeros((1, height, width, channels), np.uint8))
    classifier.export(path, format="onnx", verbose=False)


def check_export(
    network: Path,
    images: Images,
    positions: npt.NDArray[np.intp],
    y_prob: Mapping[str, npt.NDArray[np.float32]],
    max_difference: float,
) -> Condition:
    """Compares the exported network with Keras on real rows.

    Args:
        network: The `.onnx` file.
        images: A pack.
        positions: The positions of the rows in the pack, (n,).
        y_prob: Keras' probabilities for those rows, `{head: (n, classes)}`.
        max_difference: The largest accepted difference in probability.

    Returns:
        A condition of the gate that holds.

    Raises:
        RegistryError: If a probability differs by more. Do not serve this export.
    """
    largest = _find_largest_difference(Network(network), images, positions, y_prob)
    if not largest <= max_difference:
        raise RegistryError(
            f"export: ONNX Runtime and Keras differ by {largest:.2e} in probability. Expected at "
            f"most {max_difference:.0e} (registry.max_export_difference). Not registered."
        )
    return Condition(
        "export",
        f"probabilities of Keras, within {max_difference:.0e}",
        f"largest difference {largest:.1e} on {len(positions)} rows",
        holds=True,
    )


def _find_largest_difference(
    network: Network,
    images: Images,
    positions: npt.NDArray[np.intp],
    y_prob: Mapping[str, npt.NDArray[np.float32]],
) -> float:
    largest = 0.0
    for begin in range(0, len(positions), _EXPORT_BATCH):
        part = positions[begin : begin + _EXPORT_BATCH]
        predicted = network.predict(images[part])
        if set(predicted) != set(y_prob):
            raise RegistryError(
                f"export: the network's heads changed. Expected {', '.join(y_prob)}. Received: "
                f"{', '.join(predicted)}. Report this with the versions of Keras and tf2onnx."
            )
        for head, expected in y_prob.items():
            difference = np.abs(predicted[head] - expected[begin : begin + len(part)]).max()
            largest = max(largest, float(difference))
    return largest
