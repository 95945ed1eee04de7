from pathlib import Path

import keras
import numpy as np
import pytest
from conftest import ROOT

from person_attributes.config import ModelParams, Params, read_params
from person_attributes.evaluation.calibration import scale_heads
from person_attributes.labels import LabelMap
from person_attributes.modeling.backbones import build_backbone
from person_attributes.modeling.classifier import (
    Normalization,
    average_flips,
    build_classifier,
    freeze,
    scale_temperatures,
)

NORMALIZATION = Normalization(mean=[100.0, 110.0, 120.0], standard_deviation=[50.0, 60.0, 70.0])


@pytest.fixture(scope="module")
def article_model() -> ModelParams:
    return read_params(ROOT / "recipes" / "hvc.yaml").model


@pytest.fixture
def small(params: Params) -> ModelParams:
    return params.model.model_copy(update={"blocks": (1, 1, 1, 1)})


def _count(weights: list[keras.Variable]) -> int:
    return sum(int(np.prod(weight.shape)) for weight in weights)


def test_the_network_of_the_article_has_its_published_size(
    article_model: ModelParams, label_map: LabelMap
) -> None:
    classifier = build_classifier(100, label_map.class_counts, article_model, NORMALIZATION)
    assert classifier.count_params() == 8_123_355
    assert _count(classifier.trainable_weights) == 8_023_323


def test_blocks_6_12_24_16_equal_densenet121_of_keras(article_model: ModelParams) -> None:
    ours = build_backbone(article_model)
    theirs = keras.applications.DenseNet121(
        include_top=False, weights=None, input_shape=(None, None, 3)
    )
    assert [type(layer) for layer in ours.layers] == [type(layer) for layer in theirs.layers]
    theirs.set_weights(ours.get_weights())
    images = np.random.default_rng(0).normal(size=(2, 64, 64, 3)).astype(np.float32)
    np.testing.assert_allclose(ours(images), theirs(images), rtol=1e-4, atol=1e-5)


def test_probabilities_are_in_head_order_and_sum_to_one(
    small: ModelParams, label_map: LabelMap, random: np.random.Generator
) -> None:
    classifier = build_classifier(32, label_map.class_counts, small, NORMALIZATION)
    y_prob = classifier(random.integers(0, 256, (3, 32, 32, 3), dtype=np.uint8))
    assert list(y_prob) == list(label_map.heads)
    for head, count in label_map.class_counts.items():
        assert y_prob[head].shape == (3, count)
        np.testing.assert_allclose(np.sum(y_prob[head], axis=1), 1, rtol=1e-5)


def test_the_network_normalizes_pixels(small: ModelParams) -> None:
    classifier = build_classifier(32, {"a": 2}, small, NORMALIZATION)
    image = np.full((1, 32, 32, 3), (150, 50, 190), np.uint8)
    np.testing.assert_allclose(
        np.array(classifier.get_layer("rescale")(image))[0, 0, 0], [1.0, -1.0, 1.0], rtol=1e-5
    )


def test_weights_do_not_depend_on_the_image_size(small: ModelParams, tmp_path: Path) -> None:
    first = build_classifier(32, {"a": 2}, small, NORMALIZATION)
    first.save_weights(tmp_path / "a.weights.h5")
    second = build_classifier(64, {"a": 2}, small, NORMALIZATION)
    second.load_weights(tmp_path / "a.weights.h5")
    for ours, theirs in zip(first.get_weights(), second.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_the_momentum_applies_to_every_batch_norm(small: ModelParams) -> None:
    classifier = build_classifier(
        32, {"a": 2}, small.model_copy(update={"batch_norm_momentum": 0.7}), NORMALIZATION
    )
    layers = [*classifier.get_layer("backbone").layers, *classifier.layers]
    norms = [layer for layer in layers if isinstance(layer, keras.layers.BatchNormalization)]
    assert {norm.momentum for norm in norms} == {0.7}
    assert len(norms) > 5


def test_a_frozen_backbone_keeps_weights_and_statistics(
    small: ModelParams, random: np.random.Generator
) -> None:
    classifier = build_classifier(32, {"a": 2}, small, NORMALIZATION)
    freeze(classifier, "heads")
    backbone = classifier.get_layer("backbone")
    before = [np.copy(weight) for weight in backbone.get_weights()]
    dense = np.copy(classifier.get_layer("a").get_weights()[0])
    images = random.integers(0, 256, (8, 32, 32, 3), dtype=np.uint8)
    classifier.compile("adam", loss={"a": "categorical_crossentropy"})
    classifier.fit(images, {"a": np.eye(2, dtype=np.float32)[[0, 1] * 4]}, verbose=0)
    for old, new in zip(before, backbone.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    assert (dense != classifier.get_layer("a").get_weights()[0]).any()
    freeze(classifier, "all")
    assert len(classifier.trainable_weights) > 8


def test_temperatures_scale_probabilities_by_the_formula(
    small: ModelParams, label_map: LabelMap, random: np.random.Generator
) -> None:
    classifier = build_classifier(32, label_map.class_counts, small, NORMALIZATION)
    images = random.integers(0, 256, (4, 32, 32, 3), dtype=np.uint8)
    temperatures = {head: 0.5 + number / 4 for number, head in enumerate(label_map.heads)}
    served = scale_temperatures(average_flips(classifier), temperatures)(images)
    plain = {head: np.array(values) for head, values in average_flips(classifier)(images).items()}
    for head, expected in scale_heads(plain, temperatures).items():
        np.testing.assert_allclose(served[head], expected, atol=1e-6)
    assert list(served) == list(label_map.heads)
