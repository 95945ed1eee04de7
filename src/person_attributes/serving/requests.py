"""Parses requests, and refuses invalid ones without echoing any of their content."""

import base64
import binascii
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE
from PIL import Image

from person_attributes.data.images import decode_image
from person_attributes.errors import ImageError

INPUT_COLUMN = "image"

FAIL, ANSWER = "fail", "answer"
"""Values of `on_error`: an invalid row refuses the whole request, or its answer is an error."""

DEFAULTS: Mapping[str, Any] = {
    "top_k": 0,
    "heads": [],
    "all_probabilities": False,
    "on_error": FAIL,
}
"""The parameters of a request and their default values."""

_DATA_URL = re.compile(r"data:[\w.+-]+/[\w.+-]+(;[\w=.+-]+)*;base64,", re.ASCII)


class RefusedRequest(MlflowException):
    """A refused request, with a message that is safe to return.

    MLflow's scoring server prepends the whole input to the message of an exception. This exception
    does not allow that, so neither an answer nor a log contains an image.
    """

    def __init__(self, message: str, error_code: int = INVALID_PARAMETER_VALUE) -> None:
        self._message = message
        super().__init__(message, error_code=error_code)

    @property
    def message(self) -> str:
        return self._message

    @message.setter
    def message(self, _: str) -> None:
        """Ignores messages that others set."""


class RowError(Exception):
    """A row with an invalid image.

    Attributes:
        kind: The kind of the error: `type`, `base64`, `size` or `image`.
    """

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


@dataclass(frozen=True)
class Limits:
    """The limits of a request.

    Attributes:
        rows: The number of images in a request.
        request_megabytes: The size of its body in 10^6 bytes.
        image_megabytes: The size of one image file in 10^6 bytes.
        image_megapixels: The size of one image in 10^6 pixels.
    """

    rows: int
    request_megabytes: float
    image_megabytes: float
    image_megapixels: float


@dataclass(frozen=True)
class RequestOptions:
    """The checked parameters of a request; `DEFAULTS` has their defaults."""

    top_k: int
    heads: tuple[str, ...]
    all_probabilities: bool
    on_error: str

    @classmethod
    def read(cls, params: Mapping[str, Any] | None, heads: Sequence[str]) -> Self:
        """Checks parameters.

        Args:
            params: The parameters of the request; None for the defaults.
            heads: The served heads.

        Raises:
            RefusedRequest: If a parameter has an invalid value. The message lists the valid ones.
        """
        received = {**DEFAULTS, **(params or {})}
        # A NumPy array from Python, a list from HTTP.
        selected = tuple(str(head) for head in received["heads"])
        unknown = [head for head in selected if head not in heads]
        if unknown:
            raise RefusedRequest(
                f"heads: expected some of {', '.join(heads)}. Received: another name."
            )
        if received["on_error"] not in (FAIL, ANSWER):
            raise RefusedRequest(f"on_error: expected {FAIL} or {ANSWER}. Received: another value.")
        if not received["top_k"] >= 0:
            raise RefusedRequest("top_k: expected 0 or more. Received: a negative number.")
        return cls(
            top_k=int(received["top_k"]),
            heads=selected or tuple(heads),
            all_probabilities=bool(received["all_probabilities"]),
            on_error=str(received["on_error"]),
        )


def read_image(value: Any, limits: Limits) -> Image.Image:
    """Decodes the image of one row.

    Args:
        value: A base64 string, with or without a `data:` prefix; or, from Python and Spark, the
            bytes of an image file. URLs and paths are refused: nothing is fetched or opened.
        limits: The limits of the image.

    Returns:
        The image as `decode_image` returns it.

    Raises:
        RowError: If the value or the image is invalid. The message has none of its content.
    """
    if isinstance(value, bytes | bytearray):
        content = bytes(value)
    elif isinstance(value, str):
        content = _decode_base64(value, limits)
    else:
        raise RowError("type", "expected an image as base64 string. Received: another type.")
    if len(content) > limits.image_megabytes * 1e6:
        raise RowError("size", _describe_size(limits))
    try:
        return decode_image(content, limits.image_megapixels)
    except ImageError as error:
        raise RowError("image", f"{error}. Send a complete image file.") from None


def _decode_base64(value: str, limits: Limits) -> bytes:
    prefix = _DATA_URL.match(value[:200])
    encoded = value[prefix.end() :] if prefix else value
    if len(encoded) > limits.image_megabytes * 2e6:  # base64 adds a third, and line breaks
        raise RowError("size", _describe_size(limits))
    try:
        return base64.b64decode("".join(encoded.split()), validate=True)
    except (binascii.Error, ValueError):
        raise RowError("base64", "not valid base64. Encode the image file.") from None


def _describe_size(limits: Limits) -> str:
    return f"a file of more than {limits.image_megabytes:g} MB. Send a smaller image."
