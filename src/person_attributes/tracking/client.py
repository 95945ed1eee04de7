"""MLflow's client, patient where several processes write the same at the same moment."""

import functools
import time
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

_RACES = {"BAD_REQUEST", "TEMPORARILY_UNAVAILABLE"}
"""What MLflow makes of a database's refusal: of a second row with one key, of a lock."""

_PAUSES_SECONDS = (0.1, 0.2, 0.4, 0.8)

_Args = ParamSpec("_Args")
_Given = TypeVar("_Given")


def _retry(method: Callable[_Args, _Given]) -> Callable[_Args, _Given]:
    """Tries a call again that lost a race: the second time it finds what the other wrote."""

    @functools.wraps(method)
    def call(*args: _Args.args, **kwargs: _Args.kwargs) -> _Given:
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
    """A client whose writing calls are tried again where another process got in between."""

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
