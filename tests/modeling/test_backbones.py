"""The contract of all backbones, and their published sizes."""

from typing import Any

import keras
import numpy as np
import pytest

from person_attributes.config import SMALLEST_SIZES, ModelParams, Params
from person_attributes.modeling.backbones import BACKBONES, build_backbone
from person_attributes.modeling.classifier import Normalization, build_classifier, freeze
from person_attributes.modeling.resnext import GroupedConv2D

PUBLISHED = {
    # Published sizes (https://arxiv.org/abs/1611.05431 and the papers' code), without the top of
    # 1000 classes.
    "resnext50": 25_028_904 - (2048 * 1000 + 1000),
    "inception_v4": 42_679_816 - (1536 * 1000 + 1000),
}


def _model(params: Params, backbone: str) -> ModelParams:
    return params.model.model_copy(update={"backbone": backbone, "blocks": (1, 1, 1, 1)})


def _count(weights: list[Any]) -> int:
    return sum(int(np.prod(weight.shape)) for weight in weights)


def test_every_name_in_params_can_be_built() -> None:
    assert set(BACKBONES) == set(SMALLEST_SIZES)


LARGER = {"densenet121", "densenet169", "densenet201", "mobilenet_v3_large"}
LARGER |= {"efficientnet_b3", "efficientnet_v2_s"}
"""Larger variants of other backbones; they are built but not trained."""


@pytest.mark.parametrize("backbone", SMALLEST_SIZES)
def test_a_backbone_satisfies_the_contract(
    params: Params, backbone: str, random: np.random.Generator
) -> None:
    """It accepts its smallest image size, returns 4-D features, and can be frozen and trained."""
    size = SMALLEST_SIZES[backbone]
    classifier = build_classifier(
        size, {"a": 2}, _model(params, backbone), Normalization([128.0] * 3, [64.0] * 3)
    )
    trunk = classifier.get_layer("backbone")
    assert len(trunk.output.shape) == 4
    assert not [layer for layer in trunk.layers if isinstance(layer, keras.layers.Rescaling)]
    norms = [layer for layer in trunk.layers if isinstance(layer, keras.layers.BatchNormalization)]
    assert {norm.momentum for norm in norms} <= {params.model.batch_norm_momentum}
    freeze(classifier, "heads")
    assert not trunk.trainable_weights
    freeze(classifier, "all")
    assert trunk.trainable_weights
    if backbone in LARGER:
        return

    images = random.integers(0, 256, (2, size, size, 3), dtype=np.uint8)
    kernels = [layer for layer in trunk.layers if hasattr(layer, "kernel")]
    first, last = kernels[0].kernel.numpy(), kernels[-1].kernel.numpy()
    assert np.isfinite(_step(classifier, images, {"a": np.eye(2, dtype=np.float32)}))
    assert (kernels[0].kernel.numpy() != first).any(), "the gradient reaches the first layer"
    assert (kernels[-1].kernel.numpy() != last).any()
    for norm in norms[:1]:
        assert (norm.moving_mean.numpy() != 0).any()


def _step(classifier: keras.Model, images: Any, target: Any) -> float:
    """Runs one step of gradient descent without tracing; returns the loss."""
    classifier.compile(
        keras.optimizers.SGD(0.5), loss={"a": "categorical_crossentropy"}, run_eagerly=True
    )
    return float(classifier.train_on_batch(images, target))


@pytest.mark.parametrize("backbone", PUBLISHED)
def test_networks_that_keras_lacks_have_their_published_size(params: Params, backbone: str) -> None:
    trunk = build_backbone(_model(params, backbone))
    assert _count(trunk.trainable_weights) == PUBLISHED[backbone]


def test_grouped_convolution_equals_one_convolution_per_group(random: np.random.Generator) -> None:
    inputs = random.normal(size=(2, 9, 9, 8)).astype(np.float32)
    for strides in (1, 2):
        layer = GroupedConv2D(groups=2, strides=strides)
        outputs = np.array(layer(inputs))
        kernel = np.array(layer.kernel)  # (3, 3, channels in, channels out of a group)
        for group in range(2):
            part = slice(4 * group, 4 * group + 4)
            padded = np.pad(inputs[..., part], ((0, 0), (1, 1), (1, 1), (0, 0)))
            expected = keras.ops.conv(padded, kernel[:, :, part], strides=strides, padding="valid")
            np.testing.assert_allclose(outputs[..., part], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("share", "frozen"), [(0.5, 0.5), (0.1, 0.9)])
def test_a_share_of_the_backbone_trains(params: Params, share: float, frozen: float) -> None:
    classifier = build_classifier(
        32, {"a": 2}, params.model, Normalization([128.0] * 3, [64.0] * 3)
    )
    freeze(classifier, share)
    layers = [layer for layer in classifier.get_layer("backbone").layers if layer.weights]
    states = [layer.trainable for layer in layers]
    assert states == sorted(states), "the first layers are frozen, the last ones train"
    assert np.mean(states) == pytest.approx(1 - frozen, abs=1 / len(layers))
    freeze(classifier, "all")
    assert all(layer.trainable for layer in layers), "a later phase trains everything again"
