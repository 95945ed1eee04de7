"""Nested parameters under dotted names, as in MLflow."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

_PARAM_NAME = re.compile(r"[\w.-]{1,100}", re.ASCII)


def flatten(params: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yields nested parameters under dotted names.

    A mapping whose keys MLflow may refuse in a name, such as the alias `?`, stays one parameter.
    """
    for key, value in params.items():
        if isinstance(value, Mapping) and all(map(_PARAM_NAME.fullmatch, value)):
            yield from flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
