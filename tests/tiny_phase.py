"""A phase with few rows and layers, for tests of training and of the range test."""

import keras
import numpy as np

from person_attributes.config import Params, Recipe
from person_attributes.data.augment import Augmenter
from person_attributes.data.batches import ImageBatches
from person_attributes.data.mixing import Mixer
from person_attributes.modeling.classifier import Normalization, build_classifier

ROWS = 24
CLASSES = {"left": 3, "right": 3}


def build_tiny(params: Params, classes: dict[str, int] = CLASSES) -> keras.Model:
    """Builds a network with as few layers as possible, because tracing them is slow."""
    keras.utils.set_random_seed(3)
    residual = params.model.residual.model_copy(update={"widths": (16,), "blocks": (1,)})
    model = params.model.model_copy(update={"backbone": "residual", "residual": residual})
    return build_classifier(32, classes, model, Normalization([128.0] * 3, [64.0] * 3))


def make_batches(
    seed: int | None,
    augmenter: Augmenter | None = None,
    mixer: Mixer | None = None,
    workers: int = 0,
) -> ImageBatches:
    random = np.random.default_rng(5)
    images = random.integers(0, 256, (ROWS, 32, 32, 3), dtype=np.uint8)
    targets = {head: np.eye(3, dtype=np.float32)[random.integers(0, 3, ROWS)] for head in CLASSES}
    positions = np.arange(ROWS)
    return ImageBatches(
        images,
        targets,
        positions,
        8,
        augmenter=augmenter,
        mixer=mixer,
        seed=seed,
        workers=workers,
    )


def make_recipe(params: Params, **changes: object) -> Recipe:
    phase = params.phases["p1"].model_copy(update=changes)
    return params.model_copy(update={"phases": params.phases | {"p1": phase}}).recipe("p1")
