"""Checks the environment variables of MLflow before it is imported.

MLflow reads some of them when it is imported, and others only during training.
"""

import importlib.util
import logging
import runpy
from pathlib import Path
from typing import Any

from person_attributes.errors import TrackingError, one_line

_LEVEL = "MLFLOW_LOGGING_LEVEL"

_RANGES = {
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": (0, 120),
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": (0, 10),
    "MLFLOW_HTTP_REQUEST_TIMEOUT": (1, 86400),
}
"""The smallest and the largest useful value; MLflow refuses many others at the first request."""


def refuse_invalid_variables() -> None:
    """Refuses values that MLflow cannot use. It does not import MLflow.

    Raises:
        TrackingError: If a variable has such a value: correct or unset it.
    """
    values = _read_values()
    for name, (lowest, highest) in _RANGES.items():
        if not lowest <= values[name] <= highest:
            raise TrackingError(
                f"{name}: expected {lowest} to {highest}. Received: {values[name]}. Correct or "
                "unset it."
            )
    level = values[_LEVEL] or "INFO"
    if level.upper() not in logging.getLevelNamesMapping():
        raise TrackingError(
            f"{_LEVEL}: expected a level such as DEBUG or CRITICAL. Received: {level!r}. Correct "
            "or unset it."
        )


def _read_values() -> dict[str, Any]:
    """Reads all variables that MLflow defines, without its package: the defaults, if not set."""
    package = importlib.util.find_spec("mlflow")
    assert package is not None, "MLflow is a dependency"
    path = Path(str(package.origin)).with_name("environment_variables.py")
    definitions = runpy.run_path(str(path))
    values = {}
    for variable in definitions.values():
        if isinstance(variable, definitions["_EnvironmentVariable"]):
            try:
                values[variable.name] = variable.get()
            except ValueError as error:
                reason = one_line(error, 200)
                raise TrackingError(f"{reason}. Correct or unset {variable.name}.") from None
    return values
