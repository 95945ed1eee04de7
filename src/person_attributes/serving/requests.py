"""A request to the served model: its limits, its options, and the error that refuses it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INTERNAL_ERROR, INVALID_PARAMETER_VALUE
from msgspec import Struct

INPUT_COLUMN = "image"

FAIL, ANSWER = "fail", "answer"
"""Values of `on_error`: an invalid row refuses the whole request, or its answer is an error."""


class RefusedRequest(MlflowException):
    """A refused request, with a message that is safe to return.

    MLflow's scoring server prepends the whole input to the message of an exception. This exception
    does not allow that, so neither an answer nor a log contains an image.

    Attributes:
        status: The HTTP status of the answer.
    """

    def __init__(self, message: str, status: int = 400) -> None:
        self._message, self.status = message, status
        code = INTERNAL_ERROR if status >= 500 else INVALID_PARAMETER_VALUE
        super().__init__(message, error_code=code)

    @property
    def message(self) -> str:
        return self._message

    @message.setter
    def message(self, _: str) -> None:
        """Ignores messages that others set."""

    def get_http_status_code(self) -> int:
        """Returns the HTTP status. MLflow's scoring server calls this."""
        return self.status


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


class RequestOptions(Struct, forbid_unknown_fields=True):
    """The parameters of a request.

    Attributes:
        top_k: The number of most probable classes in an answer.
        heads: The heads to answer; all heads if it is empty.
        all_probabilities: Whether an answer has the probabilities of all classes.
        on_error: `FAIL` or `ANSWER`.
    """

    top_k: int | float = 0  # an integer; JSON does not distinguish 2 and 2.0
    heads: tuple[str, ...] = ()
    all_probabilities: bool = False
    on_error: str = FAIL

    def __post_init__(self) -> None:
        """Checks the values; msgspec calls this after it has checked the types."""
        if self.top_k < 0 or self.top_k != int(self.top_k):
            raise ValueError("top_k: expected an integer of 0 or more. Received: another number.")
        if self.on_error not in (FAIL, ANSWER):
            raise ValueError(f"on_error: expected {FAIL} or {ANSWER}. Received: another value.")
        self.top_k = int(self.top_k)
        self.heads = tuple(dict.fromkeys(map(str, self.heads)))  # an array of NumPy from Python

    @classmethod
    def read(cls, params: Mapping[str, Any] | None) -> "RequestOptions":
        """Reads parameters from Python, where MLflow has checked their names and types.

        Raises:
            RefusedRequest: If a value is invalid.
        """
        try:
            return cls(**params or {})
        except ValueError as error:
            raise RefusedRequest(str(error)) from None

    def select(self, heads: Sequence[str]) -> Sequence[str]:
        """Returns the requested ones of the served heads.

        Raises:
            RefusedRequest: If a requested head is not served. The message lists the served ones.
        """
        if not set(self.heads) <= set(heads):
            raise RefusedRequest(
                f"heads: expected some of {', '.join(heads)}. Received: another name."
            )
        return self.heads or heads


@dataclass(frozen=True)
class Request:
    """A request: its rows and its options.

    Attributes:
        values: The images, as `read_image` takes them.
        options: The parameters.
    """

    values: Sequence[Any]
    options: RequestOptions
