"""Keeps MLflow's scoring server from repeating what it was sent.

That server answers what it cannot parse with the input in front of the reason, and what it did not
expect with a stack trace, both into the answer; nothing in its interface changes that. It asks one
function for every answer. While a model is served, that function is wrapped here.
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
    """Says whether this process is a scoring server, rather than a program or a worker of Spark."""
    return scoring_server._SERVER_MODEL_PATH in os.environ


def guard_endpoint(limits: Limits) -> None:
    """Wraps the scoring server's answers, where this process is one."""
    if is_served():
        scoring_server.invocations = _guard(scoring_server.invocations, limits)
        # Its warnings repeat names that a request came with.
        logging.getLogger("mlflow").setLevel(logging.ERROR)


def _guard(answer: Callable[..., Any], limits: Limits) -> Callable[..., Any]:
    def guarded(data: Any, content_type: str | None, model: Any, input_schema: Any) -> Any:
        if len(data) > limits.request_megabytes * 1e6:
            raise RefusedRequest(
                f"a request of more than {limits.request_megabytes:g} MB. Send fewer or smaller "
                "images at once."
            )
        try:
            return answer(data, content_type or "", model, input_schema)
        except RefusedRequest:
            raise
        except Exception:  # whatever a request drives MLflow, pandas and JSON to
            raise RefusedRequest(f"the request cannot be read. {EXPECTED}") from None

    return guarded
