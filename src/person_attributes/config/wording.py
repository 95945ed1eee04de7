"""Formats pydantic's validation errors on `params.yaml`, one line for each fault."""

import re
from datetime import date
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel

from person_attributes.errors import one_line, suggest

RENAMED = {
    "backup_minutes": "checkpoint_minutes",
    "beyond_chance": "require_significance",
    "figure": "metric",
    "heads_off": "excluded_heads",
    "largest_calibration_drop": "max_calibration_increase",
    "largest_head_drop": "max_head_drop",
    "largest_validation_lead": "max_validation_lead",
    "least_progress": "min_prior_improvement",
    "lucky_hits_per_head": "least_confident_correct_per_head",
    "minimum_gain": "min_gain",
    "mistakes_per_head": "most_confident_errors_per_head",
    "phase": "phases",
    "smallest_slice": "min_slice_rows",
    "suspicious_per_head": "label_issues_per_head",
}
"""`{key in version 0.1: key}`."""


_EXPECTED = {
    "bool_type": "true or false",
    "dict_type": "keys and values",
    "float_type": "a number",
    "int_from_float": "an integer",
    "int_type": "an integer",
    "invalid_key": "keys that are text",
    "model_attributes_type": "keys and values",
    "model_type": "keys and values",
    "string_pattern_mismatch": "text that matches {pattern}",
    "string_too_long": "at most {max_length} characters",
    "string_too_short": "text that is not empty",
    "string_type": "text",
    "too_long": "at most {max_length} entries",
    "too_short": "at least {min_length} entries",
    "tuple_type": "a list",
}
"""What is expected, by pydantic's type of fault; other types have a readable message."""

_KEYS = {
    "aliases": "Put it in quotes.",
    "augmenters": "Use the name of an augmenter, such as Fliplr.",
    "search": "Use a key of this file, with dots between sections.",
}
"""What to do about a key that is not text, by the section; other keys are identifiers."""

_UNQUOTED = ("bool_type", "float_type", "int_type")
"""Pydantic's types of faults in values that are not text."""

_QUOTED = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?|true|false")
"""Text that YAML reads as a number or a truth value if it is not in quotes."""

_MAX_LENGTH = 200
"""Maximum number of characters of a received value."""


def follows_from_rename(fault: Any) -> bool:
    """Returns whether a key is missing only because its section still has the earlier name."""
    return fault["type"] == "missing" and any(
        RENAMED.get(key) == fault["loc"][-1] for key in fault["input"]
    )


def describe_fault(fault: Any, model: type[BaseModel]) -> str:
    """Formats one fault as a line: where, what, expected, received, what to do.

    Args:
        fault: An entry of `pydantic.ValidationError.errors()`.
        model: The validated model.
    """
    keys, known = _locate(fault["loc"], model)
    where = ".".join(keys)
    if fault["type"] in ("extra_forbidden", "invalid_key"):
        renamed = RENAMED.get(keys[-1])
        if renamed in known:
            return f"{where}: renamed since version 0.1. Rename it to {renamed}."
        hint = suggest(keys[-1], known)
        return (
            f"{where}: unknown key.{hint} Expected one of {', '.join(known)}. Rename or remove it."
        )
    if fault["type"] == "missing":
        return f"{where}: missing. Add the key; see recipes/ for complete files."
    if fault["type"] == "union_tag_not_found":
        return f"{where}.kind: missing. Add the key; see recipes/ for complete files."
    if fault["type"] == "union_tag_invalid":
        expected = fault["ctx"]["expected_tags"].replace("'", "")
        received = one_line(_show(fault["input"]["kind"]), _MAX_LENGTH)
        hint = suggest(fault["ctx"]["tag"], expected.split(", "))
        return (
            f"{where}.kind: expected one of {expected}. Received: {received}.{hint} "
            "Change the value."
        )
    if fault["type"] == "value_error":
        return f"{where}: {fault['ctx']['error']}" if where else str(fault["ctx"]["error"])
    if fault["type"] in _EXPECTED:
        expected = _EXPECTED[fault["type"]].format(**fault.get("ctx", {}))
    else:
        expected = fault["msg"].removeprefix("Input should be ")
    received = one_line(_show(fault["input"]), _MAX_LENGTH)
    return f"{where}: expected {expected}. Received: {received}. {_advise(fault)}"


def _show(value: Any) -> str:
    """Formats a value as in YAML."""
    if value is None or isinstance(value, bool):
        return {None: "no value", True: "true", False: "false"}[value]
    return repr(list(value) if isinstance(value, tuple) else value)


def _advise(fault: Any) -> str:
    value = fault["input"]
    if "[key]" in fault["loc"]:
        advice = "Rename it: lower-case letters, digits and underscores, beginning with a letter."
        return next((_KEYS[part] for part in fault["loc"] if part in _KEYS), advice)
    if fault["type"] == "string_type" and isinstance(value, int | float | date):
        return "Put it in quotes."
    if fault["type"] == "string_type" and value is None:
        return "Write a value; put text that begins with # in quotes."
    if "aliases" in fault["loc"] and isinstance(value, list):
        return "Write each spelling before its class, as in {m: male, M: male}."
    if fault["type"] == "tuple_type" and value is None:
        return "Write [] for none."
    if fault["type"] == "tuple_type" and isinstance(value, str | int | float):
        return "Put it in brackets, as in [a, b]."
    if fault["type"] in _UNQUOTED and isinstance(value, str) and _QUOTED.fullmatch(value):
        return "Write it without quotes."
    return "Change the value."


def _locate(location: tuple[Any, ...], model: type[BaseModel]) -> tuple[list[str], list[str]]:
    """Returns the path of keys to a fault, and the known keys of its section.

    In a union of sections, pydantic inserts the kind of the section into the location.
    """
    keys: list[str] = []
    known: list[str] = []
    here: Any = model
    for part in location:
        if part == "[key]":  # the fault is in the key itself
            break
        kinds = _kinds(here)
        if kinds:
            here = kinds.get(part)
            continue
        keys.append(str(part))
        known = []
        if isinstance(here, type) and issubclass(here, BaseModel):
            known = list(here.model_fields)
            field = here.model_fields.get(str(part))
            here = field.annotation if field else None
        elif get_origin(here) is dict:
            here = get_args(here)[1]
        else:
            here = None
    return keys, known


def _kinds(annotation: Any) -> dict[str, type[BaseModel]]:
    """Returns the sections of a discriminated union by their `kind`; empty for other types."""
    if get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
    if get_origin(annotation) not in (Union, UnionType):
        return {}
    return {
        get_args(section.model_fields["kind"].annotation)[0]: section
        for section in get_args(annotation)
        if isinstance(section, type) and issubclass(section, BaseModel)
    }
