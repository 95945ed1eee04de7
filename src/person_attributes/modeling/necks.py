"""Necks: pooling layers between the backbone and the towers."""

from collections.abc import Callable, Mapping
from typing import Any

import keras
from keras import layers, ops

NECK = "neck"
"""Name of the layer whose output is the feature vector."""


@keras.saving.register_keras_serializable("person_attributes")
class GeneralizedMeanPooling2D(layers.Layer):
    """Generalized mean over height and width (Radenovic et al. 2018).

    The exponent is trainable and starts at 3, the paper's value. Exponent 1 is the mean, and large
    exponents approach the maximum. Features are clipped at 1e-6 from below.
    """

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        self.exponent = self.add_weight(
            shape=(), initializer=keras.initializers.Constant(3.0), name="exponent"
        )

    def call(self, inputs: Any) -> Any:
        # Always float32: powers leave the range of float16.
        features = ops.maximum(ops.cast(inputs, "float32"), 1e-6)
        exponent = ops.cast(self.exponent, "float32")
        mean = ops.mean(ops.power(features, exponent), axis=(1, 2))
        return ops.cast(ops.power(mean, 1 / exponent), inputs.dtype)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        return (input_shape[0], input_shape[-1])


def _average(features: keras.KerasTensor) -> keras.KerasTensor:
    return layers.GlobalAveragePooling2D(name=NECK)(features)


def _average_and_maximum(features: keras.KerasTensor) -> keras.KerasTensor:
    average = layers.GlobalAveragePooling2D(name="neck_average")(features)
    maximum = layers.GlobalMaxPooling2D(name="neck_maximum")(features)
    return layers.Concatenate(name=NECK)([average, maximum])


def _generalized_mean(features: keras.KerasTensor) -> keras.KerasTensor:
    return GeneralizedMeanPooling2D(name=NECK)(features)


NECKS: Mapping[str, Callable[[keras.KerasTensor], keras.KerasTensor]] = {
    "avg": _average,
    "avg_max": _average_and_maximum,
    "gem": _generalized_mean,
}
"""Builders by name; they map features (n, height, width, channels) to (n, channels)."""
