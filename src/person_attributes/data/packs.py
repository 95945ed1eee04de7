"""Packs: memory-mapped arrays of all images in one size, aligned with the records."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from person_attributes.data.images import Images


def create_array(
    path: Path, dtype: type[np.generic], shape: tuple[int, ...]
) -> "np.memmap[Any, np.dtype[Any]]":
    """Creates a memory-mapped `.npy` file and allocates its space on the disk.

    Raises:
        OSError: If the disk is full. Without the allocation, a write to the array would kill the
            process.
    """
    array: np.memmap[Any, np.dtype[Any]] = np.lib.format.open_memmap(
        path, mode="w+", dtype=dtype, shape=shape
    )
    if hasattr(os, "posix_fallocate"):
        with path.open("rb+") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    return array


def open_pack(path: Path) -> Images:
    """Opens a pack as a memory-mapped array."""
    pack: Images = np.load(path, mmap_mode="r")
    return pack


def channel_statistics(
    images: Images, positions: npt.NDArray[np.intp]
) -> tuple[list[float], list[float]]:
    """Computes mean and standard deviation of each channel over some rows of a pack.

    Args:
        images: (n, height, width, 3) uint8.
        positions: Positions of the rows to include; training rows only.

    Returns:
        The means and the standard deviations of red, green and blue, on the scale of 0 to 255.
    """
    total, squares, pixels = np.zeros(3), np.zeros(3), 0
    for position in positions:
        image = images[position].reshape(-1, 3).astype(np.float64)
        total += image.sum(axis=0)
        squares += (image**2).sum(axis=0)
        pixels += len(image)
    mean = total / pixels
    deviation = np.sqrt(np.maximum(squares / pixels - mean**2, 0))
    # At least 1, so that normalization does not divide by zero for a constant channel.
    return mean.tolist(), np.maximum(deviation, 1.0).tolist()
