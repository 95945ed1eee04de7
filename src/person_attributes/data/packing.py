"""Decodes and resizes all images into a pack."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from person_attributes.config import LimitsParams
from person_attributes.data.decoding import map_images
from person_attributes.data.images import resize_image
from person_attributes.data.packs import create_array
from person_attributes.data.source import Source
from person_attributes.errors import ImageError
from person_attributes.framing import BlackBars, height_and_width


def pack_images(
    source: Source,
    names: Sequence[str],
    image_size: int | str,
    black_bars: BlackBars,
    limits: LimitsParams,
    path: Path,
) -> None:
    """Decodes and resizes images into a `.npy` file.

    Args:
        source: The source of the images.
        names: Names of the images, in the order of the records.
        image_size: Height and width in pixels, as in `params.yaml`.
        black_bars: Whether black bars around images are cut off first.
        limits: Limits on the size of a file and of an image.
        path: The file to write: (n, height, width, 3) uint8 RGB.

    Raises:
        ImageError: If an image changed since `ingest` and cannot be decoded; run `ingest` again.
    """
    shape = (len(names), *height_and_width(image_size), 3)
    pack = create_array(path, np.uint8, shape)
    resize = partial(_resize, image_size=image_size, black_bars=black_bars)
    resized = map_images(resize, source, names, limits, f"packing {image_size} px")
    for position, image in enumerate(resized):
        if isinstance(image, ImageError):
            raise ImageError(f"{names[position]}: {image}. Run the stage ingest again.")
        pack[position] = image
    pack.flush()


def _resize(
    content: bytes, image: Image.Image, image_size: int | str, black_bars: BlackBars
) -> npt.NDArray[np.uint8]:
    return resize_image(image, image_size, black_bars)
