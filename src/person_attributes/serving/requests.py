"""What a request may ask for and hold, and how it is refused without repeating any of it."""

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
"""What a bad row does: refuse the whole request, or be answered with its error."""

DEFAULTS: Mapping[str, Any] = {
    "top_k": 0,
    "heads": [],
    "all_probabilities": False,
    "on_error": FAIL,
}
"""The parameters of a request and what they are where it names none."""

_DATA_URL = re.compile(r"data:[\w.+-]+/[\w.+-]+(;[\w=.+-]+)*;base64,", re.ASCII)


class RefusedRequest(MlflowException):
    """A request that cannot be answered, with a text that is safe to send back.

    MLflow's scoring server puts the whole input in front of the message of an exception; this one
    keeps its own, so that no image is echoed into an answer or a log.
    """

    def __init__(self, message: str, error_code: int = INVALID_PARAMETER_VALUE) -> None:
        self._message = message
        super().__init__(message, error_code=error_code)

    @property
    def message(self) -> str:
        return self._message

    @message.setter
    def message(self, _: str) -> None:
        """Ignores what others would put in front."""


class RowError(Exception):
    """One row that cannot be answered.

    Attributes:
        kind: What is wrong, for programs: `type`, `base64`, `size` or `image`.
    """

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


@dataclass(frozen=True)
class Limits:
    """What a request may hold.

    Attributes:
        rows: Images in one request.
        request_megabytes: Bytes of its body, in millions.
        image_megabytes: Bytes of one image file, in millions.
        image_megapixels: Width times height of one image, in millions.
    """

    rows: int
    request_megabytes: float
    image_megabytes: float
    image_megapixels: float


@dataclass(frozen=True)
class RequestOptions:
    """The parameters of a request, checked; their names and defaults are those of `DEFAULTS`."""

    top_k: int
    heads: tuple[str, ...]
    all_probabilities: bool
    on_error: str

    @classmethod
    def read(cls, params: Mapping[str, Any] | None, heads: Sequence[str]) -> Self:
        """Checks parameters.

        Args:
            params: What came with the request.
            heads: Those that the model answers.

        Raises:
            RefusedRequest: If a parameter is not one of its values; the message lists them.
        """
        asked = {**DEFAULTS, **(params or {})}
        # From Python an array is a NumPy array; from HTTP it is a list.
        chosen = tuple(str(head) for head in asked["heads"])
        unknown = [head for head in chosen if head not in heads]
        if unknown:
            raise RefusedRequest(
                f"heads: expected some of {', '.join(heads)}. Received: another name."
            )
        if asked["on_error"] not in (FAIL, ANSWER):
            raise RefusedRequest(f"on_error: expected {FAIL} or {ANSWER}. Received: another word.")
        if not asked["top_k"] >= 0:
            raise RefusedRequest("top_k: expected 0 or more. Received: less.")
        return cls(
            top_k=int(asked["top_k"]),
            heads=chosen or tuple(heads),
            all_probabilities=bool(asked["all_probabilities"]),
            on_error=str(asked["on_error"]),
        )


def read_image(value: Any, limits: Limits) -> Image.Image:
    """Decodes what one row holds.

    Args:
        value: A base64 string, with or without a `data:` prefix; or, from Python and Spark, the
            bytes of an image file. A URL or a path is neither: nothing is fetched or opened.
        limits: How large the image may be.

    Returns:
        The image, as `decode_image` gives it.

    Raises:
        RowError: If it is no such value, or no image; without any of its content.
    """
    if isinstance(value, bytes | bytearray):
        content = bytes(value)
    elif isinstance(value, str):
        content = _decode_base64(value, limits)
    else:
        raise RowError("type", "expected an image as base64 string. Received: something else.")
    if len(content) > limits.image_megabytes * 1e6:
        raise RowError("size", f"a file of more than {limits.image_megabytes:g} MB. Send less.")
    try:
        return decode_image(content, limits.image_megapixels)
    except ImageError as error:
        raise RowError("image", f"{error}. Send a whole image file.") from None


def _decode_base64(value: str, limits: Limits) -> bytes:
    prefix = _DATA_URL.match(value[:200])
    encoded = value[prefix.end() :] if prefix else value
    if len(encoded) > limits.image_megabytes * 2e6:  # base64 is a third longer, and has line breaks
        raise RowError("size", f"a file of more than {limits.image_megabytes:g} MB. Send less.")
    try:
        return base64.b64decode("".join(encoded.split()), validate=True)
    except (binascii.Error, ValueError):
        raise RowError("base64", "not valid base64. Encode the image file.") from None
