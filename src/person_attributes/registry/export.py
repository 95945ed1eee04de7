"""Exports the network to ONNX, and compares its predictions with those of Keras."""

import logging
import math
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
from keras import layers, ops

from person_attributes.data.images import Images
from person_attributes.errors import RegistryError, one_line
from person_attributes.evaluation.gate import Condition
from person_attributes.serving.network import Network

_EXPORT_BATCH = 64


def export_network(classifier: keras.Model, path: Path, excluded_heads: Collection[str]) -> None:
    """Exports a network of `build_classifier` to ONNX.

    Args:
        classifier: The network with its weights. The backend must be TensorFlow.
        path: The `.onnx` file to write.
        excluded_heads: Heads that the exported network must not have.

    Raises:
        RegistryError: If the network cannot be converted, or ONNX Runtime cannot load the result.
            Choose another backbone.
    """
    served = {head: out for head, out in classifier.output.items() if head not in excluded_heads}
    classifier = _replace_layers(keras.Model(classifier.input, served))
    height, width, channels = classifier.input_shape[1:]
    # Keras exports only a model that was called.
    classifier(np.zeros((1, height, width, channels), np.uint8))
    # tf2onnx logs each operation that ONNX lacks; loading the file finds them too.
    logging.getLogger("tf2onnx").setLevel(logging.CRITICAL)
    try:
        classifier.export(path, format="onnx", verbose=False)
        Network(path)
    except OSError:  # such as a full disk; the command line prints it
        raise
    except Exception as error:  # of Keras, tf2onnx or ONNX Runtime
        raise RegistryError(
            "export: the network cannot be served by ONNX Runtime. Not registered. Set another "
            f"model.backbone. Received: {one_line(error, 300)}"
        ) from error


def _replace_layers(classifier: keras.Model) -> keras.Model:
    """Returns the same network without layers that tf2onnx cannot convert."""
    return keras.models.clone_model(
        classifier, clone_function=lambda layer: layer, call_function=_call, recursive=True
    )


def _call(layer: Any, *inputs: Any, **options: Any) -> Any:
    """Calls a layer, or one that computes the same."""
    if isinstance(layer, layers.Conv2D) and layer.groups > 1:
        # TensorFlow computes grouped convolutions with XLA, which tf2onnx cannot read.
        return _call_depthwise(layer, *inputs)
    if isinstance(layer, layers.Activation) and layer.activation is keras.activations.gelu:
        return layers.Activation(_gelu, name=layer.name)(*inputs)
    return layer(*inputs, **options)


def _call_depthwise(layer: layers.Conv2D, inputs: keras.KerasTensor) -> keras.KerasTensor:
    channels = inputs.shape[-1]
    assert layer.groups == channels, "the backbones have no other grouped convolutions"
    depthwise = layers.DepthwiseConv2D(
        layer.kernel_size,
        strides=layer.strides,
        padding=layer.padding,
        depth_multiplier=layer.filters // channels,
        use_bias=layer.use_bias,
        name=layer.name,
    )
    outputs = depthwise(inputs)
    kernel, *bias = layer.get_weights()
    depthwise.set_weights([kernel.reshape(depthwise.kernel.shape), *bias])
    return outputs


def _gelu(x: Any) -> Any:
    """Computes the GELU with the error function; Keras uses its complement, which ONNX lacks."""
    half = 0.5 * x
    return half + half * ops.erf(x / math.sqrt(2))  # tf2onnx fails to optimize 1 + erf


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
