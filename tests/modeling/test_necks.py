from pathlib import Path

import keras
import numpy as np
import numpy.typing as npt
import pytest

from person_attributes.config import Params
from person_attributes.modeling.classifier import Normalization, build_classifier
from person_attributes.modeling.necks import NECK, NECKS, GeneralizedMeanPooling2D


def _features(random: np.random.Generator) -> npt.NDArray[np.float32]:
    features: npt.NDArray[np.float32] = random.uniform(0, 3, (3, 4, 4, 5)).astype(np.float32)
    return features


def _pool(name: str, features: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    inputs = keras.Input(features.shape[1:])
    return np.array(keras.Model(inputs, NECKS[name](inputs))(features))


def test_average_and_maximum_are_concatenated(random: np.random.Generator) -> None:
    features = _features(random)
    expected = [features.mean(axis=(1, 2)), features.max(axis=(1, 2))]
    np.testing.assert_allclose(_pool("avg", features), expected[0], rtol=1e-5)
    np.testing.assert_allclose(
        _pool("avg_max", features), np.concatenate(expected, axis=1), rtol=1e-5
    )


def test_generalized_mean_is_between_mean_and_maximum(random: np.random.Generator) -> None:
    """Radenovic et al. 2018: exponent 1 is the mean, a large one approaches the maximum."""
    features = _features(random)
    layer = GeneralizedMeanPooling2D()
    cubed = np.cbrt((features.astype(np.float64) ** 3).mean(axis=(1, 2)))
    np.testing.assert_allclose(np.array(layer(features)), cubed, rtol=1e-4)
    layer.exponent.assign(1.0)
    np.testing.assert_allclose(np.array(layer(features)), features.mean(axis=(1, 2)), rtol=1e-4)
    layer.exponent.assign(60.0)
    np.testing.assert_allclose(np.array(layer(features)), features.max(axis=(1, 2)), rtol=0.06)


@pytest.mark.parametrize("neck", NECKS)
def test_every_neck_can_be_saved_and_loaded(params: Params, neck: str, tmp_path: Path) -> None:
    model = params.model.model_copy(update={"neck": neck, "blocks": (1, 1, 1, 1)})
    classifier = build_classifier(32, {"a": 2}, model, Normalization([0.0] * 3, [255.0] * 3))
    classifier.save(tmp_path / "a.keras")
    loaded = keras.models.load_model(tmp_path / "a.keras", compile=False)
    images = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), dtype=np.uint8)
    np.testing.assert_array_equal(np.array(loaded(images)["a"]), np.array(classifier(images)["a"]))
    assert loaded.get_layer(NECK) is not None
