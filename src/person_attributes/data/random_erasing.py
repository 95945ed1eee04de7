"""Random erasing: fills a random rectangle of an image (Zhong et al. 2017)."""

from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np

from person_attributes.errors import ParamsError

_TRIES = 100
"""An image in which none of so many boxes fits is left as it is, as in the authors' code."""

Fill = Literal["noise", "constant"] | Sequence[int]


def make_random_erasing(
    base: type[Any],
    p: float,
    area: tuple[float, float],
    aspect: tuple[float, float],
    fill: Fill,
) -> Any:
    """Builds an augmenter of imgaug that fills a random rectangle.

    `Cutout` of imgaug supports no aspect ratio, and limits boxes to the image instead of drawing
    them anew.

    Args:
        base: `imgaug.augmenters.Augmenter`.
        p: Share of images that are changed, 0 to 1.
        area: Smallest and largest area of the rectangle, as a share of the image.
        aspect: Smallest and largest ratio of height to width.
        fill: `noise` draws each pixel, `constant` draws one grey level per rectangle, and a list
            is a colour: red, green and blue, 0 to 255.

    Raises:
        ParamsError: If a value is out of range; correct it in `params.yaml`.
    """
    _check(p, area, aspect)
    draw_pixels = _choose_fill(fill)

    class RandomErasing(base):
        def _augment_batch_(self, batch: Any, random_state: Any, **_: Any) -> Any:
            random = random_state.generator
            for image in batch.images:
                if random.random() < p:
                    top, left, height, width = _draw_box(image.shape, area, aspect, random)
                    pixels = draw_pixels(random, height, width)
                    image[top : top + height, left : left + width] = pixels
            return batch

        def get_parameters(self) -> list[Any]:
            return [p, area, aspect, fill]

    return RandomErasing()


def _check(p: float, area: tuple[float, float], aspect: Sequence[float]) -> None:
    is_valid = (
        0 <= p <= 1
        and len(area) == len(aspect) == 2
        and 0 < area[0] <= area[1] <= 1
        and 0 < aspect[0] <= aspect[1]
    )
    if not is_valid:
        raise ParamsError(
            "expected p from 0 to 1, area as [low, high] from 0 to 1, and aspect as [low, high] "
            f"above 0. Received: p {p}, area {list(area)}, aspect {list(aspect)}"
        )


def _choose_fill(fill: Fill) -> Callable[[np.random.Generator, int, int], Any]:
    if fill == "noise":
        return lambda random, height, width: random.integers(0, 256, (height, width, 3), np.uint8)
    if fill == "constant":
        return lambda random, height, width: random.integers(0, 256, dtype=np.uint8)
    is_colour = not isinstance(fill, str) and len(fill) == 3 and all(0 <= n <= 255 for n in fill)
    if not is_colour:
        raise ParamsError(
            "expected the fill noise, constant or a colour as [red, green, blue] from 0 to 255. "
            f"Received: {fill}"
        )
    return lambda random, height, width: np.asarray(fill, np.uint8)


def _draw_box(
    shape: tuple[int, int, int],
    area: tuple[float, float],
    aspect: tuple[float, float],
    random: np.random.Generator,
) -> tuple[int, int, int, int]:
    """Draws sizes and positions until a box lies within the image, as in algorithm 1.

    Returns:
        Top, left, height and width in pixels; height and width are 0 if no box fitted.
    """
    for _ in range(_TRIES):
        pixels = random.uniform(*area) * shape[0] * shape[1]
        ratio = random.uniform(*aspect)
        height = max(1, round(np.sqrt(pixels * ratio)))
        width = max(1, round(np.sqrt(pixels / ratio)))
        top, left = random.integers(0, shape[0]), random.integers(0, shape[1])
        if top + height <= shape[0] and left + width <= shape[1]:
            return int(top), int(left), height, width
    return 0, 0, 0, 0
