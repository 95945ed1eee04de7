"""Residual networks of configurable width and depth (He et al. 2016, arXiv 1512.03385)."""

import random
from typing import Any

import keras
from keras import layers, ops

from person_attributes.config import ResidualParams
from person_attributes.modeling.convolutions import add_conv_norm

_STEM_STRIDE = 4
"""Stride of the whole stem, as in the paper's ResNets."""


@keras.saving.register_keras_serializable("person_attributes")
class SpaceToDepth(layers.Layer):
    """Moves squares of pixels into channels (Shi et al. 2016); pads bottom and right with zeros."""

    def __init__(self, size: int, **options: Any) -> None:
        super().__init__(**options)
        self.size = size

    def call(self, inputs: Any) -> Any:
        _, height, width, channels = ops.shape(inputs)
        size = self.size
        rows, columns = -(-height // size), -(-width // size)
        missing = [[0, rows * size - height], [0, columns * size - width]]
        padded = ops.pad(inputs, [[0, 0], *missing, [0, 0]])
        squares = ops.reshape(padded, (-1, rows, size, columns, size * channels))
        stacked = ops.transpose(squares, (0, 1, 3, 2, 4))
        return ops.reshape(stacked, (-1, rows, columns, size * size * channels))

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        count, height, width, channels = input_shape
        assert channels is not None, "the number of channels is known"
        return (
            count,
            None if height is None else -(-height // self.size),
            None if width is None else -(-width // self.size),
            channels * self.size**2,
        )

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "size": self.size}


def build_residual(residual: ResidualParams) -> keras.Model:
    """Builds the backbone from basic blocks: two 3 x 3 convolutions and a shortcut.

    The widths 64, 128, 256, 512 with two blocks each are a ResNet-18, except that shortcuts pool
    before their convolution (ResNet-D of He et al. 2019, https://arxiv.org/abs/1812.01187).

    Args:
        residual: Widths, blocks, stem and stochastic depth.

    Returns:
        A model from images (n, height, width, 3) float32 to features (n, height / s, width / s,
        channels) float32, where s is 4 for one width and doubles with each further width.
    """
    images = keras.Input((None, None, 3))
    x = _add_stem(images, residual)
    total, built = sum(residual.blocks), 0
    for stage, (width, blocks) in enumerate(
        zip(residual.widths, residual.blocks, strict=True), start=1
    ):
        for block in range(1, blocks + 1):
            built += 1
            strides = 2 if block == 1 and stage > 1 else 1
            x = _add_block(
                x,
                width,
                strides,
                dropped=residual.stochastic_depth * built / total,
                name=f"stage{stage}_block{block}",
            )
    return keras.Model(images, x)


def _add_stem(images: keras.KerasTensor, residual: ResidualParams) -> keras.KerasTensor:
    """Adds the stem, which reduces height and width to a quarter."""
    width = residual.widths[0]
    if residual.stem == "space_to_depth":
        squares = SpaceToDepth(_STEM_STRIDE, name="stem_squares")(images)
        return _conv_norm_relu(squares, width, name="stem")
    x = _conv_norm_relu(images, width, kernel=7, strides=2, name="stem")
    return layers.MaxPooling2D(3, strides=2, padding="same", name="stem_pool")(x)


def _add_block(
    x: keras.KerasTensor, width: int, strides: int, *, dropped: float, name: str
) -> keras.KerasTensor:
    """Adds one residual block; training skips its residual with the probability `dropped`."""
    rest = _conv_norm_relu(x, width, strides=strides, name=f"{name}_1")
    rest = add_conv_norm(rest, width, kernel=3, name=f"{name}_2")
    if dropped:
        # Stochastic depth (Huang et al. 2016), per image. The seed is drawn like in the towers.
        rest = layers.Dropout(
            dropped,
            noise_shape=(None, 1, 1, 1),
            seed=random.randint(1, 10**9),
            name=f"{name}_stochastic_depth",
        )(rest)
    shortcut = _add_shortcut(x, width, strides, name=f"{name}_shortcut")
    return layers.ReLU(name=f"{name}_relu")(layers.Add(name=f"{name}_add")([rest, shortcut]))


def _add_shortcut(
    x: keras.KerasTensor, width: int, strides: int, *, name: str
) -> keras.KerasTensor:
    """Adapts the input of a block to the shape of its output, if the shapes differ."""
    if strides > 1:
        x = layers.AveragePooling2D(strides, padding="same", name=f"{name}_pool")(x)
    if x.shape[-1] == width:
        return x
    return add_conv_norm(x, width, kernel=1, name=name)


def _conv_norm_relu(
    x: keras.KerasTensor, width: int, kernel: int = 3, strides: int = 1, *, name: str
) -> keras.KerasTensor:
    x = add_conv_norm(x, width, kernel, strides, name=name)
    return layers.ReLU(name=f"{name}_relu")(x)
