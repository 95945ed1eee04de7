"""The one decoder and the one resize, for training and serving alike."""

import io

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

from person_attributes.errors import ImageError

Images = npt.NDArray[np.uint8]
"""(n, image_size, image_size, 3) RGB."""

_FORMATS = ("JPEG", "PNG", "WEBP", "BMP")
"""Pillow reads many more; some of them run other programs, or are no pictures of people."""

_BACKGROUND = (255, 255, 255)
"""Shows through transparent pixels, whose own colours nobody ever saw."""


def decode_image(content: bytes, max_megapixels: float) -> Image.Image:
    """Decodes a whole image.

    Args:
        content: A JPEG, PNG, WebP or BMP file.
        max_megapixels: Width times height that is accepted, in millions.

    Returns:
        The image as RGB, turned as its EXIF orientation says. Grey, CMYK and palettes are
        converted, 16 bits scaled to 8, transparent pixels laid on white.

    Raises:
        ImageError: If the bytes are no image, a truncated one, animated, or too large.
    """
    if not content:
        raise ImageError("an empty file")
    try:
        with Image.open(io.BytesIO(content), formats=_FORMATS) as image:
            if image.width * image.height > max_megapixels * 1e6:
                raise ImageError(
                    f"{image.width} x {image.height} pixels, more than {max_megapixels:g} million"
                )
            # A JPEG of several pictures (MPO) begins with the one that viewers show.
            if getattr(image, "is_animated", False) and image.format != "MPO":
                raise ImageError("animated")
            image.load()
            return _to_rgb(ImageOps.exif_transpose(image))
    except ImageError:
        raise
    except UnidentifiedImageError:
        raise ImageError("not a JPEG, PNG, WebP or BMP image") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise ImageError(f"more than {max_megapixels:g} million pixels") from None
    except Exception as error:  # Pillow's decoders raise whatever the bytes drive them to
        raise ImageError(f"cannot be decoded: {' '.join(str(error).split())}") from None


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):  # 16 bits, which Pillow would clip
        scaled = np.clip(np.asarray(image) // 257, 0, 255).astype(np.uint8)
        return Image.fromarray(scaled).convert("RGB")
    if image.has_transparency_data:
        opaque = Image.new("RGBA", image.size, _BACKGROUND)
        return Image.alpha_composite(opaque, image.convert("RGBA")).convert("RGB")
    return image.convert("RGB")


def resize_image(image: Image.Image, image_size: int) -> npt.NDArray[np.uint8]:
    """Resizes to a square, smoothing where it shrinks.

    Returns:
        (image_size, image_size, 3) RGB.
    """
    square = image.resize((image_size, image_size), Image.Resampling.BILINEAR)
    return np.asarray(square, dtype=np.uint8)
