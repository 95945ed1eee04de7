"""Proposes the sizes in which images are packed."""

import math
import statistics
from collections.abc import Sequence

from PIL import Image

from person_attributes.config import LimitsParams
from person_attributes.data.decoding import map_images
from person_attributes.data.source import Source
from person_attributes.errors import ImageError, SourceError
from person_attributes.framing import height_and_width

_MEASURED_IMAGES = 50

_MAX_SQUARE_RATIO = 1.25
"""Images whose sides differ by a smaller factor are packed as squares."""

_STEP = 8
"""Sides of packed images are multiples of this number of pixels."""


def measure_images(source: Source, names: Sequence[str], limits: LimitsParams) -> tuple[int, int]:
    """Measures some images.

    Args:
        source: The source of the images.
        names: Their names in the source.
        limits: Limits on the size of a file and of an image.

    Returns:
        Median height and width, in pixels.

    Raises:
        SourceError: If none of the images can be decoded. Correct them.
    """
    measured = names[:: max(1, len(names) // _MEASURED_IMAGES)]
    results = list(map_images(_measure, source, measured, limits, "reading images"))
    sizes = [size for size in results if not isinstance(size, ImageError)]
    if not sizes:
        raise SourceError(
            f"{measured[0]}: {results[0]}. None of {len(measured)} images can be decoded. Correct "
            "the images."
        )
    heights, widths = zip(*sizes, strict=True)
    return round(statistics.median(heights)), round(statistics.median(widths))


def _measure(_: bytes, image: Image.Image) -> tuple[int, int]:
    return image.height, image.width


def fit_image_size(image_size: int | str, height: int, width: int, smallest_side: int) -> int | str:
    """Changes an image size to the shape of the images, with the same number of pixels.

    Args:
        image_size: A size in `params.yaml`, such as `128` or `128x64`.
        height: Typical height of the images, in pixels. Small images are not enlarged.
        width: Their typical width, in pixels.
        smallest_side: Smallest side that the backbone accepts, in pixels.

    Returns:
        The new size, as in `params.yaml`.
    """
    is_square = 1 / _MAX_SQUARE_RATIO < height / width < _MAX_SQUARE_RATIO
    ratio = 1.0 if is_square else height / width
    pixels = min(math.prod(height_and_width(image_size)), height * width)
    sides = math.sqrt(pixels * ratio), math.sqrt(pixels / ratio)
    smallest = math.ceil(smallest_side / _STEP) * _STEP
    rows, columns = (max(round(side / _STEP) * _STEP, smallest) for side in sides)
    return rows if rows == columns else f"{rows}x{columns}"
