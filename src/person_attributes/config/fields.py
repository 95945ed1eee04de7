"""What the sections of `params.yaml` are made of: one strict base, and kinds of values."""

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field


def _to_tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


FROM_LIST = BeforeValidator(_to_tuple)
Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1)]
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
BelowOne = Annotated[float, Field(ge=0, lt=1)]
Between = Annotated[float, Field(gt=0, lt=1)]
ImageSize = Annotated[int, Field(ge=32, le=4096)]
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
