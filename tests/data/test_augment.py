import warnings
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from person_attributes.config import AugmentationParams, Params
from person_attributes.data.augment import Augmenter, _known_augmenters, check_policies
from person_attributes.errors import ParamsError


def _policy(params: Params, *augmenters: dict[str, Any]) -> AugmentationParams:
    return params.augmentation["none"].model_copy(update={"augmenters": augmenters})


@pytest.fixture
def images(random: np.random.Generator) -> npt.NDArray[np.uint8]:
    return random.integers(0, 256, (11, 32, 32, 3), dtype=np.uint8)


@pytest.mark.parametrize("policy", ["standard", "aggressive"])
def test_policies_keep_shape_and_dtype_and_do_not_modify_the_input(
    images: npt.NDArray[np.uint8], params: Params, policy: str
) -> None:
    original = images.copy()
    changed = Augmenter(params.augmentation[policy])(images, seed=1)
    assert (changed.shape, str(changed.dtype)) == (images.shape, "uint8")
    assert (changed != images).any(axis=(1, 2, 3)).all()
    np.testing.assert_array_equal(images, original)


def test_a_list_of_two_numbers_is_a_range(params: Params) -> None:
    line = np.zeros((200, 100, 100, 3), np.uint8)
    line[:, :, 50] = 255
    policy = _policy(params, {"Affine": {"translate_percent": {"x": [-0.2, 0.2]}, "mode": "edge"}})
    columns = Augmenter(policy)(line, seed=1)[:, 50, :, 0].argmax(axis=1)
    assert 28 <= columns.min() <= 33
    assert 67 <= columns.max() <= 72
    assert len(set(columns)) > 20


def test_a_choice_samples_one_of_its_values(params: Params) -> None:
    grey = np.full((200, 8, 8, 3), 100, np.uint8)
    changed = Augmenter(_policy(params, {"Add": {"value": {"choice": [-50, 50]}}}))(grey, seed=1)
    assert set(changed.ravel()) == {50, 150}


def test_augmenters_can_contain_augmenters(params: Params) -> None:
    inner = [{"Add": {"value": {"choice": [50]}}}]
    policy = _policy(params, {"Sometimes": {"p": 0.5, "then_list": inner}})
    grey = np.full((400, 8, 8, 3), 100, np.uint8)
    changed = Augmenter(policy)(grey, seed=1)[:, 0, 0, 0]
    assert set(changed) == {100, 150}
    assert 0.4 < (changed == 150).mean() < 0.6


def _erase(params: Params, images: npt.NDArray[np.uint8], **arguments: Any) -> Any:
    erasing = {"p": 1.0, "area": [0.05, 0.1], "aspect": [0.5, 1.0], "fill": "noise"} | arguments
    return Augmenter(_policy(params, {"RandomErasing": erasing}))(images, seed=1)


def test_random_erasing_respects_probability_area_and_aspect(params: Params) -> None:
    black = np.zeros((400, 64, 64, 3), np.uint8)
    erased = _erase(params, black, p=0.5) != 0
    shares = erased.any(axis=3).mean(axis=(1, 2))
    assert 0.4 < (shares > 0).mean() < 0.6
    assert 0.04 < shares[shares > 0].min() < shares.max() < 0.11
    box = np.argwhere(erased[shares.argmax()].any(axis=2))
    height, width = box.max(axis=0) - box.min(axis=0) + 1
    assert 0.45 <= height / width <= 1.1


def test_boxes_that_do_not_fit_are_drawn_again(params: Params) -> None:
    """The article's box has a mean area of .082; limiting boxes to the image gives .104."""
    black = np.zeros((1000, 100, 100, 3), np.uint8)
    erased = _erase(params, black, area=[0.01, 0.2], aspect=[0.1, 1.0], fill=[1, 1, 1])
    assert erased.any(axis=(1, 2, 3)).all()
    assert abs(erased[..., 0].mean() - 0.082) < 0.006


def test_a_fill_is_noise_one_grey_level_or_a_colour(params: Params) -> None:
    black = np.zeros((50, 32, 32, 3), np.uint8)
    levels = [set(image[image > 0]) for image in _erase(params, black, fill="constant")]
    assert all(len(values) <= 1 for values in levels)
    assert len(set.union(*levels)) > 20
    assert len(set(_erase(params, black[:1], fill="noise").ravel())) > 50
    coloured = _erase(params, black, fill=[9, 8, 7]).reshape(-1, 3)
    assert {tuple(pixel) for pixel in coloured} == {(0, 0, 0), (9, 8, 7)}


@pytest.mark.parametrize(
    ("augmenter", "message"),
    [
        (
            {"Flipl": {"p": 0.5}},
            r"none\.augmenters\.0: Flipl: imgaug has no augmenter .* 'Fliplr'",
        ),
        ({"Fliplr": {"q": 0.5}}, r"Fliplr: unknown argument 'q'\. .*Expected one of p, "),
        ({"Fliplr": {"p": 5}}, r"Fliplr: .*\[0\.0, 1\.0\].*Correct its arguments"),
        ({"Resize": {"size": 16}}, r"Resize: changes images to \(16, 16, 3\)"),
        ({"Sometimes": {"p": 0.3, "then_list": [{"Resize": {"size": 16}}]}}, r"Sometimes: .*shape"),
        ({"CropToFixedSize": {"width": 32, "height": 32}}, r"changes images to \(32, 32, 3\)"),
        ({"Add": {"value": "much"}}, r"Add: .*Correct its arguments"),
        (
            {"ChangeColorTemperature": {}},
            r"imgaug 0\.4\.0 with NumPy [\d.]+ cannot apply it: .*\. Use another augmenter",
        ),
        (
            {"MultiplyAndAddToBrightness": {"mul": [0.5, 1.5]}},
            r"MultiplyAndAddToBrightness: does not repeat with its seed\. Expected the same images",
        ),
        (
            {"Sometimes": {"p": 0.2, "then_list": [{"MultiplyAndAddToBrightness": {}}]}},
            r"Sometimes: does not repeat with its seed",
        ),
        ({"RandomErasing": {"p": 0.5}}, r"RandomErasing: .*missing .*'area'"),
        (
            {"RandomErasing": {"p": 0.5, "area": [0.3, 0.2], "aspect": [1, 2], "fill": "noise"}},
            r"area as \[low, high\] .* Received: .*0\.3, 0\.2",
        ),
        (
            {"RandomErasing": {"p": 0.5, "area": [0.2, 0.3], "aspect": [1, 2], "fill": "red"}},
            r"expected the fill noise, constant or a colour .* Received: red",
        ),
    ],
)
def test_an_invalid_policy_is_reported_in_one_line(
    params: Params, augmenter: dict[str, Any], message: str
) -> None:
    with pytest.raises(ParamsError, match=message) as raised:
        check_policies({"none": _policy(params, augmenter)}, [32, 40])
    assert "\n" not in str(raised.value)


def test_every_shipped_policy_is_valid(params: Params) -> None:
    check_policies(params.augmentation, params.data.image_sizes)
    assert [policy.mixes for policy in params.augmentation.values()] == [False, False, False, True]


@pytest.mark.parametrize(
    "augmenter",
    [
        {"MultiplyAndAddToBrightness": {"random_order": False}},
        {"Sequential": {"children": [{"Fliplr": {"p": 0.5}}, {"Add": {}}], "random_order": True}},
        {"RandAugment": {"n": 2, "m": 9}},
    ],
    ids=["in order", "in random order", "RandAugment"],
)
def test_augmenters_that_repeat_with_their_seed_are_accepted(
    params: Params, augmenter: dict[str, Any]
) -> None:
    check_policies({"none": _policy(params, augmenter)}, [32])


def test_imgaug_works_with_this_numpy(images: npt.NDArray[np.uint8]) -> None:
    """imgaug 0.4.0 uses names that NumPy removed. Runs all augmenters without arguments."""
    ran = set()
    for name, make in _known_augmenters().items():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # deprecated names of imgaug
            try:
                make().augment_images(list(images[:2]))
            except (AssertionError, TypeError, ValueError):
                continue  # requires arguments
        ran.add(name)
    assert len(ran) > 90
    assert {"Affine", "Clouds", "ElasticTransformation", "RandAugment", "Superpixels"} <= ran
