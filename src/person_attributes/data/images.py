"""The one decoder and the one resize, for training and serving alike."""

import io

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

from person_attributes.errors import ImageError, one_line
from person_attributes.framing import BlackBars, height_and_width

Images = npt.NDArray[np.uint8]
"""(n, height, width, 3) RGB."""

_FORMATS = ("JPEG", "PNG", "WEBP", "BMP")
"""Pillow reads many more; some of them run other programs, or are no pictures of people."""

_BACKGROUND = (255, 255, 255)
"""Shows through transparent pixels, whose own colours nobody ever saw."""

BAR_TOLERANCE = 24
"""Grey levels of 255: a JPEG leaves bars not quite even, and black not quite black."""

_SPECKS = 0.02
"""Share of a bar's row or column that may be brighter: ringing beside the picture."""


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
        raise ImageError(f"cannot be decoded: {one_line(error, 300)}") from None


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):  # 16 bits, which Pillow would clip
        scaled = np.clip(np.asarray(image) // 257, 0, 255).astype(np.uint8)
        return Image.fromarray(scaled).convert("RGB")
    if image.has_transparency_data:
        opaque = Image.new("RGBA", image.size, _BACKGROUND)
        return Image.alpha_composite(opaque, image.convert("RGBA")).convert("RGB")
    return image.convert("RGB")


def resize_image(
    image: Image.Image, image_size: int | str, black_bars: BlackBars
) -> npt.NDArray[np.uint8]:
    """Resizes to the network's size whatever the shape was, smoothing where it shrinks.

    Args:
        image: An RGB image.
        image_size: Height and width in pixels, as `params.yaml` has it.
        black_bars: Whether those around the image are cut off first.

    Returns:
        (height, width, 3) RGB.
    """
    height, width = height_and_width(image_size)
    if black_bars == "cut":
        image = image.crop(_find_picture(image))
    resized = image.resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(resized, dtype=np.uint8)


def _find_picture(image: Image.Image) -> tuple[int, int, int, int] | None:
    """Finds what lies between black bars: left, top, right and bottom; None where all is black."""
    return find_inside(np.asarray(image).max(axis=2) > BAR_TOLERANCE)


def find_inside(is_content: npt.NDArray[np.bool_]) -> tuple[int, int, int, int] | None:
    """Finds what lies between the bars of an image.

    Args:
        is_content: (height, width) whether a pixel stands out from the bars.

    Returns:
        Left, top, right and bottom; None where nothing stands out.
    """
    columns = np.flatnonzero(is_content.mean(axis=0) > _SPECKS)
    rows = np.flatnonzero(is_content.mean(axis=1) > _SPECKS)
    if not len(columns) or not len(rows):
        return None
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1
