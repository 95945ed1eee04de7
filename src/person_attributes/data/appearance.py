"""Measures images: digest, size, grey levels, sharpness, perceptual hash and thumbnail."""

import hashlib
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from person_attributes.data.images import BAR_TOLERANCE, find_content_box

THUMBNAIL_SIZE = 64
"""Height and width of a thumbnail, in pixels."""


@dataclass(frozen=True)
class Appearance:
    """Measurements of an image; all but digest, width and height ignore its padding.

    Attributes:
        digest: SHA-256 of the file.
        width: In pixels, padding included.
        height: In pixels, padding included.
        brightness: Mean grey level, 0 to 1.
        grey_range: Difference between the brightest and the darkest grey level, 0 to 1.
        sharpness: Variance of the Laplacian of grey levels (Pech-Pacheco et al. 2000); low for
            blurred images.
        hash: Perceptual hash of 64 bits, as 16 hexadecimal digits.
        thumbnail: (64, 64) uint8 grey.
    """

    digest: str
    width: int
    height: int
    brightness: float
    grey_range: float
    sharpness: float
    hash: str
    thumbnail: npt.NDArray[np.uint8]


def describe_image(content: bytes, image: Image.Image) -> Appearance:
    """Measures an image.

    Args:
        content: The bytes of its file.
        image: The decoded image, RGB.
    """
    import imagehash

    grey = trim_padding(np.asarray(image.convert("L")))
    trimmed = Image.fromarray(grey)
    size = (THUMBNAIL_SIZE, THUMBNAIL_SIZE)
    return Appearance(
        digest=hashlib.sha256(content).hexdigest(),
        width=image.width,
        height=image.height,
        brightness=float(grey.mean() / 255),
        grey_range=float(np.ptp(grey) / 255),
        sharpness=float(cv2.Laplacian(grey, cv2.CV_64F).var()),
        hash=str(imagehash.phash(trimmed)),
        thumbnail=np.asarray(trimmed.resize(size, Image.Resampling.BOX)),
    )


def trim_padding(grey: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Cuts off borders of one colour, which would make padded images similar to each other.

    Args:
        grey: (height, width) grey image.

    Returns:
        The image without its borders; the whole image if it has one colour only.
    """
    corner = int(grey[0, 0])
    box = find_content_box(np.abs(grey.astype(np.int16) - corner) > BAR_TOLERANCE)
    if box is None:
        return grey
    left, top, right, bottom = box
    return np.ascontiguousarray(grey[top:bottom, left:right])
