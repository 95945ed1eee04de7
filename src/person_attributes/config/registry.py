"""Sections for registered models: name, export, serving, gate and model card."""

import re
from typing import Annotated, Literal

from pydantic import Field, field_validator

from person_attributes.config.fields import (
    FROM_LIST,
    Column,
    Count,
    Identifier,
    Megapixels,
    Positive,
    Section,
    Share,
)

_LONGEST_NAME = 255
"""Length of a name that every MLflow store accepts, in characters."""

PRETRAINED = "pretrained"
"""The alias of the published network."""


class GateParams(Section):
    """When a challenger becomes the champion.

    All conditions must hold. Both models are compared on the same rows.
    """

    min_gain: Annotated[float, Field(ge=-1, le=1)]
    require_significance: bool
    max_head_drop: Share
    max_calibration_increase: Share
    max_validation_lead: Share
    when_rows_differ: Literal["promote", "keep"]


class ServingParams(Section):
    """Which heads a served version predicts, and the limits of a request.

    `excluded_heads` are left out of the exported network. With `int8` the exported network is
    quantized to 8 bits, calibrated on `int8_rows` training rows, if the gate accepts the result.
    """

    excluded_heads: Annotated[tuple[Identifier, ...], FROM_LIST]
    int8: bool
    int8_rows: Count
    max_rows: Count
    max_request_megabytes: Positive
    max_image_megabytes: Positive
    max_image_megapixels: Megapixels


class RegistryParams(Section):
    """Name of the registered model, checks of its export, serving and gate."""

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
                f"MLflow does not accept this model name: expected at most {_LONGEST_NAME} "
                "characters without / : ? @, at most one kind of quotation mark, no leading dots "
                f"and no trailing backslash. Received: {name!r}. Rename the model."
            )
        return name

    @field_validator("alias")
    @classmethod
    def _is_free_in_mlflow(cls, alias: str) -> str:
        if re.fullmatch(r"latest|v\d+", alias):
            raise ValueError(
                "MLflow does not accept this alias: expected neither latest nor v with a number. "
                f"Received: {alias!r}. Rename the alias."
            )
        if alias == PRETRAINED:
            raise ValueError(
                f"{alias!r} is the alias of the published network. Expected another one for the "
                "champion. Rename the alias."
            )
        return alias


class CardParams(Section):
    """Statements on the model card that cannot be computed."""

    licence: Column
    intended_use: Column
    contact: Column
