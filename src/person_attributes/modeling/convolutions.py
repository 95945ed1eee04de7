"""The convolution with batch norm that residual networks share."""

import keras
from keras import layers


def add_conv_norm(
    x: keras.KerasTensor, channels: int, kernel: int, strides: int = 1, *, name: str
) -> keras.KerasTensor:
    """Adds a convolution with `same` padding and without bias, and a batch norm."""
    x = layers.Conv2D(
        channels,
        kernel,
        strides=strides,
        padding="same",
        use_bias=False,
        kernel_initializer="he_normal",
        name=f"{name}_conv",
    )(x)
    return layers.BatchNormalization(epsilon=1e-5, name=f"{name}_norm")(x)
