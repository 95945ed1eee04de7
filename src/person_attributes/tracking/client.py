"""An MLflow client that retries writes after conflicts with other processes."""

import functools
import time
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

_RACES = {"BAD_REQUEST", "TEMPORARILY_UNAVAILABLE"}
"""MLflow's error codes for a duplicate key and for a locked database."""

_PAUSES_SECONDS = (0.1, 0.2, 0.4, 0.8)

_Args = ParamSpec("_Args")
_Result = TypeVar("_Result")


def _retry(method: Callable[_Args, _Result]) -> Callable[_Args, _Result]:
    """Retries a call that lost a race; the retry finds the rows of the other process."""

    @functools.wraps(method)
    def call(*args: _Args.args, **kwargs: _Args.kwargs) -> _Result:
        for pause in _PAUSES_SECONDS:
            try:
                return method(*args, **kwargs)
            except MlflowException as error:
                if error.error_code not in _RACES:
                    raise
            time.sleep(pause)
        return method(*args, **kwargs)

    return call


class RetryingClient(MlflowClient):
    """A client that retries write calls after conflicts with other processes."""

    create_run = _retry(MlflowClient.create_run)
    update_run = _retry(MlflowClient.update_run)
    set_terminated = _retry(MlflowClient.set_terminated)
    log_batch = _retry(MlflowClient.log_batch)
    log_metric = _retry(MlflowClient.log_metric)
    log_inputs = _retry(MlflowClient.log_inputs)
    set_tag = _retry(MlflowClient.set_tag)
    set_experiment_tag = _retry(MlflowClient.set_experiment_tag)
    set_model_version_tag = _retry(MlflowClient.set_model_version_tag)
    update_model_version = _retry(MlflowClient.update_model_version)
    set_registered_model_alias = _retry(MlflowClient.set_registered_model_alias)
