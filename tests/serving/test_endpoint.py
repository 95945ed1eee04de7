"""Requests to a registered model behind `mlflow models serve`."""

import base64
import io
import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlflow
import pytest
from conftest import COMMAND_SECONDS
from endpoints import Endpoint, encode, serve
from PIL import Image
from tiny_model import CHAMPION, LIMITS, Registered

from person_attributes.config import Params


@pytest.fixture(scope="session")
def served(registered: Registered) -> Iterator[Endpoint]:
    log = registered.root / "serve.log"
    with serve(registered.root, registered.environment(), CHAMPION, log) as endpoint:
        yield endpoint


@pytest.fixture(scope="module")
def image(people: Path) -> str:
    return encode(min(people.rglob("*.jpg")))


def _pack(image: Image.Image, file_format: str, **options: Any) -> str:
    buffer = io.BytesIO()
    image.save(buffer, file_format, **options)
    return base64.b64encode(buffer.getvalue()).decode()


def _ask_one(served: Endpoint, value: Any) -> dict[str, Any]:
    status, answers = served.ask({"dataframe_records": [{"image": value}]})
    assert status == 200, answers
    (answer,) = answers
    return dict(answer)


@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize(
    "wrap",
    [
        lambda images: {
            "dataframe_split": {"columns": ["image"], "data": [[one] for one in images]}
        },
        lambda images: {"dataframe_records": [{"image": one} for one in images]},
        lambda images: {"instances": [{"image": one} for one in images]},
        lambda images: {"inputs": {"image": images}},
        lambda images: {"inputs": [{"image": one} for one in images]},
    ],
    ids=["dataframe_split", "dataframe_records", "instances", "inputs", "inputs of rows"],
)
def test_every_request_format_gives_the_same_answer(
    served: Endpoint, image: str, wrap: Any, rows: int
) -> None:
    expected = _ask_one(served, image)
    status, answers = served.ask(wrap([image] * rows))
    assert status == 200, answers
    assert answers == [expected] * rows


def test_answers_have_the_documented_format(served: Endpoint, image: str, params: Params) -> None:
    answer = _ask_one(served, image)
    assert list(answer) == [*params.heads, "error", "reason"]
    assert (answer["error"], answer["reason"]) == ("", "")
    for head, section in params.heads.items():
        assert set(answer[head]) == {"label", "probability"}
        assert answer[head]["label"] in section.classes
        assert 1 / len(section.classes) <= answer[head]["probability"] <= 1


def test_a_data_prefix_and_line_breaks_are_accepted(served: Endpoint, image: str) -> None:
    broken = "\n".join(image[begin : begin + 76] for begin in range(0, len(image), 76))
    expected = _ask_one(served, image)
    for value in (f"data:image/jpeg;base64,{image}", broken, f"data:image/jpeg;base64,{broken}"):
        assert _ask_one(served, value) == expected


@pytest.mark.parametrize("file_format", ["PNG", "WEBP", "BMP"])
def test_lossless_formats_give_the_same_answer(
    served: Endpoint, people: Path, file_format: str
) -> None:
    picture = Image.open(min(people.rglob("*.jpg"))).convert("RGB")
    options = {"lossless": True} if file_format == "WEBP" else {}
    answer = _ask_one(served, _pack(picture, file_format, **options))
    assert answer == _ask_one(served, _pack(picture, "PNG"))


def test_the_exif_orientation_is_applied(served: Endpoint, people: Path) -> None:
    picture = Image.open(min(people.rglob("*.jpg"))).convert("RGB")
    exif = Image.Exif()
    exif[0x0112] = 6  # rotate by 90 degrees clockwise
    rotated = picture.transpose(Image.Transpose.ROTATE_90)
    assert _ask_one(served, _pack(rotated, "PNG", exif=exif)) == _ask_one(
        served, _pack(picture, "PNG")
    )
    assert _ask_one(served, _pack(rotated, "PNG")) != _ask_one(served, _pack(picture, "PNG"))


def test_parameters_select_heads_and_classes(served: Endpoint, image: str, params: Params) -> None:
    request_params = {"heads": ["age", "gender"], "top_k": 2, "all_probabilities": True}
    status, answers = served.ask({"inputs": {"image": [image]}, "params": request_params})
    assert status == 200, answers
    assert list(answers[0]) == ["age", "gender", "error", "reason"]
    age = answers[0]["age"]
    assert set(age["probabilities"]) == set(params.heads["age"].classes)
    assert sum(age["probabilities"].values()) == pytest.approx(1, abs=1e-5)
    assert len(age["top"]) == 2
    assert age["top"][0] == {"label": age["label"], "probability": age["probability"]}
    assert age["top"][1]["probability"] == sorted(age["probabilities"].values())[-2]


@pytest.mark.parametrize(
    ("request_params", "reason"),
    [
        ({"heads": ["shoe"]}, "heads: expected some of gender, "),
        ({"on_error": "explode"}, "on_error: expected fail or answer"),
        ({"top_k": -1}, "top_k: expected an integer of 0 or more"),
        ({"top_k": 1.5}, "top_k: expected an integer of 0 or more. Received: another number. E"),
        ({"top_k": "many"}, "params.top_k: expected an integer. Received: str."),
        ({"heads": "age"}, "params.heads: expected array. Received: str."),
        ({"SECRET": 1}, "params: expected some of top_k, heads, all_probabilities, on_error."),
    ],
)
def test_invalid_parameters_are_refused(
    served: Endpoint, image: str, request_params: dict[str, Any], reason: str
) -> None:
    status, text = served.ask({"inputs": {"image": [image]}, "params": request_params})
    assert status == 400
    assert reason in text
    _check_short_and_silent(text, image)


LARGE = Image.new("RGB", (2400, 2400))

BAD_ROWS: dict[str, tuple[Any, str, str]] = {
    "null": (None, "type", "expected an image as base64 string"),
    "number": (7, "type", "expected an image as base64 string"),
    "list": (["a"], "type", "expected an image as base64 string"),
    "empty": ("", "image", "an empty file"),
    "not base64": ("%%%", "base64", "not valid base64"),
    "url": ("http://127.0.0.1:9/a.jpg", "base64", "not valid base64"),
    "path": ("/etc/hostname", "base64", "not valid base64"),
    "file url": ("file:///etc/hostname", "base64", "not valid base64"),
    "text": (base64.b64encode(b"no image" * 40).decode(), "image", "not a JPEG, PNG, WebP"),
    "too many pixels": (_pack(LARGE, "PNG"), "image", "2400 x 2400 pixels, more than 4 million"),
    "too many bytes": ("A" * 1_500_000, "size", "a file of more than 1 MB"),
    "too much base64": ("A" * 2_500_000, "size", "a file of more than 1 MB"),
}


@pytest.mark.parametrize("name", BAD_ROWS)
def test_a_bad_row_has_an_error_or_refuses_the_request(
    served: Endpoint, image: str, name: str
) -> None:
    value, kind, reason = BAD_ROWS[name]
    rows = {"inputs": {"image": [image, value, image]}}

    status, answers = served.ask({**rows, "params": {"on_error": "answer"}})
    assert status == 200, answers
    first, bad, last = answers
    assert first == last == _ask_one(served, image)
    assert bad["error"] == kind
    assert reason in bad["reason"]
    assert bad["gender"] == {"label": None, "probability": None}

    status, text = served.ask(rows)
    assert status == 400
    assert f"row 1: {reason}" in text
    _check_short_and_silent(text, image)


def test_a_truncated_photograph_is_refused(served: Endpoint, people: Path) -> None:
    content = min(people.rglob("*.jpg")).read_bytes()
    half = base64.b64encode(content[: len(content) // 2]).decode()
    status, text = served.ask({"inputs": {"image": [half]}})
    assert status == 400
    assert "row 0: cannot be decoded: image file is truncated" in text
    _check_short_and_silent(text, half)


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (b"", {}),
        (b"{", {}),
        (b"[]", {}),
        (b"null", {}),
        (b"[" * 100_000, {}),
        (b"\xff\xfe\x00secret", {}),
        (b'{"inputs": "SECRET"}', {}),
        (b'{"inputs": {"picture": ["SECRET"]}}', {}),
        (b'{"instances": ["SECRET"], "inputs": ["SECRET"]}', {}),
        (b'{"dataframe_split": {"columns": ["image"], "data": "SECRET"}}', {}),
        (b'{"messages": [{"role": "user", "content": "SECRET"}]}', {}),
        (b'{"prompt": "SECRET"}', {}),
        (b'{"inputs": ["SECRET"], "SECRET": 1}', {}),
        (b'{"inputs": ' + b"[" * 100_000, {}),
        (b'{"inputs": {"image": ["\xffSECRET"]}}', {}),
        (b"SECRET" * 500_000, {}),
    ],
)  # fmt: skip
def test_an_invalid_body_is_refused_with_a_short_reason(
    served: Endpoint, body: bytes, headers: dict[str, str]
) -> None:
    status, text = served.ask(body, **headers)
    assert status == 400
    assert json.loads(text)["error_code"] in ("INVALID_PARAMETER_VALUE", "BAD_REQUEST")
    _check_short_and_silent(text, "SECRET")


@pytest.mark.parametrize(
    "content_type",
    [
        "text/csv",
        "application/vnd.apache.parquet",
        "application/json; charset=latin-1",
        "image/gif",
        "SECRET/SECRET",
        "",
    ],
)
def test_another_content_type_is_refused(served: Endpoint, content_type: str) -> None:
    status, text = served.ask(b"image\nSECRET\n", **{"Content-Type": content_type})
    assert status == 415
    assert "Content-Type: expected application/json in UTF-8, or one of image/jpeg" in text
    _check_short_and_silent(text, "SECRET")


@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP", "BMP"])
def test_an_image_file_as_body_gives_the_answer_of_base64(
    served: Endpoint, people: Path, file_format: str
) -> None:
    encoded = _pack(Image.open(min(people.rglob("*.jpg"))).convert("RGB"), file_format)
    status, answers = served.ask(
        base64.b64decode(encoded), **{"Content-Type": f"image/{file_format.lower()}"}
    )
    assert (status, answers) == (200, [_ask_one(served, encoded)])


def test_a_record_without_an_image_is_named(served: Endpoint, image: str) -> None:
    records = [{"image": image}, {"picture": image}]
    status, text = served.ask({"dataframe_records": records})
    assert (status, "row 1: expected a column 'image'" in text) == (400, True)
    _check_short_and_silent(text, image)
    params = {"on_error": "answer"}
    status, answers = served.ask({"dataframe_records": records, "params": params})
    assert [answer["error"] for answer in answers] == ["", "type"]


def test_an_integer_may_be_written_as_a_float(served: Endpoint, image: str) -> None:
    answers = [
        served.ask({"inputs": {"image": [image]}, "params": {"top_k": top_k}}) for top_k in (2, 2.0)
    ]
    assert answers[0] == answers[1]
    assert len(answers[0][1][0]["age"]["top"]) == 2


def test_too_many_rows_and_too_large_a_request_are_refused(served: Endpoint, image: str) -> None:
    status, text = served.ask({"inputs": {"image": [image] * (LIMITS.rows + 1)}})
    assert (status, "9 rows. Expected at most 8" in text) == (400, True)
    status, text = served.ask(b"A" * 10_000_000)
    assert (status, "a request of more than 4 MB" in text) == (413, True)


def test_the_log_contains_nothing_of_the_requests(served: Endpoint, image: str) -> None:
    for name in BAD_ROWS:
        served.ask({"inputs": {"image": [image, BAD_ROWS[name][0]]}})
    served.ask(b'{"inputs": {"SECRET": ["SECRET"], "image": ["SECRET"]}}')
    _check_silent(served.log.read_text(), image)
    _check_silent(served.log.read_text(), "SECRET")


def test_the_server_reports_its_health(served: Endpoint) -> None:
    assert [served.get(path) for path in ("/ping", "/health", "/version")] == [200, 200, 200]


def test_sigterm_ends_the_server(registered: Registered, tmp_path: Path) -> None:
    log = tmp_path / "serve.log"
    with serve(registered.root, registered.environment(), CHAMPION, log) as endpoint:
        os.killpg(endpoint.process.pid, signal.SIGTERM)
        endpoint.process.wait(COMMAND_SECONDS)
        _wait_until_refused(endpoint)
    assert "Traceback" not in log.read_text()


def _wait_until_refused(endpoint: Endpoint) -> None:
    until = time.monotonic() + COMMAND_SECONDS
    while time.monotonic() < until:  # its child may still be stopping
        try:
            endpoint.get("/health")
        except OSError:
            return
    raise AssertionError(endpoint.log.read_text())


def _check_short_and_silent(text: str, sent: str) -> None:
    assert len(text) < 400
    _check_silent(text, sent)


def _check_silent(text: str, sent: str) -> None:
    assert sent[:40] not in text
    assert "Traceback" not in text


def test_a_broken_network_is_a_server_error(
    registered: Registered, image: str, tmp_path: Path
) -> None:
    with registered.store():
        model = mlflow.artifacts.download_artifacts(CHAMPION, dst_path=str(tmp_path / "broken"))
    next(Path(model).rglob("*.onnx")).write_bytes(b"broken")
    log = tmp_path / "serve.log"
    with serve(registered.root, registered.environment(), model, log) as endpoint:
        status, text = endpoint.ask({"inputs": {"image": [image]}})
    assert status == 500, text
    assert "the model's network cannot be loaded" in text
    _check_short_and_silent(text, image)
