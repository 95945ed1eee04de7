"""Prevents MLflow's scoring server from echoing requests in its answers.

If the server cannot parse a request, its answer contains the input. After an unexpected error, its
answer contains a stack trace. No option of the server changes that. This module therefore wraps the
function that computes all answers, in processes that serve a model.
"""

import logging
import os
from collections.abc import Callable
from typing import Any

from mlflow.pyfunc import scoring_server

from person_attributes.serving.requests import INPUT_COLUMN, Limits, RefusedRequest

EXPECTED = (
    'Expected JSON such as {"dataframe_split": {"columns": ["' + INPUT_COLUMN + '"], '
    '"data": [["<base64 of an image file>"]]}, "params": {"top_k": 3}}, with the content type '
    "application/json."
)


def is_served() -> bool:
    """Returns whether this process is a scoring server, not a script or a Spark worker."""
    return scoring_server._SERVER_MODEL_PATH in os.environ


def guard_endpoint(limits: Limits) -> None:
    """Wraps the function that computes the scoring server's answers, if this process is one."""
    if is_served():
        scoring_server.invocations = _guard(scoring_server.invocations, limits)
        # MLflow's warnings echo names from the request.
        logging.getLogger("mlflow").setLevel(logging.ERROR)


def _guard(answer: Callable[..., Any], limits: Limits) -> Callable[..., Any]:
    def guarded(data: Any, content_type: str | None, model: Any, input_schema: Any) -> Any:
        if len(data) > limits.request_megabytes * 1e6:
            raise RefusedRequest(
                f"a request of more than {limits.request_megabytes:g} MB. Send fewer or smaller "
                "images per request."
            )
        try:
            return answer(data, content_type or "", model, input_schema)
        except RefusedRequest:
            raise
        except Exception:  # an invalid request makes MLflow, pandas or json raise any type
            raise RefusedRequest(f"the request cannot be read. {EXPECTED}") from None

    return guarded
