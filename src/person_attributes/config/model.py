"""Sections on the network: backbone, normalisation, neck, towers, starting weights."""

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
"""Every backbone, and the least height and width of an image that it takes, in pixels."""

_Channels = Annotated[tuple[float, float, float], FROM_LIST]
_Deviations = Annotated[tuple[Positive, Positive, Positive], FROM_LIST]


class NormalizationParams(Section):
    """What the network does to pixels first.

    `channels` subtracts the mean of each channel over training rows and divides by its deviation;
    `image` does so with each image's own; `fixed` takes `mean` and `standard_deviation`, in 0 to
    255, which nothing else reads.
    """

    method: Literal["channels", "image", "fixed"]
    mean: _Channels
    standard_deviation: _Deviations


class StartingWeightsParams(Section):
    """Weights to start from in place of random ones.

    `source` is a `.weights.h5` or `.keras` file, or an MLflow model such as
    `models:/person-attributes@champion`; empty draws random weights. `part` says what of it is
    taken: `all`, or the `backbone` alone, for other heads.
    """

    source: str
    part: Literal["all", "backbone"]


class ResidualParams(Section):
    """The backbone `residual`, which alone reads it: `blocks` of each of `widths`.

    The stem brings images to a quarter of their sides: `space_to_depth` moves squares of 4 x 4
    pixels into channels in front of a 3 x 3 convolution; `convolution` is 7 x 7 with stride 2 and
    a maximum over 3 x 3. `stochastic_depth` is the probability that training skips the last block
    for an image; it rises evenly from the first block on.
    """

    widths: Annotated[tuple[Count, ...], FROM_LIST, Field(min_length=1)]
    blocks: Annotated[tuple[Count, ...], FROM_LIST, Field(min_length=1)]
    stem: Literal["space_to_depth", "convolution"]
    stochastic_depth: BelowOne

    @model_validator(mode="after")
    def _blocks_for_each_width(self) -> Self:
        if len(self.blocks) != len(self.widths):
            raise ValueError(
                f"expected as many blocks as widths. Received: {len(self.widths)} widths, "
                f"{len(self.blocks)} blocks"
            )
        return self


class ModelParams(Section):
    """The network: `normalisation → backbone → neck → a tower and a softmax per head`.

    `blocks` are layers in each block of the backbone `densenet`; no other reads them.
    `initializer` draws kernels of convolutions and dense layers; `own` leaves each its own. The
    neck makes a vector of the features: their mean (`avg`), mean and maximum (`avg_max`), or
    generalised mean (`gem`).
    `tower_units` are the widths of the dense layers in each tower, and `dropout` the share that
    is dropped before each.
    """

    backbone: str
    blocks: Annotated[tuple[Count, Count, Count, Count], FROM_LIST]
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
