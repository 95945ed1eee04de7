"""Parses the bodies of requests, and refuses invalid ones without echoing any of their content.

The content type, the size and the number of values are checked before anything is decoded, so that
a small body cannot take much memory or time. An image stays encoded until its row is read.
"""

import re
from typing import Any

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from person_attributes.serving.requests import (
    INPUT_COLUMN,
    Limits,
    RefusedRequest,
    Request,
    RequestOptions,
)

JSON_TYPE = "application/json"

IMAGE_TYPES = ("image/jpeg", "image/png", "image/webp", "image/bmp")
"""Content types of a body that is one image file."""

_VALUES_PER_ROW = 64
"""Values that a row may have: its image and those of columns that are ignored."""

_EXPECTED = (
    'Expected JSON such as {"dataframe_split": {"columns": ["' + INPUT_COLUMN + '"], '
    '"data": [["<base64 of an image file>"]]}, "params": {"top_k": 3}}.'
)

_WRONG_TYPE = re.compile(r"Expected `([^`]+)`, got `([^`]+)`(?: - at `\$\.?([^`]*)`)?")
"""A message of msgspec. Its groups contain types of JSON and names of the fields below."""


class _Record(Struct):
    """A row by column. An empty image is a missing one."""

    image: Raw = Raw()


class _Columns(Struct):
    """Rows of the column of images; a string is a single row."""

    image: list[Raw] | str | UnsetType = UNSET


class _Table(Struct):
    """A table in the orientation `split` of pandas; a string is a row of one column."""

    columns: list[str]
    data: list[list[Raw] | str]


class _Body(Struct, forbid_unknown_fields=True):
    """A request, in one of MLflow's formats."""

    dataframe_split: _Table | UnsetType = UNSET
    dataframe_records: list[_Record] | UnsetType = UNSET
    instances: _Columns | list[_Record | str | None] | UnsetType = UNSET
    inputs: _Columns | list[_Record | str | None] | UnsetType = UNSET
    params: RequestOptions | None = None


_FORMATS = tuple(name for name in _Body.__struct_fields__ if name != "params")

_DECODER = msgspec.json.Decoder(_Body)


def read_request(body: bytes, content_type: str | None, limits: Limits) -> Request:
    """Parses a body.

    Args:
        body: JSON in one of MLflow's formats, or one image file.
        content_type: `JSON_TYPE` or one of `IMAGE_TYPES`.
        limits: The limits of a request.

    Raises:
        RefusedRequest: If the body is invalid, or exceeds a limit.
    """
    media_type = _check_type(content_type or "")
    if len(body) > limits.request_megabytes * 1e6:
        raise RefusedRequest(
            f"a request of more than {limits.request_megabytes:g} MB. Send fewer or smaller "
            "images per request.",
            status=413,
        )
    if media_type != JSON_TYPE:
        return Request([body], RequestOptions())
    values = limits.rows * _VALUES_PER_ROW
    # A comma precedes each value of an array or object but the first.
    if body.count(b",") > values:
        raise RefusedRequest(
            f"more than {values} values in a request. Expected at most {limits.rows} rows. Send "
            "fewer rows per request."
        )
    request = _decode(body)
    if len(request.values) > limits.rows:
        raise RefusedRequest(
            f"{len(request.values)} rows. Expected at most {limits.rows}. Send fewer rows per "
            "request."
        )
    return request


def _check_type(content_type: str) -> str:
    """Returns the media type.

    Raises:
        RefusedRequest: If it is not supported.
    """
    media_type, *parameters = (
        part.strip().lower().replace('"', "") for part in content_type.split(";")
    )
    if media_type not in (JSON_TYPE, *IMAGE_TYPES) or set(parameters) - {"charset=utf-8", ""}:
        raise RefusedRequest(
            f"Content-Type: expected {JSON_TYPE} in UTF-8, or one of {', '.join(IMAGE_TYPES)}. "
            "Received: another type.",
            status=415,
        )
    return media_type


def _decode(body: bytes) -> Request:
    try:
        decoded = _DECODER.decode(body)
    except msgspec.ValidationError as error:
        raise RefusedRequest(f"{_describe(str(error))} {_EXPECTED}") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise RefusedRequest(f"the request is not valid JSON. {_EXPECTED}") from None
    forms = [form for name in _FORMATS if (form := getattr(decoded, name)) is not UNSET]
    if len(forms) != 1:
        raise RefusedRequest(
            f"expected one of {', '.join(_FORMATS)}. Received: {len(forms)} of them. {_EXPECTED}"
        )
    return Request(_list_images(forms[0]), decoded.params or RequestOptions())


def _describe(message: str) -> str:
    """Words a message of msgspec. It may contain the name of an unknown field: that is left out."""
    if message.startswith("Object contains unknown field"):
        if message.endswith(" - at `$.params`"):
            names = ", ".join(RequestOptions.__struct_fields__)
            return f"params: expected some of {names}. Received: another name."
        return f"expected {', '.join(_FORMATS)} or params. Received: another name."
    if match := _WRONG_TYPE.fullmatch(message):
        expected, received, place = match.groups()
        expected = expected.replace("int | float", "an integer")
        return f"{place or 'the request'}: expected {expected}. Received: {received}."
    return f"{message.partition(' - at ')[0].removesuffix('.')}."


def _list_images(form: Any) -> list[Any]:
    """Returns the image of each row of a form."""
    if isinstance(form, _Table):
        if form.columns.count(INPUT_COLUMN) != 1:
            raise RefusedRequest(
                f"dataframe_split.columns: expected one column {INPUT_COLUMN!r}. Received: "
                f"{form.columns.count(INPUT_COLUMN)}. {_EXPECTED}"
            )
        column = form.columns.index(INPUT_COLUMN)
        rows = [[row] if isinstance(row, str) else row for row in form.data]
        return [row[column] if column < len(row) else Raw() for row in rows]
    if isinstance(form, _Columns):
        if form.image is UNSET:
            raise RefusedRequest(f"expected a column {INPUT_COLUMN!r}. Received: none. {_EXPECTED}")
        return [form.image] if isinstance(form.image, str) else form.image
    return [row.image if isinstance(row, _Record) else row for row in form]
