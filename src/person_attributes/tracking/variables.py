"""Checks the environment variables of MLflow before it is imported.

MLflow reads some of them when it is imported, and others only during training.
"""

import importlib.util
import logging
import os
import runpy
from pathlib import Path

from person_attributes.errors import TrackingError, one_line


def refuse_invalid_variables() -> None:
    """Refuses values that MLflow cannot read. It does not import MLflow.

    Raises:
        TrackingError: If a variable has such a value: correct or unset it.
    """
    package = importlib.util.find_spec("mlflow")
    assert package is not None, "MLflow is a dependency"
    path = Path(str(package.origin)).with_name("environment_variables.py")
    definitions = runpy.run_path(str(path))
    for variable in definitions.values():
        if isinstance(variable, definitions["_EnvironmentVariable"]):
            try:
                variable.get()
            except ValueError as error:
                reason = one_line(error, 200)
                raise TrackingError(f"{reason}. Correct or unset {variable.name}.") from None
    level = os.environ.get("MLFLOW_LOGGING_LEVEL") or "INFO"
    if level.upper() not in logging.getLevelNamesMapping():
        raise TrackingError(
            "MLFLOW_LOGGING_LEVEL: expected a level such as DEBUG or CRITICAL. Received: "
            f"{level!r}. Correct or unset it."
        )
