"""MixUp and CutMix: mixes the images of a batch, and the labels of all heads."""

import numpy as np
import numpy.typing as npt

from person_attributes.config import AugmentationParams
from person_attributes.data.images import Images

ByHead = dict[str, npt.NDArray[np.float32]]
"""`{head: array}` with a row for each image."""


class Mixer:
    """MixUp (Zhang et al. 2018) and CutMix (Yun et al. 2019), with one weight per batch.

    The result depends only on the batch and the seed of a call, not on earlier calls.
    """

    def __init__(self, policy: AugmentationParams) -> None:
        self._policy = policy

    def __call__(
        self, images: Images, targets: ByHead, weights: ByHead, seed: int
    ) -> tuple[Images, ByHead, ByHead]:
        """Mixes the batch with probability `mix_share`; otherwise returns it unchanged.

        Args:
            images: (n, height, width, 3) uint8; not modified.
            targets: `{head: (n, classes)}` of probabilities; a missing label is all zeros.
            weights: `{head: (n,)}` sample weights; 0 where a label is missing.
            seed: Seed of all random choices.

        Returns:
            Images, targets and weights. If one of two mixed rows has no label of a head, the result
            has the label of the other row with a lower weight.
        """
        random = np.random.default_rng((seed, 1))
        if random.random() >= self._policy.mix_share:
            return images, targets, weights
        order = random.permutation(len(images))
        if self._chooses_mixup(random):
            share = random.beta(self._policy.mixup, self._policy.mixup)
            images = _blend(images, images[order], share)
        else:
            share = random.beta(self._policy.cutmix, self._policy.cutmix)
            images, share = _paste(images, images[order], share, random)
        return images, *_mix_labels(targets, weights, order, share)

    def _chooses_mixup(self, random: np.random.Generator) -> bool:
        if self._policy.mixup and self._policy.cutmix:
            return bool(random.random() < 0.5)
        return self._policy.mixup > 0


def _blend(images: Images, others: Images, share: float) -> Images:
    mixed = share * images.astype(np.float32) + (1 - share) * others.astype(np.float32)
    return np.rint(mixed).astype(np.uint8)


def _paste(
    images: Images, others: Images, share: float, random: np.random.Generator
) -> tuple[Images, float]:
    """Pastes a box of other images around a random point; returns the remaining share."""
    height, width = images.shape[1:3]
    side = np.sqrt(1 - share)
    top, bottom = _cut(int(random.integers(height)), side * height, height)
    left, right = _cut(int(random.integers(width)), side * width, width)
    mixed = images.copy()
    mixed[:, top:bottom, left:right] = others[:, top:bottom, left:right]
    return mixed, 1 - (bottom - top) * (right - left) / (height * width)


def _cut(centre: int, length: float, size: int) -> tuple[int, int]:
    begin, end = round(centre - length / 2), round(centre + length / 2)
    return max(begin, 0), min(end, size)


def _mix_labels(
    targets: ByHead, weights: ByHead, order: npt.NDArray[np.intp], share: float
) -> tuple[ByHead, ByHead]:
    """Weights both labels of each row by their share of the image."""
    mixed_targets, mixed_weights = {}, {}
    for head, target in targets.items():
        own, other = share * weights[head], (1 - share) * weights[head][order]
        total = own + other
        mass = own[:, None] * target + other[:, None] * target[order]
        mixed_targets[head] = (mass / np.where(total > 0, total, 1)[:, None]).astype(np.float32)
        mixed_weights[head] = total.astype(np.float32)
    return mixed_targets, mixed_weights
