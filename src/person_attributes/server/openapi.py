"""The OpenAPI document of the server."""

from typing import Any

from person_attributes.server.identity import Identity
from person_attributes.serving.bodies import IMAGE_TYPES, JSON_TYPE
from person_attributes.serving.classifier import ServedClassifier
from person_attributes.serving.requests import ANSWER, FAIL, INPUT_COLUMN, Limits, RequestOptions

Schema = dict[str, Any]

_PLAIN = "text/plain"
_STRING = {"type": "string"}

_EXAMPLE = {"dataframe_split": {"columns": [INPUT_COLUMN], "data": [["<base64 of an image file>"]]}}


def describe_api(identity: Identity, classifier: ServedClassifier) -> Schema:
    """Describes all routes, requests and answers.

    Args:
        identity: The name and version of the served model.
        classifier: The served model, with its heads and limits.

    Returns:
        A document of OpenAPI 3.1.
    """
    limits = classifier.limits
    return {
        "openapi": "3.1.0",
        "info": {
            "title": f"{identity.name or 'Unnamed model'}, version {identity.version or '?'}",
            "version": identity.version or "0",
            "description": "All answers have the headers X-Request-ID, X-Model-Name and "
            "X-Model-Version. If a request has a valid X-Request-ID, its answer has the same one.",
        },
        "paths": {
            "/invocations": {"post": _describe_invocations(limits)},
            **{path: {"get": operation} for path, operation in _describe_reads().items()},
        },
        "components": {
            "schemas": {
                **_describe_requests(classifier, limits),
                **_describe_answers(classifier),
                "Error": _object({"error_code": _STRING, "message": _STRING}),
            }
        },
    }


def _describe_invocations(limits: Limits) -> Schema:
    image = {"schema": {"type": "string", "format": "binary"}}
    request = {"schema": _refer("Request"), "example": _EXAMPLE}
    retry = {"headers": {"Retry-After": {"schema": {"type": "integer"}}}}
    errors = {
        "400": "The request or one of its images is invalid",
        "408": "The request did not arrive in time",
        "413": f"The body has more than {limits.request_megabytes:g} MB",
        "415": "The body has another content type",
        "500": "The network failed",
    }
    return {
        "operationId": "predict",
        "summary": "Predicts the attributes of the person on each image",
        "requestBody": {
            "required": True,
            "content": {JSON_TYPE: request, **dict.fromkeys(IMAGE_TYPES, image)},
        },
        "responses": {
            "200": _respond("One answer for each image, in their order", _refer("Answer")),
            **{status: _respond(text, _refer("Error")) for status, text in errors.items()},
            "503": {
                **_respond(
                    "Too many requests are in flight, or the server is stopping", _refer("Error")
                ),
                **retry,
            },
            "504": _respond("The answer took too long", _refer("Error")),
        },
    }


def _describe_reads() -> dict[str, Schema]:
    """Describes the routes without a body."""
    state = _object({"state": {"enum": ["loading", "ready", "broken"]}})
    version = _object(dict.fromkeys(("name", "version", "model_id", "mlflow"), _STRING))
    ready = {
        "200": _respond("The network has answered", state),
        "503": _respond("The network is loading, or cannot be loaded", state),
    }
    alive = {"200": {"description": "The process is alive"}}
    text = {"200": _respond("Metrics in the format of Prometheus", _STRING, _PLAIN)}
    summaries = {
        "/ready": ("Whether the network is ready", ready),
        "/v2/health/ready": ("The same as /ready", ready),
        "/ping": ("Whether the process is alive", alive),
        "/health": ("The same as /ping", alive),
        "/v2/health/live": ("The same as /ping", alive),
        "/version": ("The served version", {"200": _respond("The version", version)}),
        "/metrics": ("Metrics of all workers", text),
    }
    return {
        path: {"summary": summary, "responses": responses}
        for path, (summary, responses) in summaries.items()
    }


def _describe_requests(classifier: ServedClassifier, limits: Limits) -> Schema:
    image = {"type": "string", "description": "An image file in base64"}
    record, images = _object({INPUT_COLUMN: image}), _list(image, limits.rows)
    rows = {"oneOf": [_object({INPUT_COLUMN: images}), _list(record, limits.rows)]}
    table = _object({"columns": _list(_STRING), "data": _list(_list(image), limits.rows)})
    forms = {
        "dataframe_split": table,
        "dataframe_records": _list(record, limits.rows),
        "instances": rows,
        "inputs": rows,
    }
    options = RequestOptions()
    heads = list(classifier.label_map.heads)
    params = {
        "heads": {**_list({"enum": heads}), "default": list(options.heads)},
        "top_k": {"type": "integer", "minimum": 0, "default": options.top_k},
        "all_probabilities": {"type": "boolean", "default": options.all_probabilities},
        "on_error": {"enum": [FAIL, ANSWER], "default": options.on_error},
    }
    return {
        "Request": {
            "description": "One of the forms of MLflow",
            "oneOf": [
                {
                    "type": "object",
                    "properties": {form: schema, "params": _refer("Params")},
                    "required": [form],
                    "additionalProperties": False,
                }
                for form, schema in forms.items()
            ],
        },
        "Params": {"type": "object", "properties": params, "additionalProperties": False},
    }


def _describe_answers(classifier: ServedClassifier) -> Schema:
    label_map = classifier.label_map
    heads = {head: _describe_prediction(list(label_map.classes[head])) for head in label_map.heads}
    kinds = ["", "type", "base64", "size", "image"]
    row = {**heads, "error": {"enum": kinds}, "reason": _STRING}
    prediction = {"type": "object", "properties": row, "required": ["error", "reason"]}
    return {
        "Answer": _object({"predictions": _list(_refer("Prediction"))}),
        "Prediction": prediction,
    }


def _describe_prediction(classes: list[str]) -> Schema:
    probability = {"type": "number", "minimum": 0, "maximum": 1}
    entry = _object({"label": {"enum": classes}, "probability": probability})
    return {
        "type": "object",
        "properties": {
            "label": {"enum": [*classes, None]},
            "probability": {**probability, "type": ["number", "null"]},
            "top": _list(entry),
            "probabilities": _object(dict.fromkeys(classes, probability)),
        },
        "required": ["label", "probability"],
    }


def _refer(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


def _object(properties: Schema) -> Schema:
    return {"type": "object", "properties": properties, "required": list(properties)}


def _list(items: Schema, longest: int | None = None) -> Schema:
    return {"type": "array", "items": items, **({"maxItems": longest} if longest else {})}


def _respond(description: str, schema: Schema, content_type: str = JSON_TYPE) -> Schema:
    return {"description": description, "content": {content_type: {"schema": schema}}}
