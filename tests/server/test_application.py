"""The application of `person-attributes serve`, in this process."""

import asyncio
import base64
import gc
import io
import json
import logging
import re
import sys
import time
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import mlflow
import pytest
from openapi_spec_validator import validate
from PIL import Image
from prometheus_client.parser import text_string_to_metric_families
from starlette.testclient import TestClient
from tiny_model import CHAMPION, LIMITS, Registered

from person_attributes.server.application import build_application
from person_attributes.server.identity import Identity
from person_attributes.server.logs import JsonFormatter
from person_attributes.server.settings import ServerSettings
from person_attributes.serving.classifier import ServedClassifier
from person_attributes.serving.requests import RefusedRequest, Request

IDENTITY = Identity("person-attributes", "1", "m-1")
HOST = "http://localhost"


@pytest.fixture(scope="module")
def model(registered: Registered) -> Any:
    with registered.store():
        return mlflow.pyfunc.load_model(CHAMPION)


@pytest.fixture(scope="module")
def classifier(model: Any) -> ServedClassifier:
    loaded: ServedClassifier = model.unwrap_python_model()
    return loaded


@pytest.fixture(scope="module")
def client(classifier: ServedClassifier) -> Iterator[TestClient]:
    application = build_application(classifier, IDENTITY, ServerSettings())
    with TestClient(application, HOST) as client:
        yield client


@pytest.fixture(scope="module")
def photograph(people: Path) -> bytes:
    return min(people.rglob("*.jpg")).read_bytes()


@pytest.fixture(scope="module")
def request_body(photograph: bytes) -> dict[str, Any]:
    return {"instances": [{"image": base64.b64encode(photograph).decode()}]}


def _read_metrics(client: TestClient) -> dict[tuple[str, ...], float]:
    """Reads all samples by name and values of labels."""
    text = client.get("/metrics").text
    return {
        (sample.name.removeprefix("person_attributes_"), *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_answers_are_those_of_the_server_of_mlflow(
    client: TestClient, model: Any, monkeypatch: pytest.MonkeyPatch, request_body: dict[str, Any]
) -> None:
    from mlflow.pyfunc import scoring_server

    from person_attributes.serving.endpoint import guard_endpoint

    monkeypatch.setattr(scoring_server, "invocations", scoring_server.invocations)
    monkeypatch.setenv(scoring_server._SERVER_MODEL_PATH, "model")
    guard_endpoint()
    theirs = TestClient(scoring_server.init(model), HOST)
    bodies = [
        request_body,
        {**request_body, "params": {"top_k": 2, "heads": ["age"]}},
        {**request_body, "params": {"topk": 2}},
        {"inputs": {"image": ["%%%"]}},
        {"inputs": {"image": ["%%%"]}, "params": {"on_error": "answer"}},
        {"inputs": {"image": ["A"] * (LIMITS.rows + 1)}},
        [],
    ]
    for body in bodies:
        expected, received = (asked.post("/invocations", json=body) for asked in (theirs, client))
        assert (received.status_code, received.json()) == (expected.status_code, expected.json())
        assert received.headers["content-type"] == expected.headers["content-type"]
    for path in ("/ping", "/health"):
        expected, received = (asked.get(path) for asked in (theirs, client))
        assert (received.status_code, received.content) == (expected.status_code, expected.content)


@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP"])
def test_an_image_as_the_body_has_the_answer_of_its_base64(
    client: TestClient, photograph: bytes, file_format: str
) -> None:
    buffer = io.BytesIO()
    Image.open(io.BytesIO(photograph)).save(buffer, file_format)
    headers = {"Content-Type": f"image/{file_format.lower()}"}
    raw = client.post("/invocations", content=buffer.getvalue(), headers=headers)
    encoded = base64.b64encode(buffer.getvalue()).decode()
    wrapped = client.post("/invocations", json={"inputs": {"image": [encoded]}})
    assert raw.status_code == 200
    assert raw.content == wrapped.content


def test_the_charset_of_json_may_be_quoted(
    client: TestClient, request_body: dict[str, Any]
) -> None:
    headers = {"Content-Type": 'application/json; charset="UTF-8"'}
    answer = client.post("/invocations", content=json.dumps(request_body), headers=headers)
    assert answer.status_code == 200


def test_another_content_type_is_refused(client: TestClient, photograph: bytes) -> None:
    headers = {"Content-Type": "text/csv"}
    answer = client.post("/invocations", content=photograph, headers=headers)
    assert answer.status_code == 415
    assert "Content-Type: expected application/json" in answer.json()["message"]


@pytest.mark.parametrize(
    "path", ["/ping", "/health", "/ready", "/v2/health/live", "/v2/health/ready", "/version"]
)
def test_routes_without_a_body_also_answer_head(client: TestClient, path: str) -> None:
    _wait_until_ready(client)
    assert client.get(path).status_code == client.head(path).status_code == 200


def test_any_name_of_a_model_is_in_the_headers(registered: Registered) -> None:
    with registered.store():
        classifier = mlflow.pyfunc.load_model(CHAMPION).unwrap_python_model()
    named = Identity("照片 1%", "1", "m-1")
    with TestClient(build_application(classifier, named, ServerSettings()), HOST) as client:
        answer = client.get("/version")
    assert answer.json()["name"] == named.name
    assert unquote(answer.headers["X-Model-Name"]) == named.name


def _wait_until_ready(client: TestClient) -> None:
    while client.get("/ready").json() == {"state": "loading"}:
        pass


def test_a_broken_network_is_never_ready(registered: Registered, tmp_path: Path) -> None:
    with registered.store():
        folder = mlflow.artifacts.download_artifacts(CHAMPION, dst_path=str(tmp_path / "broken"))
    next(Path(folder).rglob("*.onnx")).write_bytes(b"broken")
    broken = mlflow.pyfunc.load_model(folder).unwrap_python_model()
    with TestClient(build_application(broken, IDENTITY, ServerSettings()), HOST) as client:
        _wait_until_ready(client)
        answer = client.get("/ready")
        assert (answer.status_code, answer.json()) == (503, {"state": "broken"})
        assert client.get("/ping").status_code == 200


def test_every_answer_names_the_version_and_the_request(
    client: TestClient, request_body: dict[str, Any]
) -> None:
    own = {"X-Request-ID": "order-7:retry.2"}
    answers = [
        client.get("/version", headers=own),
        client.post("/invocations", json=request_body, headers=own),
        client.post("/invocations", json=[], headers=own),
        client.get("/missing", headers=own),
        client.get("/ping", headers={**own, "Host": "example.org"}),
    ]
    assert [answer.status_code for answer in answers] == [200, 200, 400, 404, 400]
    for answer in answers:
        assert answer.headers["X-Request-ID"] == "order-7:retry.2"
        assert answer.headers["X-Model-Name"] == "person-attributes"
        assert answer.headers["X-Model-Version"] == "1"
    version = {"name": "person-attributes", "version": "1", "model_id": "m-1"}
    assert answers[0].json() == {**version, "mlflow": mlflow.__version__}


def test_an_invalid_request_id_is_replaced(client: TestClient) -> None:
    for sent in ("", "a b", "x" * 129, "<script>"):
        received = client.get("/ping", headers={"X-Request-ID": sent}).headers["X-Request-ID"]
        assert re.fullmatch("[0-9a-f]{32}", received)


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost", 200),
        ("LOCALHOST:5000", 200),
        ("127.0.0.1:5000", 200),
        ("[::1]:5000", 200),
        ("example.org", 400),
        ("localhost.example.org", 400),
        ("127.0.0.1.example.org:5000", 400),
        ("", 400),
    ],
)
def test_other_host_names_are_refused(client: TestClient, host: str, status: int) -> None:
    answer = client.get("/ping", headers={"Host": host})
    assert answer.status_code == status
    if status == 400:
        assert "Host: expected 127.0.0.1, [::1], localhost." in answer.json()["message"]


def test_hosts_and_origins_can_be_allowed(classifier: ServedClassifier) -> None:
    origin = "https://example.org"
    settings = ServerSettings(allowed_hosts=("*",), allowed_origins=(origin,))
    client = TestClient(build_application(classifier, IDENTITY, settings), "http://any.name")
    answer = client.get("/ping", headers={"Origin": origin})
    assert answer.headers["Access-Control-Allow-Origin"] == origin
    preflight = {"Origin": origin, "Access-Control-Request-Method": "POST"}
    assert client.options("/invocations", headers=preflight).status_code == 200
    other = client.options("/invocations", headers={**preflight, "Origin": "https://other.org"})
    assert "Access-Control-Allow-Origin" not in other.headers


def test_an_allowed_host_may_have_a_port(classifier: ServedClassifier) -> None:
    settings = ServerSettings(allowed_hosts=("example.org:8080",))
    client = TestClient(build_application(classifier, IDENTITY, settings), HOST)
    statuses = [
        client.get("/ping", headers={"Host": host}).status_code
        for host in ("example.org:8080", "example.org", "localhost")
    ]
    assert statuses == [200, 200, 400]


def test_pages_of_other_origins_are_not_allowed_by_default(client: TestClient) -> None:
    headers = {"Origin": "https://example.org", "Access-Control-Request-Method": "POST"}
    assert client.options("/invocations", headers=headers).status_code == 405
    assert "Access-Control-Allow-Origin" not in client.get("/ping", headers=headers).headers


def test_the_openapi_document_is_valid_and_describes_requests_and_answers(
    client: TestClient, request_body: dict[str, Any]
) -> None:
    from jsonschema import (  # type: ignore[import-untyped]
        Draft202012Validator,
        ValidationError,
    )

    document = client.get("/openapi.json").json()
    validate(document)
    schemas = {"components": document["components"]}
    request, answer, error = (
        Draft202012Validator({"$ref": f"#/components/schemas/{name}", **schemas})
        for name in ("Request", "Answer", "Error")
    )
    params = {"top_k": 2, "all_probabilities": True, "heads": ["age"]}
    for body in (request_body, {**request_body, "params": params}):
        request.validate(body)
        answer.validate(client.post("/invocations", json=body).json())
    error.validate(client.post("/invocations", json=[]).json())
    for wrong in ({}, {"instances": [{"picture": ""}]}, {**request_body, "params": {"topk": 1}}):
        with pytest.raises(ValidationError):
            request.validate(wrong)


def test_the_document_lists_every_route(client: TestClient) -> None:
    paths = client.get("/openapi.json").json()["paths"]
    for path, operations in paths.items():
        (method,) = operations
        assert client.request(method, path).status_code not in (404, 405)
        assert path in client.get("/docs").text
    observed = {key[1] for key in _read_metrics(client) if key[0] == "requests_total"}
    assert observed - {"other", "/docs", "/openapi.json"} <= set(paths)


def test_the_page_of_the_document_loads_nothing_from_elsewhere(client: TestClient) -> None:
    page = client.get("/docs").text
    assert "<script" not in page
    assert re.findall(r'(?:src|href)="(.*?)"', page) == ["openapi.json"]
    assert not re.findall(r"https?://|url\(|@import", page)


def test_metrics_count_requests_rows_errors_and_confidence(
    classifier: ServedClassifier, request_body: dict[str, Any]
) -> None:
    client = TestClient(build_application(classifier, IDENTITY, ServerSettings()), HOST)
    image = request_body["instances"][0]["image"]
    rows = {"inputs": {"image": [image, "%%%", image]}, "params": {"on_error": "answer"}}
    answer = client.post("/invocations", json=rows)
    client.post("/invocations", json=[])
    client.get("/secret")
    metrics = _read_metrics(client)
    assert metrics["requests_total", "/invocations", "200"] == 1
    assert metrics["requests_total", "/invocations", "400"] == 1
    assert metrics["requests_total", "other", "404"] == 1
    assert metrics["request_seconds_count", "/invocations"] == 2
    assert metrics["rows_total",] == 3
    assert metrics["errors_total", "base64"] == 1
    assert metrics["errors_total", "invalid"] == 1
    assert metrics["requests_in_flight",] == 0
    assert metrics["received_bytes_total",] == len(answer.request.content) + len(b"[]")
    assert metrics["sent_bytes_total",] >= len(answer.content)
    assert metrics["model", "person-attributes", "1"] == 1
    prediction = answer.json()["predictions"][0]["age"]
    assert metrics["confidence_count", "age", prediction["label"]] == 2
    assert metrics["confidence_sum", "age", prediction["label"]] == pytest.approx(
        2 * prediction["probability"]
    )


class _Upload:
    """A request whose body arrives in parts, which the test sends."""

    def __init__(self, application: Any, length: int | None = None) -> None:
        headers = [(b"host", b"localhost"), (b"content-type", b"application/json")]
        if length is None:
            headers.append((b"transfer-encoding", b"chunked"))
        else:
            headers.append((b"content-length", str(length).encode()))
        scope = {
            "type": "http", "method": "POST", "path": "/invocations", "headers": headers,
            "query_string": b"", "root_path": "",
        }  # fmt: skip
        self._incoming: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._outgoing: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.task = asyncio.create_task(application(scope, self._incoming.get, self._outgoing.put))

    async def send(self, part: bytes, more: bool = True) -> None:
        await self._incoming.put({"type": "http.request", "body": part, "more_body": more})
        for _ in range(10):  # let the application read it
            await asyncio.sleep(0)

    async def leave(self) -> None:
        await self._incoming.put({"type": "http.disconnect"})
        await self.task

    async def receive(self) -> tuple[int, dict[str, str], Any]:
        start, body = await self._outgoing.get(), await self._outgoing.get()
        headers = {name.decode(): value.decode() for name, value in start["headers"]}
        return start["status"], headers, json.loads(body["body"])


def _run(
    classifier: Any, test: Callable[[Any], Coroutine[Any, Any, None]], **settings: Any
) -> dict[tuple[str, ...], float]:
    """Runs a test with an application, and returns the metrics when nothing is in flight."""
    application = build_application(classifier, IDENTITY, ServerSettings(**settings))
    asyncio.run(test(application))
    client = TestClient(application, HOST)
    while (metrics := _read_metrics(client))["requests_in_flight",]:
        time.sleep(0.01)
    return metrics


def test_a_large_body_is_refused_while_it_arrives(classifier: ServedClassifier) -> None:
    async def test(application: Any) -> None:
        upload = _Upload(application)
        for _ in range(5):
            await upload.send(b"A" * 1_000_000)
        status, headers, error = await upload.receive()
        assert (status, headers["connection"]) == (413, "close")
        assert "a request of more than 4 MB" in error["message"]
        await upload.leave()

        declared = _Upload(application, 5_000_000)
        status, headers, _ = await declared.receive()
        assert (status, headers["connection"]) == (413, "close")
        await declared.leave()

    metrics = _run(classifier, test)
    assert metrics["errors_total", "too_large"] == 2


def test_too_many_requests_in_flight_are_refused_and_health_is_answered(
    classifier: ServedClassifier, request_body: dict[str, Any]
) -> None:
    body = json.dumps(request_body).encode()

    async def test(application: Any) -> None:
        uploads = [_Upload(application, len(body)) for _ in range(2)]
        for upload in uploads:
            await upload.send(body[:100])
        refused = _Upload(application, len(body))
        status, headers, error = await refused.receive()
        assert (status, headers["retry-after"]) == (503, "1")
        assert "too many requests are in flight" in error["message"]
        await refused.leave()
        health = await asyncio.to_thread(TestClient(application, HOST).get, "/ping")
        assert health.status_code == 200
        metrics = await asyncio.to_thread(_read_metrics, TestClient(application, HOST))
        assert metrics["requests_in_flight",] == 2
        for upload in uploads:
            await upload.send(body[100:], more=False)
            assert (await upload.receive())[0] == 200
            await upload.task

    metrics = _run(classifier, test, max_in_flight=2)
    assert metrics["errors_total", "busy"] == 1


def test_bodies_that_are_too_large_together_are_refused(
    classifier: ServedClassifier, request_body: dict[str, Any]
) -> None:
    body = json.dumps(request_body).encode()

    async def test(application: Any) -> None:
        first, second = _Upload(application, len(body)), _Upload(application)
        await first.send(body[:100])
        await second.send(b"A" * len(body))
        status, headers, _ = await second.receive()
        assert (status, headers["retry-after"]) == (503, "1")
        await second.leave()
        await first.send(body[100:], more=False)
        assert (await first.receive())[0] == 200
        await first.task

    _run(classifier, test, max_in_flight_megabytes=(len(body) + 50) / 1e6)


class _Endless:
    """A model that refuses a request when it is given up."""

    def __init__(self, classifier: ServedClassifier) -> None:
        self.limits, self.label_map = classifier.limits, classifier.label_map

    def answer(self, request: Request, is_given_up: Callable[[], bool]) -> list[dict[str, Any]]:
        while not is_given_up():
            time.sleep(0.001)
        raise RefusedRequest("the request took too long. Send fewer rows.", 503)


def test_a_client_that_leaves_is_given_up(
    classifier: ServedClassifier, request_body: dict[str, Any]
) -> None:
    body = json.dumps(request_body).encode()

    async def test(application: Any) -> None:
        reading = _Upload(application, len(body))
        await reading.send(body[:100])
        await reading.leave()
        waiting = _Upload(application, len(body))
        await waiting.send(body, more=False)
        await waiting.leave()

    metrics = _run(_Endless(classifier), test, max_in_flight=1)
    assert metrics["errors_total", "client_left"] == 2


def test_a_request_that_takes_too_long_is_given_up(
    classifier: ServedClassifier,
    request_body: dict[str, Any],
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def test(application: Any) -> None:
        upload = _Upload(application, 1000)
        await upload.send(json.dumps(request_body).encode(), more=False)
        status, _, error = await upload.receive()
        assert status == 504
        assert "no answer within 0.5 s" in error["message"]
        await upload.task
        await asyncio.sleep(0.5)  # the thread ends

    metrics = _run(_Endless(classifier), test, timeout_seconds=0.5)
    gc.collect()
    assert not [record for record in caplog.records if record.name == "asyncio"]
    assert metrics["errors_total", "timeout"] == 1


def test_requests_that_are_cancelled_when_the_server_stops_are_answered(
    classifier: ServedClassifier, request_body: dict[str, Any]
) -> None:
    body = json.dumps(request_body).encode()

    async def test(application: Any) -> None:
        arriving, waiting = (_Upload(application, len(body)) for _ in range(2))
        await arriving.send(body[:100])
        await waiting.send(body, more=False)
        for upload in (arriving, waiting):
            upload.task.cancel()  # as uvicorn does when its time to stop is over
            status, headers, error = await upload.receive()
            assert (status, headers["retry-after"]) == (503, "1")
            assert "the server is stopping" in error["message"]
        arriving.task.cancel()
        await asyncio.gather(arriving.task, waiting.task)

    metrics = _run(_Endless(classifier), test)
    assert metrics["errors_total", "busy"] == 2


def test_a_slow_body_is_refused(classifier: ServedClassifier) -> None:
    async def test(application: Any) -> None:
        upload = _Upload(application, 1000)
        status, headers, error = await upload.receive()
        assert (status, headers["connection"]) == (408, "close")
        assert "did not arrive within 0.01 s" in error["message"]
        await upload.leave()

    metrics = _run(classifier, test, timeout_seconds=0.01)
    assert metrics["errors_total", "timeout"] == 1


def test_the_log_has_one_json_object_for_each_request_and_no_content(
    client: TestClient, photograph: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "person_attributes.server"):
        client.post("/invocations?name=SECRET", json={"SECRET": "SECRET"})
        client.get("/SECRET")
        headers = {"Content-Type": "image/jpeg", "X-Request-ID": "order-7"}
        client.post("/invocations", content=photograph, headers=headers)
        client.get("/ping")
    lines = [JsonFormatter().format(record) for record in caplog.records]
    assert "SECRET" not in "".join(lines)
    refused, missing, answered = map(json.loads, lines)
    assert (refused["status"], refused["error"]) == (400, "invalid")
    assert (missing["status"], missing["route"]) == (404, "other")
    assert answered["received_bytes"] == len(photograph)
    assert answered.items() >= {
        "level": "info", "message": "request", "request_id": "order-7", "route": "/invocations",
        "status": 200, "error": "", "rows": 1, "model": "person-attributes", "version": "1",
    }.items()  # fmt: skip


def test_the_log_has_the_place_of_an_exception_but_not_its_message() -> None:
    try:
        int("SECRET")
    except ValueError:
        record = logging.LogRecord("", logging.ERROR, "", 0, "failed", None, sys.exc_info())
    line = JsonFormatter().format(record)
    assert "SECRET" not in line
    assert json.loads(line)["exception"] == "ValueError"
    assert "test_application.py" in json.loads(line)["frames"][0]
