"""Random changes to training images, by imgaug on `uint8`, reproducible from a seed."""

import warnings
from typing import Any

import cv2
import numpy as np

from person_attributes.config import AugmentationParams
from person_attributes.data.images import Images


def _import_imgaug() -> Any:
    """Imports imgaug 0.4.0, which still uses names that NumPy 1.24 and 2 took away."""
    kinds = {
        "float": [np.float16, np.float32, np.float64],
        "int": [np.int8, np.int16, np.int32, np.int64],
        "uint": [np.uint8, np.uint16, np.uint32, np.uint64],
    }
    old = {"bool": bool, "int": int, "float": float, "complex": complex, "sctypes": kinds}
    for name, value in old.items():
        if name not in np.__dict__:  # hasattr would warn
            setattr(np, name, value)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import imgaug
        import imgaug.augmenters
    return imgaug


class Augmenter:
    """Applies one policy to batches.

    What is drawn depends on the seed of a call alone, never on earlier calls.
    """

    def __init__(self, policy: AugmentationParams) -> None:
        self._policy = policy
        self._pipeline = _build_pipeline(policy)

    def __call__(self, images: Images, seed: int) -> Images:
        """Augments a batch.

        Args:
            images: (n, size, size, 3) uint8; left as they are.
            seed: Decides everything that is drawn.

        Returns:
            New images of the same shape and dtype.
        """
        if self._pipeline is not None:
            self._pipeline.seed_(seed)
            # A list: imgaug copies an array several times on its way.
            images = np.stack(self._pipeline.augment_images(list(images)))
        else:
            images = images.copy()
        if self._policy.erase:
            _erase(images, self._policy, np.random.default_rng(seed))
        return images


def _build_pipeline(policy: AugmentationParams) -> Any:
    """Builds imgaug's part of a policy; None where it has none, since the import costs seconds."""
    warps = any(
        (policy.width_shift, policy.height_shift, policy.zoom, policy.rotation, policy.shear)
    )
    if not (policy.horizontal_flip or warps or policy.brightness):
        return None
    augmenters = _import_imgaug().augmenters
    # A pool of threads would not outlive the fork of a worker process, and images are small.
    cv2.setNumThreads(0)
    steps: list[Any] = []
    if policy.horizontal_flip:
        steps.append(augmenters.Fliplr(policy.horizontal_flip))
    if warps:
        scale = (1 - policy.zoom, 1 + policy.zoom)
        steps.append(
            augmenters.Affine(
                translate_percent={
                    "x": (-policy.width_shift, policy.width_shift),
                    "y": (-policy.height_shift, policy.height_shift),
                },
                scale={"x": scale, "y": scale},
                rotate=(-policy.rotation, policy.rotation),
                shear=(-policy.shear, policy.shear),
                order=1,
                mode="edge",
            )
        )
    if policy.brightness:
        steps.append(augmenters.Multiply((1 - policy.brightness, 1 + policy.brightness)))
    return augmenters.Sequential(steps)


def _erase(images: Images, policy: AugmentationParams, random: np.random.Generator) -> None:
    """Fills a random rectangle of some images with noise, in place (Zhong et al. 2017)."""
    height, width = images.shape[1:3]
    for position in np.flatnonzero(random.random(len(images)) < policy.erase):
        area = random.uniform(*policy.erase_area) * height * width
        aspect = random.uniform(*policy.erase_aspect)
        box = _fit_box(area, aspect, height, width)
        top = random.integers(0, height - box[0] + 1)
        left = random.integers(0, width - box[1] + 1)
        noise = random.integers(0, 256, (*box, 3), dtype=np.uint8)
        images[position, top : top + box[0], left : left + box[1]] = noise


def _fit_box(area: float, aspect: float, height: int, width: int) -> tuple[int, int]:
    """Gives the height and width in pixels of a box, no larger than the image."""
    box_height = min(height, max(1, round(np.sqrt(area * aspect))))
    box_width = min(width, max(1, round(np.sqrt(area / aspect))))
    return box_height, box_width
