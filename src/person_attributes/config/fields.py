"""What the sections of `params.yaml` are made of: one strict base, and kinds of values."""

import re
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from person_attributes.framing import height_and_width


def _to_tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _check_image_size(value: Any) -> Any:
    sides = [value] if type(value) is int else _read_sides(value)
    if sides and all(32 <= side <= 4096 for side in sides):
        return value
    raise ValueError(
        "expected pixels from 32 to 4096: 128 is a square, 128x64 an upright rectangle, its "
        f"height first. Received: {value!r}"
    )


def _read_sides(value: Any) -> list[int]:
    if not isinstance(value, str) or not re.fullmatch(r"[1-9]\d{1,3}x[1-9]\d{1,3}", value):
        return []
    return list(height_and_width(value))


FROM_LIST = BeforeValidator(_to_tuple)
Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1)]
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
BelowOne = Annotated[float, Field(ge=0, lt=1)]
Between = Annotated[float, Field(gt=0, lt=1)]
ImageSize = Annotated[int | str, BeforeValidator(_check_image_size)]
Identifier = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]
Column = Annotated[str, Field(min_length=1)]


class Section(BaseModel):
    """A part of `params.yaml`: every field required, no other key, frozen."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


def require_known(where: str, received: Any, known: Any) -> None:
    """Raises where a value does not name one of those that are known."""
    if received not in known:
        expected = ", ".join(str(value) for value in known)
        raise ValueError(f"{where}: expected one of {expected}. Received: {received}")
