"""Plots that stages log to MLflow runs; they are not DVC outputs."""

import io
import math
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image

from person_attributes.config import AugmentationParams
from person_attributes.data.augment import Augmenter
from person_attributes.data.images import Images
from person_attributes.data.mixing import Mixer
from person_attributes.drawing.figures import add_panels, new_figure, to_png

_SHOWN_DRAWS = 7
"""Number of augmented columns beside the original images."""


def draw_class_shares(shares: Mapping[str, Mapping[str, float]], colour: str) -> bytes:
    """Draws the share of each class, one panel per head."""
    figure = new_figure(12, 2.2 * math.ceil(len(shares) / 4))
    axes = add_panels(figure, len(shares), min(4, len(shares)))
    for axis, (head, classes) in zip(axes, shares.items(), strict=True):
        names = list(classes)[::-1]
        bars = axis.barh(names, [classes[name] for name in names], color=colour)
        axis.bar_label(bars, fmt="%.2f", padding=2, fontsize=7)
        axis.set_title(head, fontsize=10)
        axis.set_xlim(0, 1)
        axis.tick_params(labelsize=7)
        axis.spines[["top", "right"]].set_visible(False)
    return to_png(figure)


def draw_sample_grid(images: npt.NDArray[np.uint8], captions: Sequence[str], columns: int) -> bytes:
    """Draws a grid of images with captions."""
    figure = new_figure(1.9 * columns, 2.5 * math.ceil(len(images) / columns))
    axes = add_panels(figure, len(images), columns)
    for axis, image, caption in zip(axes, images, captions, strict=True):
        axis.axis("off")
        axis.imshow(image)
        axis.set_title(caption, fontsize=6.5, y=-0.05, va="top")
    return to_png(figure)


def draw_policy(images: Images, policy: AugmentationParams) -> bytes:
    """Draws the original images and several augmentations of each."""
    augment, mix = Augmenter(policy), Mixer(policy)
    columns = [images]
    for seed in range(_SHOWN_DRAWS):
        changed = augment(images, seed)
        columns.append(mix(changed, {}, {}, seed)[0] if policy.mixes else changed)
    return _draw_mosaic(columns)


def _draw_mosaic(columns: Sequence[npt.NDArray[np.uint8]]) -> bytes:
    """Draws columns of equally sized images side by side, with white gaps."""
    gap = 4
    padded = [
        np.concatenate(
            np.pad(column, ((0, 0), (0, gap), (0, gap), (0, 0)), constant_values=255), axis=0
        )
        for column in columns
    ]
    buffer = io.BytesIO()
    Image.fromarray(np.concatenate(padded, axis=1)).save(buffer, "PNG")
    return buffer.getvalue()
