"""MixUp (Zhang et al. 2018) and CutMix (Yun et al. 2019)."""

import numpy as np
import numpy.typing as npt
import pytest

from person_attributes.config import AugmentationParams, Params
from person_attributes.data.mixing import ByHead, Mixer

ROWS, SIZE = 8, 16


def _policy(params: Params, mixup: float, cutmix: float, share: float = 1.0) -> AugmentationParams:
    changes = {"mixup": mixup, "cutmix": cutmix, "mix_share": share}
    return params.augmentation["none"].model_copy(update=changes)


def _batch() -> tuple[npt.NDArray[np.uint8], ByHead, ByHead]:
    """Returns a batch in which each row has its own grey level and its own class."""
    values = np.arange(ROWS, dtype=np.uint8) * 20
    images = np.broadcast_to(values[:, None, None, None], (ROWS, SIZE, SIZE, 3)).copy()
    targets = {"a": np.eye(ROWS, dtype=np.float32), "b": np.eye(ROWS, dtype=np.float32)}
    return images, targets, {head: np.ones(ROWS, np.float32) for head in targets}


@pytest.mark.parametrize("seed", range(20))
def test_mixup_blends_images_and_labels_with_the_same_weight(params: Params, seed: int) -> None:
    images, targets, weights = Mixer(_policy(params, 1.0, 0.0))(*_batch(), seed)
    for target in targets.values():
        np.testing.assert_allclose(target.sum(axis=1), 1, rtol=1e-6)
        expected = target @ (np.arange(ROWS) * 20.0)
        np.testing.assert_allclose(images[:, 3, 3, 0], expected, atol=0.51)
    for weight in weights.values():
        np.testing.assert_allclose(weight, 1, rtol=1e-6)


@pytest.mark.parametrize("seed", range(20))
def test_cutmix_weights_labels_by_their_share_of_pixels(params: Params, seed: int) -> None:
    images, targets, _ = Mixer(_policy(params, 0.0, 1.0))(*_batch(), seed)
    pixels = images[..., 0].reshape(ROWS, -1)
    for row in range(ROWS):
        shares = [(pixels[row] == number * 20).mean() for number in range(ROWS)]
        np.testing.assert_allclose(targets["a"][row], shares, atol=1e-6)
        np.testing.assert_allclose(targets["b"][row], shares, atol=1e-6)


def test_a_missing_label_reduces_the_weight_and_not_the_target(params: Params) -> None:
    images, targets, weights = _batch()
    targets["a"][2], weights["a"][2] = 0, 0
    for seed in range(10):
        _, mixed, mixed_weights = Mixer(_policy(params, 1.0, 0.0))(images, targets, weights, seed)
        np.testing.assert_allclose(mixed["a"][:, 2], 0)
        # A mix with the unlabelled row has a target with sum 1, weighted by its share of the image.
        has_label = mixed_weights["a"] > 0
        np.testing.assert_allclose(mixed["a"][has_label].sum(axis=1), 1, rtol=1e-6)
        share = 1 - mixed["b"][:, 2]
        np.testing.assert_allclose(mixed_weights["a"], share, atol=1e-6)


def test_mix_share_is_the_share_of_mixed_batches(params: Params) -> None:
    mixer = Mixer(_policy(params, 1.0, 0.0, share=0.3))
    before = _batch()
    changed = [(mixer(*before, seed)[1]["a"] != before[1]["a"]).any() for seed in range(400)]
    assert 0.23 < np.mean(changed) < 0.37


def test_mixup_and_cutmix_are_equally_likely(params: Params) -> None:
    mixer = Mixer(_policy(params, 1.0, 1.0))
    is_blended = []
    for seed in range(200):
        images, *_ = mixer(*_batch(), seed)
        is_blended.append(bool((images % 20 != 0).any()))
    assert 0.35 < np.mean(is_blended) < 0.6


def test_the_same_seed_gives_the_same_batch(params: Params) -> None:
    mixer = Mixer(_policy(params, 0.2, 1.0))
    first, _, again = mixer(*_batch(), 7), mixer(*_batch(), 8), mixer(*_batch(), 7)
    np.testing.assert_array_equal(first[0], again[0])
    np.testing.assert_array_equal(first[1]["a"], again[1]["a"])
