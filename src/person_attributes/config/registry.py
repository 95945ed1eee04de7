"""Sections on registered models: their name, the gate, their card."""

import re
from typing import Annotated

from pydantic import Field, field_validator

from person_attributes.config.fields import (
    FROM_LIST,
    Column,
    Count,
    Identifier,
    Positive,
    Section,
    Share,
)

_LONGEST_NAME = 255
"""Letters of a name that every store of MLflow takes."""

PRETRAINED = "pretrained"
"""The alias of the published network."""


class GateParams(Section):
    """When a challenger becomes the champion; all of it must hold, on the same rows."""

    min_gain: Annotated[float, Field(ge=-1, le=1)]
    require_significance: bool
    max_head_drop: Share
    max_calibration_increase: Share
    max_validation_lead: Share
    when_rows_differ: Annotated[str, Field(pattern="^(promote|keep)$")]


class ServingParams(Section):
    """What a served version answers, and how much a request may hold.

    `excluded_heads` are heads that it does not answer: they are left out of the exported network. With
    `int8` the network is rounded to 8 bits by so many training rows, where the gate lets it.
    """

    excluded_heads: Annotated[tuple[Identifier, ...], FROM_LIST]
    int8: bool
    int8_rows: Count
    max_rows: Count
    max_request_megabytes: Positive
    max_image_megabytes: Positive


class RegistryParams(Section):
    """Under which name the model is registered, how its export is checked, and what it serves."""

    model_name: Column
    alias: Identifier
    max_export_difference: Positive
    served_rows: Count
    serving: ServingParams
    gate: GateParams

    @field_validator("model_name")
    @classmethod
    def _is_name_for_mlflow(cls, name: str) -> str:
        if (
            not name.strip()
            or not name.isprintable()
            or set(name) & set("/:?@")
            or name == "."
            or name.startswith("..")
            or len(name) > _LONGEST_NAME
            or {"'", '"'} <= set(name)
            or name.endswith("\\")
        ):
            raise ValueError(
                f"MLflow registers no model of this name: expected up to {_LONGEST_NAME} letters "
                "without / : ? @, one kind of quotes at most, no dots in front and no backslash at "
                f"the end. Received: {name!r}. Rename the model."
            )
        return name

    @field_validator("alias")
    @classmethod
    def _is_free_in_mlflow(cls, alias: str) -> str:
        if re.fullmatch(r"latest|v\d+", alias) or len(alias) > _LONGEST_NAME:
            raise ValueError(
                f"MLflow sets no such alias: expected up to {_LONGEST_NAME} letters, and neither "
                f"latest nor v with a number. Received: {alias!r}. Rename the alias."
            )
        if alias == PRETRAINED:
            raise ValueError(
                f"{alias!r} is the alias of the published network. Expected another one for the "
                "champion. Rename the alias."
            )
        return alias


class CardParams(Section):
    """What only people can say on the model card."""

    licence: Column
    intended_use: Column
    contact: Column
