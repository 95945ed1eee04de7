"""The multi-head classifier."""

import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import keras
from keras import layers, ops

from person_attributes.config import ModelParams, NormalizationParams
from person_attributes.framing import height_and_width
from person_attributes.modeling.backbones import build_backbone
from person_attributes.modeling.necks import NECK, NECKS


@dataclass(frozen=True)
class Normalization:
    """The normalization of pixels at the start of the network.

    Attributes:
        mean: Mean of red, green and blue, in 0 to 255, that is subtracted.
        standard_deviation: Divisor of red, green and blue.
        per_image: Whether each image is then normalized to mean 0 and standard deviation 1.
    """

    mean: Sequence[float]
    standard_deviation: Sequence[float]
    per_image: bool = False

    def to_dict(self) -> dict[str, Any]:
        return {
            key: list(value) if key != "per_image" else value for key, value in asdict(self).items()
        }


def make_normalization(
    section: NormalizationParams, measure: Callable[[], tuple[list[float], list[float]]]
) -> Normalization:
    """Makes the normalization that the parameters describe.

    Args:
        section: The method, and the values of the method `fixed`.
        measure: Returns mean and standard deviation of the channels over the training rows.
    """
    if section.method == "channels":
        return Normalization(*measure())
    if section.method == "image":
        return Normalization([0.0] * 3, [255.0] * 3, per_image=True)
    return Normalization(section.mean, section.standard_deviation)


def build_classifier(
    image_size: int | str,
    class_counts: Mapping[str, int],
    model: ModelParams,
    normalization: Normalization,
) -> keras.Model:
    """Builds the multi-head classifier with random weights.

    The graph is `normalization → backbone → neck → a tower and a softmax per head`. It includes the
    normalization, so the input is raw pixels. Weights do not depend on `image_size`. Random weights
    and the seeds of dropout follow `keras.utils.set_random_seed`.

    Args:
        image_size: Height and width of the input in pixels, in the form of `params.yaml`.
        class_counts: Number of classes of each head, in output order.
        model: Backbone, neck, towers and initializer.
        normalization: Normalization of the pixels.

    Returns:
        A model from images, (n, height, width, 3) uint8 RGB, to a dict of probabilities,
        {head: (n, class_counts[head]) float32}.
    """
    images = keras.Input((*height_and_width(image_size), 3), dtype="uint8", name="image")
    features = build_backbone(model)(_normalize(images, normalization))
    vector = NECKS[model.neck](features)
    outputs = {head: _add_tower(vector, head, count, model) for head, count in class_counts.items()}
    classifier = keras.Model(images, outputs, name="person_attributes")
    if model.initializer != "own":
        _draw_kernels(classifier, model.initializer)
    return classifier


def _normalize(images: keras.KerasTensor, normalization: Normalization) -> keras.KerasTensor:
    # Rescaling has no weights and exports to ONNX; Normalization does not.
    rescale = layers.Rescaling(
        scale=[1 / deviation for deviation in normalization.standard_deviation],
        offset=[
            -mean / deviation
            for mean, deviation in zip(
                normalization.mean, normalization.standard_deviation, strict=True
            )
        ],
        name="rescale",
    )
    pixels = rescale(images)
    if not normalization.per_image:
        return pixels
    return layers.LayerNormalization(
        axis=[1, 2, 3], center=False, scale=False, epsilon=1e-6, name="standardize"
    )(pixels)


def _add_tower(
    vector: keras.KerasTensor, head: str, classes: int, model: ModelParams
) -> keras.KerasTensor:
    """Adds the tower of a head: batch norm, dropout and dense layers, and a softmax."""
    hidden = layers.BatchNormalization(
        momentum=model.batch_norm_momentum, name=f"{head}_batch_norm"
    )(vector)
    for number, units in enumerate(model.tower_units):
        suffix = f"_{number + 1}" if number else ""
        # Without a seed, PyTorch's dropout uses a global generator that no checkpoint contains.
        seed = random.randint(1, 10**9)
        hidden = layers.Dropout(model.dropout, seed=seed, name=f"{head}_dropout{suffix}")(hidden)
        hidden = layers.Dense(units, "relu", name=f"{head}_dense{suffix}")(hidden)
    # The softmax stays float32 under every precision policy.
    return layers.Dense(classes, "softmax", dtype="float32", name=head)(hidden)


def _draw_kernels(classifier: keras.Model, initializer: str) -> None:
    """Initializes the kernels of convolutions and dense layers with the given initializer.

    Depthwise and grouped convolutions keep their own: Keras would overestimate their fan-in.
    """
    for layer in [*classifier.get_layer("backbone").layers, *classifier.layers]:
        if isinstance(layer, layers.Conv2D | layers.Dense):
            draw = keras.initializers.get(initializer)
            layer.kernel.assign(draw(layer.kernel.shape, layer.kernel.dtype))


def freeze(classifier: keras.Model, trainable: str | float) -> None:
    """Sets which layers train.

    Frozen layers run in inference mode: their batch norms keep their statistics.

    Args:
        classifier: The network.
        trainable: `all`; `heads`, with a frozen backbone and neck; or a share in 0 to 1: heads,
            neck, and the last layers of the backbone, as a share of its layers with weights.
    """
    backbone = classifier.get_layer("backbone")
    backbone.trainable = trainable != "heads"
    classifier.get_layer(NECK).trainable = trainable != "heads"
    if trainable == "heads":
        return
    layers = [layer for layer in backbone.layers if layer.weights]
    share = trainable if isinstance(trainable, float) else 1.0
    frozen = len(layers) - math.ceil(share * len(layers))
    for number, layer in enumerate(layers):
        layer.trainable = number >= frozen


def scale_temperatures(network: keras.Model, temperatures: Mapping[str, float]) -> keras.Model:
    """Adds temperature scaling to a network.

    Args:
        network: The network; the new one shares its layers.
        temperatures: Divisor of the logits of each head.

    Returns:
        A model with the same input and output.
    """
    images = keras.Input(network.input.shape[1:], dtype="uint8", name="image")
    outputs = {}
    for head, probabilities in network(images).items():
        logits = ops.log(ops.maximum(probabilities, keras.config.epsilon())) / temperatures[head]
        outputs[head] = layers.Softmax(dtype="float32", name=head)(logits)
    return keras.Model(images, outputs, name="calibrated")


def average_flips(classifier: keras.Model) -> keras.Model:
    """Adds test-time augmentation: predictions are means over an image and its mirror image.

    Args:
        classifier: The network; the new one shares its layers.

    Returns:
        A model with the same input and output.
    """
    images = keras.Input(classifier.input.shape[1:], dtype="uint8", name="image")
    straight, mirrored = classifier(images), classifier(ops.flip(images, axis=2))
    outputs = {
        head: layers.Average(dtype="float32", name=head)([straight[head], mirrored[head]])
        for head in classifier.output
    }
    return keras.Model(images, outputs, name="flipped")
