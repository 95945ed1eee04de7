"""Answers the requests to MLflow's scoring server in its place.

The server would make a table of each request, and needs gigabytes for some small ones. If it cannot
parse a request, its answer contains the input; after an unexpected error, it contains a stack
trace. No option of the server changes that. In processes that serve a model, this module therefore
replaces the function that computes all answers.
"""

import logging
import os
import time
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from mlflow.environment_variables import MLFLOW_SCORING_SERVER_REQUEST_TIMEOUT
from mlflow.pyfunc import scoring_server

from person_attributes.serving.requests import RefusedRequest


def guard_endpoint() -> None:
    """Replaces the function that computes the answers of MLflow's server, in its processes."""
    if scoring_server._SERVER_MODEL_PATH in os.environ:
        scoring_server.invocations = _answer
        # MLflow's warnings echo names from the request.
        logging.getLogger("mlflow").setLevel(logging.ERROR)


def encode_answers(answers: Sequence[Mapping[str, Any]]) -> bytes:
    """Encodes the answers of all rows as JSON."""
    return msgspec.json.encode({"predictions": answers})


def _answer(body: bytes, content_type: str | None, model: Any, _: Any) -> Any:
    """Answers a request, with the arguments and the result of MLflow's function."""
    timeout = MLFLOW_SCORING_SERVER_REQUEST_TIMEOUT.get()  # type: ignore[no-untyped-call]
    until = time.monotonic() + timeout
    try:
        answer = model.unwrap_python_model().answer_body(
            body, content_type, lambda: time.monotonic() > until
        )
    except RefusedRequest:
        raise
    except Exception:  # its message may contain the request
        raise RefusedRequest("the server failed. Try again.", status=500) from None
    return scoring_server.InvocationsResponse(answer, 200, "application/json")
