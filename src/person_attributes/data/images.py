"""The one decoder and the one resize, for training and serving alike."""

import io

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

from person_attributes.errors import ImageError

Images = npt.NDArray[np.uint8]
"""(n, image_size, image_size, 3) RGB."""


def decode_image(content: bytes) -> Image.Image:
    """Decodes a whole image.

    Args:
        content: A file that Pillow reads: JPEG, PNG, WebP, BMP and others.

    Returns:
        The image as RGB, turned as its EXIF orientation says.

    Raises:
        ImageError: If the bytes are no image, or a truncated one.
    """
    try:
        with Image.open(io.BytesIO(content)) as image:
            image.load()
            return ImageOps.exif_transpose(image).convert("RGB")
    except UnidentifiedImageError:
        raise ImageError("not an image of a known format") from None
    except Image.DecompressionBombError:
        raise ImageError("more pixels than are safe to decode") from None
    except (OSError, ValueError, SyntaxError, EOFError) as error:
        raise ImageError(f"cannot be decoded: {error}") from None


def resize_image(image: Image.Image, image_size: int) -> npt.NDArray[np.uint8]:
    """Resizes to a square, smoothing where it shrinks.

    Returns:
        (image_size, image_size, 3) RGB.
    """
    square = image.resize((image_size, image_size), Image.Resampling.BILINEAR)
    return np.asarray(square, dtype=np.uint8)
