"""Images of one size in a row-aligned array, mapped into memory by training."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from person_attributes.data.images import Images


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
