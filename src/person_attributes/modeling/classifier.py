"""The multi-head classifier."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import keras
from keras import layers

from person_attributes.config import ModelParams
from person_attributes.modeling.backbones import build_backbone


@dataclass(frozen=True)
class Normalization:
    """What the network subtracts and divides by, for red, green and blue, in 0 to 255."""

    mean: Sequence[float]
    standard_deviation: Sequence[float]

    def to_dict(self) -> dict[str, list[float]]:
        return {key: list(value) for key, value in asdict(self).items()}


def build_classifier(
    image_size: int,
    class_counts: Mapping[str, int],
    model: ModelParams,
    normalization: Normalization,
) -> keras.Model:
    """Builds the multi-head classifier with random weights.

    The graph is `rescale → backbone → neck → a tower and a softmax per head`. Normalising is part
    of it: feed raw pixels. Weights do not depend on `image_size`. What is drawn, weights and the
    seeds of dropout, follows `keras.utils.set_random_seed`.

    Args:
        image_size: Height and width of the input, in pixels.
        class_counts: Number of classes of each head, in output order.
        model: Backbone, tower width and dropout rate.
        normalization: Mean and standard deviation of each channel over training rows.

    Returns:
        A model from images, (n, image_size, image_size, 3) uint8 RGB, to a dict of probabilities,
        {head: (n, class_counts[head]) float32}.
    """
    images = keras.Input((image_size, image_size, 3), dtype="uint8", name="image")
    # Rescaling holds no weights, and exports to ONNX where Normalization does not.
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
    features = build_backbone(model)(rescale(images))
    vector = layers.GlobalAveragePooling2D(name="neck")(features)
    outputs = {head: _add_tower(vector, head, count, model) for head, count in class_counts.items()}
    return keras.Model(images, outputs, name="person_attributes")


def _add_tower(
    vector: keras.KerasTensor, head: str, classes: int, model: ModelParams
) -> keras.KerasTensor:
    """Puts batch norm, dropout and a dense layer in front of a head's softmax."""
    normalize = layers.BatchNormalization(
        momentum=model.batch_norm_momentum, name=f"{head}_batch_norm"
    )
    # With no seed given, PyTorch's dropout draws from its global generator, which no backup holds.
    seed = random.randint(1, 10**9)
    hidden = layers.Dropout(model.dropout, seed=seed, name=f"{head}_dropout")(normalize(vector))
    hidden = layers.Dense(model.tower_units, "relu", name=f"{head}_dense")(hidden)
    # The softmax stays float32 where a precision policy computes in less.
    return layers.Dense(classes, "softmax", dtype="float32", name=head)(hidden)


def freeze(classifier: keras.Model, trainable: str) -> None:
    """Chooses what trains: `all` layers, or the `heads` on a frozen backbone.

    A frozen backbone runs in inference mode: its batch norms keep their statistics.
    """
    classifier.get_layer("backbone").trainable = trainable == "all"
