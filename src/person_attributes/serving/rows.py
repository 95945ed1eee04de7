"""Reads the images of the rows of a request."""

import base64
import binascii
import re
import threading
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
from msgspec import Raw
from PIL import Image

from person_attributes.data.images import open_image
from person_attributes.errors import ImageError
from person_attributes.serving.requests import INPUT_COLUMN, Limits

_DATA_URL = re.compile(r"data:[\w.+-]+/[\w.+-]+(;[\w=.+-]+)*;base64,", re.ASCII)

_LARGE_MEGAPIXELS = 8
"""Larger images are decoded and resized one at a time, because each takes much memory."""

_LARGE_IMAGE = threading.Lock()


class RowError(Exception):
    """A row with an invalid image.

    Attributes:
        kind: The kind of the error: `type`, `base64`, `size` or `image`.
    """

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


def read_image(
    value: Any, limits: Limits, resize: Callable[[Image.Image], npt.NDArray[np.uint8]]
) -> npt.NDArray[np.uint8]:
    """Decodes and resizes the image of one row.

    Args:
        value: A base64 string, with or without a `data:` prefix, as a string or as the JSON of a
            string; or the bytes of an image file. URLs and paths are refused: nothing is fetched
            or opened.
        limits: The limits of the image.
        resize: Resizes an image as `decode_image` returns it.

    Raises:
        RowError: If the value or the image is invalid. The message has none of its content.
    """
    if isinstance(value, Raw):
        value = _decode_json(value, limits)
    if isinstance(value, bytes | bytearray):
        content = bytes(value)
    elif isinstance(value, str):
        content = _decode_base64(value, limits)
    else:
        raise RowError("type", "expected an image as base64 string. Received: another type.")
    if len(content) > limits.image_megabytes * 1e6:
        raise RowError("size", _describe_size(limits))
    try:
        image = open_image(content, limits.image_megapixels)
        with _LARGE_IMAGE if image.megapixels > _LARGE_MEGAPIXELS else nullcontext():
            return resize(image.decode())
    except ImageError as error:
        raise RowError("image", f"{error}. Send a complete image file.") from None


def _decode_json(encoded: Raw, limits: Limits) -> Any:
    """Decodes a string. Other values are left encoded: none of them is an image."""
    if not len(memoryview(encoded)):
        raise RowError("type", f"expected a column {INPUT_COLUMN!r}. Received: none in this row.")
    if len(memoryview(encoded)) > _count_characters(limits):
        raise RowError("size", _describe_size(limits))
    try:
        return msgspec.json.decode(encoded, type=str)
    except msgspec.ValidationError:
        return encoded
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise RowError("base64", "not valid base64. Encode the image file.") from None


def _decode_base64(value: str, limits: Limits) -> bytes:
    prefix = _DATA_URL.match(value[:200])
    encoded = value[prefix.end() :] if prefix else value
    if len(encoded) > _count_characters(limits):
        raise RowError("size", _describe_size(limits))
    try:
        return base64.b64decode("".join(encoded.split()), validate=True)
    except (binascii.Error, ValueError):
        raise RowError("base64", "not valid base64. Encode the image file.") from None


def _count_characters(limits: Limits) -> float:
    """Returns how many characters a file may have: base64 adds a third, and line breaks."""
    return limits.image_megabytes * 2e6


def _describe_size(limits: Limits) -> str:
    return f"a file of more than {limits.image_megabytes:g} MB. Send a smaller image."
