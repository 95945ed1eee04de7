"""The strict base class of all sections of `params.yaml`, and its types of values."""

import re
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, field_validator

from person_attributes.framing import height_and_width


def _to_tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


_SMALLEST, _LARGEST = 32, 4096
"""Side of an image, in pixels."""


def _check_image_size(value: Any) -> Any:
    is_rectangle = isinstance(value, str) and re.fullmatch(r"[1-9]\d{1,3}x[1-9]\d{1,3}", value)
    if (type(value) is int or is_rectangle) and all(
        _SMALLEST <= side <= _LARGEST for side in height_and_width(value)
    ):
        return value
    raise ValueError(
        f"expected {_SMALLEST} to {_LARGEST} pixels, such as 128 for a square or 128x64 for "
        f"height x width. Received: {value!r}"
    )


_LONGEST_IDENTIFIER = 100
"""Characters of an identifier: names of files and of MLflow's metrics contain it."""


def _refuse_repeated(values: tuple[Any, ...]) -> tuple[Any, ...]:
    repeated = [value for value in values if values.count(value) > 1]
    if repeated:
        raise ValueError(f"{repeated[0]!r} is listed twice; remove one")
    return values


FROM_LIST = BeforeValidator(_to_tuple)
UNIQUE = AfterValidator(_refuse_repeated)
Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1)]
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
BelowOne = Annotated[float, Field(ge=0, lt=1)]
Between = Annotated[float, Field(gt=0, lt=1)]
Megapixels = Annotated[float, Field(gt=0, le=89)]
"""Size of an image in 10^6 pixels. Pillow warns if it crops more than `Image.MAX_IMAGE_PIXELS`,
89.5 x 10^6 pixels, and raises an error if it crops more than twice as many."""
Side = Annotated[int, Field(ge=_SMALLEST, le=_LARGEST)]
ImageSize = Annotated[int | str, BeforeValidator(_check_image_size)]
Identifier = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$", max_length=_LONGEST_IDENTIFIER)]
Column = Annotated[str, Field(min_length=1)]


class Section(BaseModel):
    """A section of `params.yaml`: frozen, all fields required, unknown keys refused.

    Numbers are finite. Text has no null characters, which paths do not support.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    @field_validator("*")
    @classmethod
    def _has_no_null(cls, value: Any) -> Any:
        if isinstance(value, str) and "\0" in value:
            raise ValueError(f"expected text without null characters. Received: {value!r}")
        return value


def require_known(where: str, received: Any, known: Any) -> None:
    """Checks that a value is among the known ones.

    Raises:
        ValueError: If it is not; the message lists the known values.
    """
    if received not in known:
        expected = ", ".join(str(value) for value in known)
        raise ValueError(f"{where}: expected one of {expected}. Received: {received}")
