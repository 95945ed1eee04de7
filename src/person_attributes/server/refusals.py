"""The answer to a refused request."""

from starlette.responses import Response

from person_attributes.serving.requests import RefusedRequest

CLIENT_LEFT = 499
"""The status that nginx logs if the client has closed the connection before the answer."""

_KINDS = {
    408: "timeout",
    413: "too_large",
    415: "content_type",
    CLIENT_LEFT: "client_left",
    503: "busy",
    504: "timeout",
}

_RETRY_SECONDS = "1"


def refuse(error: RefusedRequest) -> Response:
    """Builds the answer to a refused request, in MLflow's format."""
    headers = {"Retry-After": _RETRY_SECONDS} if error.status == 503 else None
    content = error.serialize_as_json()  # type: ignore[no-untyped-call]
    return Response(content, error.status, headers, "application/json")


def name_kind(status: int) -> str:
    """Names the kind of an error by its status, for metrics and logs."""
    return _KINDS.get(status, "invalid" if status < 500 else "failed")
