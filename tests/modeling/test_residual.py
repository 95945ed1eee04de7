"""The residual backbone: sizes, stem and stochastic depth."""

import keras
import numpy as np
import pytest
from pydantic import ValidationError

from person_attributes.config import Params, ResidualParams
from person_attributes.modeling.residual import SpaceToDepth, build_residual

RESNET18 = 11_176_512
"""Trainable weights of the ResNet-18 of PyTorch without its top."""


@pytest.fixture
def tiny(params: Params) -> ResidualParams:
    return params.model.residual.model_copy(update={"widths": (4, 8), "blocks": (2, 1)})


def test_the_widths_of_resnet18_give_its_size(params: Params) -> None:
    residual = params.model.residual.model_copy(
        update={"widths": (64, 128, 256, 512), "blocks": (2, 2, 2, 2), "stem": "convolution"}
    )
    trunk = build_residual(residual)
    assert sum(int(np.prod(weight.shape)) for weight in trunk.trainable_weights) == RESNET18


@pytest.mark.parametrize("stem", ["space_to_depth", "convolution"])
def test_each_further_width_halves_height_and_width(tiny: ResidualParams, stem: str) -> None:
    trunk = build_residual(tiny.model_copy(update={"stem": stem}))
    assert trunk(np.zeros((2, 48, 32, 3), np.float32)).shape == (2, 6, 4, 8)
    assert trunk(np.zeros((1, 50, 33, 3), np.float32)).shape == (1, 7, 5, 8)


def test_space_to_depth_keeps_every_pixel(random: np.random.Generator) -> None:
    images = random.normal(size=(2, 7, 8, 3)).astype(np.float32)
    squares = np.asarray(SpaceToDepth(4)(images))
    assert squares.shape == (2, 2, 2, 48)
    square = images[1, 4:, 4:8]  # the last row of squares is padded with zeros
    np.testing.assert_array_equal(squares[1, 1, 1].reshape(4, 4, 3)[:3], square)
    assert not squares[1, 1, 1].reshape(4, 4, 3)[3].any()


def test_stochastic_depth_rises_to_the_last_block(tiny: ResidualParams) -> None:
    trunk = build_residual(tiny.model_copy(update={"stochastic_depth": 0.3}))
    dropped = [layer for layer in trunk.layers if isinstance(layer, keras.layers.Dropout)]
    assert [layer.rate for layer in dropped] == pytest.approx([0.1, 0.2, 0.3])
    kept = np.asarray(dropped[-1](np.ones((64, 2, 2, 1), np.float32), training=True))
    assert all(len(np.unique(image)) == 1 for image in kept), "whole images are dropped"
    assert {0.0} < {round(float(value), 3) for value in np.unique(kept)} <= {0.0, 1.429}


def test_blocks_and_widths_must_have_the_same_length(tiny: ResidualParams) -> None:
    with pytest.raises(ValidationError, match="expected one number of blocks for each width"):
        ResidualParams.model_validate(tiny.model_dump() | {"blocks": (1, 1, 1)})
