"""Augments batches of images in JAX, where the network trains.

imgaug augments on the CPU, which feeds a GPU with about 4,000 images per second. The operations are
those of a policy in `params.yaml`: flip, affine transformation, colours and random erasing.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

Policy = Mapping[str, Any]
"""Ranges of an augmentation policy, as in `distillation.yaml`."""

_ASPECTS = (0.3, 3.0)
_SMALLEST_AREA = 0.02


def augment(key: Any, images: Any, policy: Policy) -> Any:
    """Augments each image of a batch differently.

    Args:
        key: A key of `jax.random`.
        images: (n, height, width, 3) uint8.
        policy: Half the width of each range: `scale` and `multiply` around 1, `rotate` and `shear`
            around 0 degrees, `x` and `y` as shares of the image. `colour` is that of a factor per
            channel, and of a contrast. `erase` is the probability of an erased box of noise, and
            `area` its largest share of the image.

    Returns:
        Images of the same shape and type.
    """
    keys = iter(jax.random.split(key, 10))
    count, height, width, _ = images.shape
    resampled = _resample(images, *_draw_affine(next(keys), policy, count, height, width))
    coloured = _change_colours(keys, resampled, policy)
    return jnp.round(_erase(keys, coloured, policy)).astype(jnp.uint8)


def _uniform(key: Any, low: Any, high: Any, shape: tuple[int, ...]) -> Any:
    return jax.random.uniform(key, shape, minval=low, maxval=high)


def _draw_affine(key: Any, policy: Policy, count: int, height: int, width: int) -> tuple[Any, Any]:
    """Draws an affine transformation per image.

    Returns:
        For each pixel of the results, the row and the column to read, (count, height, width).
    """

    def draw(number: int, low: Any, high: Any) -> Any:
        return _uniform(jax.random.fold_in(key, number), low, high, (count, 1, 1))

    flip = jnp.where(draw(0, 0.0, 1.0) < 0.5, -1.0, 1.0)
    scale_x = draw(1, 1 - policy["scale"], 1 + policy["scale"])
    scale_y = draw(2, 1 - policy["scale"], 1 + policy["scale"])
    angle = draw(3, -policy["rotate"], policy["rotate"]) * jnp.pi / 180
    shear = jnp.tan(draw(4, -policy["shear"], policy["shear"]) * jnp.pi / 180)
    shift_x = draw(5, -policy["x"], policy["x"]) * width
    shift_y = draw(6, -policy["y"], policy["y"]) * height
    y = jnp.arange(height, dtype=jnp.float32)[None, :, None] - (height - 1) / 2
    x = jnp.arange(width, dtype=jnp.float32)[None, None, :] - (width - 1) / 2
    turned_x = jnp.cos(angle) * x + jnp.sin(angle) * y
    turned_y = jnp.cos(angle) * y - jnp.sin(angle) * x
    column = flip * (turned_x + shear * turned_y) / scale_x + shift_x + (width - 1) / 2
    row = turned_y / scale_y + shift_y + (height - 1) / 2
    return jnp.clip(row, 0, height - 1), jnp.clip(column, 0, width - 1)


def _resample(images: Any, row: Any, column: Any) -> Any:
    """Interpolates bilinearly at the given positions; returns float32."""
    top, left = jnp.floor(row).astype(jnp.int32), jnp.floor(column).astype(jnp.int32)
    bottom = jnp.minimum(top + 1, images.shape[1] - 1)
    right = jnp.minimum(left + 1, images.shape[2] - 1)
    down, along = (row - top)[..., None], (column - left)[..., None]
    read = jax.vmap(lambda image, rows, columns: image[rows, columns].astype(jnp.float32))
    upper = read(images, top, left) * (1 - along) + read(images, top, right) * along
    lower = read(images, bottom, left) * (1 - along) + read(images, bottom, right) * along
    return upper * (1 - down) + lower * down


def _change_colours(keys: Any, images: Any, policy: Policy) -> Any:
    """Multiplies each channel, changes the contrast, and multiplies the image."""
    count = len(images)
    colour, multiply = policy["colour"], policy["multiply"]
    images = images * _uniform(next(keys), 1 - colour, 1 + colour, (count, 1, 1, 3))
    mean = images.mean((1, 2), keepdims=True)
    contrast = _uniform(next(keys), 1 - colour, 1 + colour, (count, 1, 1, 1))
    images = (images - mean) * contrast + mean
    brightness = _uniform(next(keys), 1 - multiply, 1 + multiply, (count, 1, 1, 1))
    return jnp.clip(images * brightness, 0, 255)


def _erase(keys: Any, images: Any, policy: Policy) -> Any:
    """Replaces a box of some images with noise (Zhong et al. 2020)."""
    count, height, width, _ = images.shape

    def draw(low: Any, high: Any) -> Any:
        return _uniform(next(keys), low, high, (count, 1, 1))

    area, aspect = draw(_SMALLEST_AREA, policy["area"]) * height * width, draw(*_ASPECTS)
    box_height = jnp.clip(jnp.round(jnp.sqrt(area * aspect)), 1, height)
    box_width = jnp.clip(jnp.round(jnp.sqrt(area / aspect)), 1, width)
    top = jnp.floor(draw(0.0, 1.0) * (height - box_height + 1))
    left = jnp.floor(draw(0.0, 1.0) * (width - box_width + 1))
    rows, columns = jnp.arange(height)[None, :, None], jnp.arange(width)[None, None, :]
    is_erased = (rows >= top) & (rows < top + box_height)
    is_erased &= (columns >= left) & (columns < left + box_width)
    is_erased &= draw(0.0, 1.0) < policy["erase"]
    noise = _uniform(next(keys), 0.0, 255.0, images.shape)
    return jnp.where(is_erased[..., None], noise, images)
