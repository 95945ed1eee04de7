"""ResNeXt-50, 32 x 4d (Xie et al. 2017, https://arxiv.org/abs/1611.05431), which Keras lacks."""

from typing import Any

import keras
from keras import layers, ops

from person_attributes.modeling.convolutions import add_conv_norm

_GROUPS = 32
_STAGES = ((128, 3), (256, 4), (512, 6), (1024, 3))
"""Width of the grouped convolution and number of blocks of each stage."""

_EXPANSION = 2
"""Ratio of the output channels of a block to its width."""


@keras.saving.register_keras_serializable("person_attributes")
class GroupedConv2D(layers.Layer):
    """A 3 x 3 convolution within groups of channels, with `same` padding and without bias.

    TensorFlow has no gradient for grouped convolutions on CPUs, but for depthwise ones. So this
    layer computes the contribution of each channel to every output of its group, and sums them.
    """

    def __init__(self, groups: int, strides: int = 1, **options: Any) -> None:
        super().__init__(**options)
        self.groups = groups
        self.strides = strides

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        channels = input_shape[-1]
        assert channels is not None, "the number of channels is known"
        self.kernel = self.add_weight(
            shape=(3, 3, channels, channels // self.groups),
            # He et al. 2015 with the fan-in of one group; Keras counts the channels of all groups.
            initializer=keras.initializers.VarianceScaling(
                2.0 * self.groups, mode="fan_in", distribution="untruncated_normal"
            ),
            name="kernel",
        )

    def call(self, inputs: Any) -> Any:
        padded = ops.pad(inputs, [[0, 0], [1, 1], [1, 1], [0, 0]])
        parts = ops.depthwise_conv(padded, self.kernel, strides=self.strides, padding="valid")
        count, height, width, _ = ops.shape(parts)
        size = self.kernel.shape[-1]
        grouped = ops.reshape(parts, (count, height, width, self.groups, size, size))
        return ops.reshape(ops.sum(grouped, axis=-2), (count, height, width, self.groups * size))

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        count, height, width, channels = input_shape
        return (
            count,
            None if height is None else -(-height // self.strides),
            None if width is None else -(-width // self.strides),
            channels,
        )

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "groups": self.groups, "strides": self.strides}


def build_resnext50() -> keras.Model:
    """Builds the backbone, with 22,979,904 trainable weights, as in the paper's code."""
    images = keras.Input((None, None, 3))
    x = add_conv_norm(images, 64, kernel=7, strides=2, name="stem")
    x = layers.ReLU(name="stem_relu")(x)
    x = layers.MaxPooling2D(3, strides=2, padding="same", name="stem_pool")(x)
    for stage, (width, blocks) in enumerate(_STAGES, start=1):
        for block in range(1, blocks + 1):
            strides = 2 if block == 1 and stage > 1 else 1
            x = _add_block(
                x, width, strides, shortcut=block == 1, name=f"stage{stage}_block{block}"
            )
    return keras.Model(images, x)


def _add_block(
    x: keras.KerasTensor, width: int, strides: int, *, shortcut: bool, name: str
) -> keras.KerasTensor:
    """Adds one residual block: 1 x 1, grouped 3 x 3, 1 x 1."""
    channels = _EXPANSION * width
    rest = add_conv_norm(x, channels, 1, strides, name=f"{name}_shortcut") if shortcut else x
    x = layers.ReLU(name=f"{name}_1_relu")(add_conv_norm(x, width, 1, name=f"{name}_1"))
    x = GroupedConv2D(_GROUPS, strides, name=f"{name}_2_conv")(x)
    x = layers.BatchNormalization(epsilon=1e-5, name=f"{name}_2_norm")(x)
    x = layers.ReLU(name=f"{name}_2_relu")(x)
    x = add_conv_norm(x, channels, 1, name=f"{name}_3")
    return layers.ReLU(name=f"{name}_relu")(layers.Add(name=f"{name}_add")([x, rest]))
