"""Inception-v4 (Szegedy et al. 2016, https://arxiv.org/abs/1602.07261), which Keras lacks.

The functions follow figures 3 to 9 of the paper.
"""

import keras
from keras import layers


def build_inception_v4() -> keras.Model:
    """Builds the backbone, with 41,142,816 trainable weights."""
    images = keras.Input((None, None, 3))
    x = _add_stem(images)
    for _ in range(4):
        x = _add_inception_a(x)
    x = _add_reduction_a(x)
    for _ in range(7):
        x = _add_inception_b(x)
    x = _add_reduction_b(x)
    for _ in range(3):
        x = _add_inception_c(x)
    return keras.Model(images, x)


def _conv(
    x: keras.KerasTensor,
    channels: int,
    kernel: int | tuple[int, int],
    *,
    strides: int = 1,
    padding: str = "same",
) -> keras.KerasTensor:
    """Adds a convolution, batch norm and ReLU, like every convolution of the paper."""
    x = layers.Conv2D(
        channels,
        kernel,
        strides=strides,
        padding=padding,
        use_bias=False,
        kernel_initializer="he_normal",
    )(x)
    return layers.ReLU()(layers.BatchNormalization(epsilon=1e-3)(x))


def _halve(x: keras.KerasTensor) -> keras.KerasTensor:
    return layers.MaxPooling2D(3, strides=2, padding="valid")(x)


def _join(*branches: keras.KerasTensor) -> keras.KerasTensor:
    return layers.Concatenate()(list(branches))


def _add_stem(x: keras.KerasTensor) -> keras.KerasTensor:
    x = _conv(x, 32, 3, strides=2, padding="valid")
    x = _conv(x, 32, 3, padding="valid")
    x = _conv(x, 64, 3)
    x = _join(_halve(x), _conv(x, 96, 3, strides=2, padding="valid"))
    short = _conv(_conv(x, 64, 1), 96, 3, padding="valid")
    long = _conv(_conv(_conv(x, 64, 1), 64, (1, 7)), 64, (7, 1))
    x = _join(short, _conv(long, 96, 3, padding="valid"))
    return _join(_conv(x, 192, 3, strides=2, padding="valid"), _halve(x))


def _average(x: keras.KerasTensor, channels: int) -> keras.KerasTensor:
    return _conv(layers.AveragePooling2D(3, strides=1, padding="same")(x), channels, 1)


def _add_inception_a(x: keras.KerasTensor) -> keras.KerasTensor:
    return _join(
        _average(x, 96),
        _conv(x, 96, 1),
        _conv(_conv(x, 64, 1), 96, 3),
        _conv(_conv(_conv(x, 64, 1), 96, 3), 96, 3),
    )


def _add_reduction_a(x: keras.KerasTensor) -> keras.KerasTensor:
    long = _conv(_conv(x, 192, 1), 224, 3)
    return _join(
        _halve(x),
        _conv(x, 384, 3, strides=2, padding="valid"),
        _conv(long, 256, 3, strides=2, padding="valid"),
    )


def _add_inception_b(x: keras.KerasTensor) -> keras.KerasTensor:
    middle = _conv(_conv(_conv(x, 192, 1), 224, (1, 7)), 256, (7, 1))
    long = _conv(_conv(_conv(x, 192, 1), 192, (1, 7)), 224, (7, 1))
    long = _conv(_conv(long, 224, (1, 7)), 256, (7, 1))
    return _join(_average(x, 128), _conv(x, 384, 1), middle, long)


def _add_reduction_b(x: keras.KerasTensor) -> keras.KerasTensor:
    short = _conv(_conv(x, 192, 1), 192, 3, strides=2, padding="valid")
    long = _conv(_conv(_conv(x, 256, 1), 256, (1, 7)), 320, (7, 1))
    return _join(_halve(x), short, _conv(long, 320, 3, strides=2, padding="valid"))


def _add_inception_c(x: keras.KerasTensor) -> keras.KerasTensor:
    middle = _conv(x, 384, 1)
    long = _conv(_conv(_conv(x, 384, 1), 448, (1, 3)), 512, (3, 1))
    return _join(
        _average(x, 256),
        _conv(x, 256, 1),
        _conv(middle, 256, (1, 3)),
        _conv(middle, 256, (3, 1)),
        _conv(long, 256, (1, 3)),
        _conv(long, 256, (3, 1)),
    )
