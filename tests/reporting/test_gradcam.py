import keras
import numpy as np
import numpy.typing as npt
import pytest

from person_attributes.config import Params
from person_attributes.modeling.classifier import Normalization, build_classifier
from person_attributes.reporting.gradcam import GradCam
from person_attributes.reporting.plots import overlay_heatmap

_CLASSES = {"colour": 3, "shape": 2}


def _build(params: Params, neck: str, seed: int = 4) -> keras.Model:
    keras.utils.set_random_seed(seed)
    model = params.model.model_copy(update={"blocks": (1, 1, 1, 1), "neck": neck})
    return build_classifier(64, _CLASSES, model, Normalization([127.5] * 3, [127.5] * 3))


def _images(random: np.random.Generator) -> npt.NDArray[np.uint8]:
    return random.integers(0, 256, (3, 64, 64, 3), dtype=np.uint8)


def test_maps_match_the_formula_of_the_paper(params: Params, random: np.random.Generator) -> None:
    """The reference uses finite differences of the logit as gradients."""
    classifier = _build(params, "avg")
    images, answers = _images(random), np.array([0, 2, 1])
    neck = next(layer for layer in classifier.layers if layer.name.startswith("neck"))
    trunk = keras.Model(classifier.input, neck.input)
    hidden = keras.Model(neck.input, classifier.get_layer("colour").input)
    features = np.array(trunk(images), np.float64)
    kernel = np.array(classifier.get_layer("colour").kernel, np.float64)

    def logits(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        vectors = np.array(hidden(values.astype(np.float32)), np.float64)
        picked: npt.NDArray[np.float64] = (vectors @ kernel)[np.arange(3), answers]
        return picked

    step, places = 0.02, features.shape[1] * features.shape[2]
    weights = np.zeros((3, features.shape[-1]))
    for channel in range(features.shape[-1]):
        for row, column in np.ndindex(features.shape[1:3]):
            moved = features.copy()
            moved[:, row, column, channel] += step
            back = features.copy()
            back[:, row, column, channel] -= step
            weights[:, channel] += (logits(moved) - logits(back)) / (2 * step * places)
    expected = np.maximum(np.einsum("nhwc,nc->nhw", features, weights), 0)
    expected /= np.maximum(expected.max(axis=(1, 2), keepdims=True), 1e-12)
    maps = GradCam(classifier).explain(images, "colour", answers)
    np.testing.assert_allclose(maps, expected, atol=0.05)
    assert maps.shape == features.shape[:3]


@pytest.mark.parametrize("neck", ["avg", "avg_max", "gem"])
def test_maps_work_with_every_neck(params: Params, neck: str, random: np.random.Generator) -> None:
    gradcam, images = GradCam(_build(params, neck)), _images(random)
    maps = np.concatenate(
        [gradcam.explain(images, "shape", np.full(3, number)) for number in range(2)]
    )
    assert ((maps >= 0) & (maps <= 1)).all()
    assert set(maps.max(axis=(1, 2)).tolist()) <= {0.0, 1.0}
    assert maps.max() == 1  # a negative contribution to one class is positive for the other


def test_the_map_of_an_ensemble_is_the_mean_of_its_members(
    params: Params, random: np.random.Generator
) -> None:
    members, images = [_build(params, "avg", seed) for seed in (4, 5)], _images(random)
    answers = np.array([0, 1, 0])
    each = [GradCam(member).explain(images, "shape", answers) for member in members]
    assert not np.allclose(each[0], each[1])
    mean = np.mean(each, axis=0)
    expected = mean / np.maximum(mean.max(axis=(1, 2), keepdims=True), 1e-12)
    maps = GradCam(*members).explain(images, "shape", answers)
    np.testing.assert_allclose(maps, expected, atol=1e-6)


def test_a_map_is_overlaid_on_its_image() -> None:
    image = np.full((40, 40, 3), 90, np.uint8)
    heat = np.zeros((2, 2), np.float32)
    heat[0, 0] = 1
    shown = overlay_heatmap(image, heat).astype(int)
    assert shown.shape == image.shape
    assert shown[2, 2].sum() > shown[38, 38].sum() + 150
