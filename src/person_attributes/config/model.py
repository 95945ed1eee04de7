"""Sections for the network: backbone, normalization, neck, towers, starting weights."""

from collections.abc import Mapping
from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from person_attributes.config.fields import (
    FROM_LIST,
    BelowOne,
    Between,
    Count,
    Positive,
    Section,
)
from person_attributes.errors import suggest

SMALLEST_SIZES: Mapping[str, int] = {
    "densenet": 32,
    "densenet121": 32,
    "densenet169": 32,
    "densenet201": 32,
    "resnet50": 32,
    "resnet50v2": 32,
    "resnext50": 32,
    "inception_v3": 75,
    "inception_v4": 75,
    "inception_resnet_v2": 75,
    "xception": 71,
    "mobilenet_v3_small": 32,
    "mobilenet_v3_large": 32,
    "efficientnet_b0": 32,
    "efficientnet_b3": 32,
    "efficientnet_v2_b0": 32,
    "efficientnet_v2_s": 32,
    "convnext_tiny": 32,
    "residual": 32,
}
"""All backbones, each with the smallest height and width that it accepts, in pixels."""

_CHANNELS = Field(min_length=3, max_length=3)


class NormalizationParams(Section):
    """Normalization of pixels, the first layer of the network.

    It subtracts a mean and divides by a standard deviation. `channels` computes them per channel
    over the training rows, `image` over each image. `fixed` uses `mean` and `standard_deviation`,
    on the scale of 0 to 255; the other methods ignore these two.
    """

    method: Literal["channels", "image", "fixed"]
    mean: Annotated[tuple[float, ...], FROM_LIST, _CHANNELS]
    standard_deviation: Annotated[tuple[Positive, ...], FROM_LIST, _CHANNELS]


class StartingWeightsParams(Section):
    """Pretrained weights to start from.

    `source` is a `.weights.h5` or `.keras` file, or an MLflow model such as
    `models:/person-attributes@champion`. An empty source means random weights. `part` chooses what
    is loaded: `all` weights, or only the `backbone`, for a network with other heads.
    """

    source: str
    part: Literal["all", "backbone"]

    @property
    def is_model(self) -> bool:
        """Whether the source is an MLflow model, as opposed to a path."""
        return self.source.startswith(("models:/", "runs:/"))


class ResidualParams(Section):
    """The backbone `residual`: numbers of `blocks` and their `widths`, one of each per stage.

    The stem reduces height and width to a quarter. `space_to_depth` moves squares of 4 x 4 pixels
    into channels, followed by a 3 x 3 convolution. `convolution` is a 7 x 7 convolution with stride
    2, followed by 3 x 3 max pooling. `stochastic_depth` is the probability that training skips the
    last block for an image; it increases linearly from the first block to the last.
    """

    widths: Annotated[tuple[Count, ...], FROM_LIST, Field(min_length=1)]
    blocks: Annotated[tuple[Count, ...], FROM_LIST, Field(min_length=1)]
    stem: Literal["space_to_depth", "convolution"]
    stochastic_depth: BelowOne

    @model_validator(mode="after")
    def _blocks_for_each_width(self) -> Self:
        if len(self.blocks) != len(self.widths):
            raise ValueError(
                f"expected one number of blocks for each width. Received: {len(self.widths)} "
                f"widths, {len(self.blocks)} numbers of blocks"
            )
        return self


class ModelParams(Section):
    """The network: `normalization → backbone → neck → a tower and a softmax per head`.

    `blocks` are the numbers of layers in the blocks of the backbone `densenet`; other backbones
    ignore them. `initializer` initializes the kernels of convolutions and dense layers; `own`
    keeps the default of each layer. The neck pools the features into a vector: their mean (`avg`),
    mean and maximum (`avg_max`), or generalized mean (`gem`). `tower_units` are the widths of the
    dense layers in each tower; `dropout` is the dropout rate before each of them.
    """

    backbone: str
    blocks: Annotated[tuple[Count, ...], FROM_LIST, Field(min_length=4, max_length=4)]
    residual: ResidualParams
    normalization: NormalizationParams
    initializer: Literal[
        "own",
        "glorot_uniform",
        "glorot_normal",
        "he_uniform",
        "he_normal",
        "lecun_normal",
        "orthogonal",
    ]
    starting_weights: StartingWeightsParams
    batch_norm_momentum: Between
    neck: Literal["avg", "avg_max", "gem"]
    tower_units: Annotated[tuple[Count, ...], FROM_LIST]
    dropout: BelowOne

    @field_validator("backbone")
    @classmethod
    def _is_known(cls, backbone: str) -> str:
        if backbone not in SMALLEST_SIZES:
            known = list(SMALLEST_SIZES)
            raise ValueError(
                f"unknown backbone {backbone!r}.{suggest(backbone, known)} "
                f"Expected one of {', '.join(known)}"
            )
        return backbone
