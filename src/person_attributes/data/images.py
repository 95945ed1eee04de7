"""Decoding and resizing of images, used by both training and serving."""

import io
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO

import numpy as np
import numpy.typing as npt
from PIL import (
    BmpImagePlugin,
    Image,
    ImageFile,
    JpegImagePlugin,
    PngImagePlugin,
    WebPImagePlugin,
)

from person_attributes.data.file_formats import HEAD, identify
from person_attributes.data.metadata import find_format, split_metadata
from person_attributes.errors import ImageError
from person_attributes.framing import BlackBars, height_and_width

Images = npt.NDArray[np.uint8]
"""(n, height, width, 3) RGB."""

_READERS: Mapping[str, Callable[[IO[bytes]], ImageFile.ImageFile]] = {
    "JPEG": JpegImagePlugin.JpegImageFile,
    "PNG": PngImagePlugin.PngImageFile,
    "WebP": WebPImagePlugin.WebPImageFile,
    "BMP": BmpImagePlugin.BmpImageFile,
}
"""Readers of the accepted formats. Pillow has more, but some of them run external programs.

`Image.open` would print a warning for a large image before its size can be checked.
"""

_TRANSPOSITIONS: Mapping[int, Image.Transpose] = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What makes an image upright, by its EXIF orientation."""

_BACKGROUND = (255, 255, 255)
"""Colour behind transparent pixels."""

BAR_TOLERANCE = 24
"""Grey levels, 0 to 255, by which a pixel of a bar may differ because of JPEG compression."""

_SPECKS = 0.02
"""Share of a bar's row or column that may be brighter because of JPEG compression."""


@dataclass(frozen=True)
class EncodedImage:
    """An image with a valid header. Its pixels are not decoded yet.

    Attributes:
        file: The open file, without its metadata.
        orientation: Its orientation as in EXIF, 1 to 8.
    """

    file: ImageFile.ImageFile
    orientation: int

    @property
    def megapixels(self) -> float:
        """Width times height, in millions of pixels."""
        return self.file.width * self.file.height / 1e6

    def decode(self) -> Image.Image:
        """Decodes the pixels. See `decode_image`."""
        with _translate_decoder_errors():
            self.file.load()
            rgb = _to_rgb(self.file)
        if self.orientation in _TRANSPOSITIONS:
            return rgb.transpose(_TRANSPOSITIONS[self.orientation])
        return rgb


def decode_image(content: bytes, max_megapixels: float) -> Image.Image:
    """Decodes an image completely.

    Args:
        content: A JPEG, PNG, WebP or BMP file.
        max_megapixels: Largest accepted width times height, in millions of pixels.

    Returns:
        The image as RGB, rotated by its EXIF orientation. Grey, CMYK and palette images are
        converted, 16 bits are scaled to 8, and transparent pixels become white.

    Raises:
        ImageError: If the content is not an image, or is truncated, animated or too large. Replace
            the file.
    """
    return open_image(content, max_megapixels).decode()


def open_image(content: bytes, max_megapixels: float) -> EncodedImage:
    """Reads and checks the header of an image.

    Args:
        content: See `decode_image`.
        max_megapixels: See `decode_image`.

    Raises:
        ImageError: If the content is not an image, or is animated or too large. Replace the file.
    """
    kind = find_format(content)
    if kind is None:
        raise _refuse(content)
    pixels, orientation = split_metadata(content)
    with _translate_decoder_errors():
        file = _READERS[kind](io.BytesIO(pixels))
        is_animated = getattr(file, "is_animated", False)
    image = EncodedImage(file, orientation)
    if image.megapixels > max_megapixels:
        raise ImageError(
            f"{file.width} x {file.height} pixels, more than {max_megapixels:g} million"
        )
    if is_animated:
        raise ImageError("animated")
    return image


def _refuse(content: bytes) -> ImageError:
    """Names the format of a file that does not begin like an image in an accepted format."""
    if not content:
        return ImageError("an empty file")
    found = identify(content[:HEAD])
    if found and found.kind == "pointer":
        return ImageError(f"{found.name}. {found.advice.rstrip('.')}")
    received = f", but {found.name}" if found else ""
    advice = ". Convert it" if found and found.kind == "image" else ""
    return ImageError(f"not a JPEG, PNG, WebP or BMP image{received}{advice}")


@contextmanager
def _translate_decoder_errors() -> Iterator[None]:
    """Replaces the errors of Pillow: it raises many types, and some messages contain the bytes."""
    try:
        yield
    except MemoryError:
        raise ImageError("cannot be decoded: not enough memory") from None
    except Exception as error:
        fault = "truncated" if "truncated" in str(error).lower() else "damaged"
        raise ImageError(f"cannot be decoded: image file is {fault}") from None


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):  # Pillow would clip 16 bits instead of scaling them
        scaled = np.clip(np.asarray(image) // 257, 0, 255).astype(np.uint8)
        return Image.fromarray(scaled).convert("RGB")
    if image.has_transparency_data:
        opaque = Image.new("RGBA", image.size, _BACKGROUND)
        return Image.alpha_composite(opaque, image.convert("RGBA")).convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")


def resize_image(
    image: Image.Image, image_size: int | str, black_bars: BlackBars
) -> npt.NDArray[np.uint8]:
    """Resizes an image without keeping its aspect ratio, with antialiasing.

    Args:
        image: An RGB image.
        image_size: Height and width in pixels, as in `params.yaml`.
        black_bars: Whether black bars around the image are cut off first.

    Returns:
        (height, width, 3) RGB.
    """
    height, width = height_and_width(image_size)
    if black_bars == "cut":
        image = image.crop(_find_picture_box(image))
    resized = image.resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(resized, dtype=np.uint8)


def _find_picture_box(image: Image.Image) -> tuple[int, int, int, int] | None:
    """Returns left, top, right and bottom of the content between black bars; None if all black."""
    return find_content_box(np.asarray(image).max(axis=2) > BAR_TOLERANCE)


def find_content_box(is_content: npt.NDArray[np.bool_]) -> tuple[int, int, int, int] | None:
    """Returns the bounding box of the content between the bars of an image.

    Args:
        is_content: (height, width), whether a pixel differs from the bars.

    Returns:
        Left, top, right and bottom in pixels; None if there is no content.
    """
    columns = np.flatnonzero(is_content.mean(axis=0) > _SPECKS)
    rows = np.flatnonzero(is_content.mean(axis=1) > _SPECKS)
    if not len(columns) or not len(rows):
        return None
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1
