"""Images decoded once into a row-aligned array per size, mapped into memory by training."""

import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from person_attributes.config import LimitsParams
from person_attributes.data.archive import Source
from person_attributes.data.decoding import map_images
from person_attributes.data.images import Images, resize_image
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
    """Decodes images once into a `.npy` file that training maps into memory.

    Args:
        source: Where the images lie.
        names: Their names, in the order of the rows.
        image_size: Height and width in pixels, as `params.yaml` has it.
        black_bars: Whether those around images are cut off first.
        limits: How large a file and an image may be.
        path: The file to write: (n, height, width, 3) uint8 RGB.

    Raises:
        ImageError: If an image cannot be decoded any more; run ingest again.
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


def create_array(
    path: Path, dtype: type[np.generic], shape: tuple[int, ...]
) -> "np.memmap[Any, np.dtype[Any]]":
    """Makes an `.npy` file that is mapped into memory, with its room on the disk.

    Raises:
        OSError: If the disk has no room; written page by page, a full disk would end the process.
    """
    array: np.memmap[Any, np.dtype[Any]] = np.lib.format.open_memmap(
        path, mode="w+", dtype=dtype, shape=shape
    )
    if hasattr(os, "posix_fallocate"):
        with path.open("rb+") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    return array


def open_pack(path: Path) -> Images:
    """Maps a pack into memory without reading it."""
    pack: Images = np.load(path, mmap_mode="r")
    return pack


def channel_statistics(
    images: Images, positions: npt.NDArray[np.intp]
) -> tuple[list[float], list[float]]:
    """Computes mean and standard deviation of each channel over some rows of a pack.

    Args:
        images: (n, size, size, 3) uint8.
        positions: The rows to look at: training rows only.

    Returns:
        The means and the standard deviations of red, green and blue, in 0 to 255.
    """
    total, squares, pixels = np.zeros(3), np.zeros(3), 0
    for position in positions:
        image = images[position].reshape(-1, 3).astype(np.float64)
        total += image.sum(axis=0)
        squares += (image**2).sum(axis=0)
        pixels += len(image)
    mean = total / pixels
    deviation = np.sqrt(np.maximum(squares / pixels - mean**2, 0))
    # A channel without any variation would divide by zero; it then carries no signal either way.
    return mean.tolist(), np.maximum(deviation, 1.0).tolist()
