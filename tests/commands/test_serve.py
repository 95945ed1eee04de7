"""`person-attributes serve` and the entry point of its container, as processes."""

import contextlib
import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path

import mlflow
import psutil
import pytest
from benchmarks.loopback import find_ports
from conftest import COMMAND_SECONDS, OURS, run_in_process
from prometheus_client.parser import text_string_to_metric_families
from tiny_model import CHAMPION, Registered

from person_attributes.cli import main


@dataclass(frozen=True)
class Server:
    """A server as a process."""

    process: subprocess.Popen[bytes]
    port: int
    log: Path

    def connect(self) -> HTTPConnection:
        return HTTPConnection("127.0.0.1", self.port, timeout=COMMAND_SECONDS)

    def get(self, path: str) -> tuple[int, str]:
        with contextlib.closing(self.connect()) as connection:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()

    def read_metric(self, name: str) -> float:
        samples = [
            sample.value
            for family in text_string_to_metric_families(self.get("/metrics")[1])
            for sample in family.samples
            if sample.name == name
        ]
        return sum(samples)

    def wait_until_ready(self) -> None:
        until = time.monotonic() + COMMAND_SECONDS
        while time.monotonic() < until:
            assert self.process.poll() is None, self.log.read_text()
            with contextlib.suppress(OSError):
                if self.get("/ready")[0] == 200:
                    return
            time.sleep(0.1)
        raise AssertionError(self.log.read_text())


@contextlib.contextmanager
def start(registered: Registered, command: list[str], log: Path) -> Iterator[Server]:
    """Runs a server during the block."""
    (port,) = find_ports(1)
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*command, "--port", str(port)],
            cwd=registered.root,
            env=registered.environment(),
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        yield Server(process, port, log)
    finally:
        process.kill()
        process.wait()


@pytest.fixture(scope="module")
def folder(registered: Registered, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of the champion, as in its container."""
    target = tmp_path_factory.mktemp("model")
    with registered.store():
        return Path(mlflow.artifacts.download_artifacts(CHAMPION, dst_path=str(target)))


def _begin(server: Server, body: bytes) -> HTTPConnection:
    """Sends the headers of a request and half of its body."""
    connection = server.connect()
    connection.putrequest("POST", "/invocations")
    connection.putheader("Content-Type", "image/jpeg")
    connection.putheader("Content-Length", str(len(body)))
    connection.endheaders()
    connection.send(body[: len(body) // 2])
    return connection


def _wait_until_refused(server: Server) -> None:
    while True:
        try:
            server.get("/ping")
        except ConnectionRefusedError:
            return
        except OSError:  # accepted by the system, and then closed
            time.sleep(0.1)


@pytest.mark.parametrize("kind", ["command", "container with two workers"])
def test_sigterm_answers_the_requests_in_flight_and_leaves_no_process(
    registered: Registered, folder: Path, people: Path, tmp_path: Path, kind: str
) -> None:
    module = [sys.executable, "-m", "person_attributes.serving", str(folder), "--workers", "2"]
    command = [*OURS, "serve"] if kind == "command" else module
    body = min(people.rglob("*.jpg")).read_bytes()
    with start(registered, command, tmp_path / "serve.log") as server:
        server.wait_until_ready()
        connections = [_begin(server, body) for _ in range(20)]
        while server.read_metric("person_attributes_requests_in_flight") < 20:
            time.sleep(0.1)
        children = psutil.Process(server.process.pid).children(recursive=True)

        server.process.terminate()
        _wait_until_refused(server)
        for connection in connections:
            connection.send(body[len(body) // 2 :])
        statuses = []
        for connection in connections:
            with contextlib.closing(connection):
                answer = connection.getresponse()
                statuses.append(answer.status)
                assert len(json.loads(answer.read())["predictions"]) == 1
        assert statuses == [200] * 20
        assert server.process.wait(COMMAND_SECONDS) == 0
        assert not any(child.is_running() for child in children)
    lines = server.log.read_text().splitlines()
    assert all(line.startswith("{") for line in lines[1:]), lines


def test_workers_share_their_metrics_and_dead_ones_are_replaced(
    folder: Path, registered: Registered, people: Path, tmp_path: Path
) -> None:
    body = min(people.rglob("*.jpg")).read_bytes()
    command = [sys.executable, "-m", "person_attributes.serving", str(folder), "--workers", "2"]
    with start(registered, command, tmp_path / "serve.log") as server:
        server.wait_until_ready()
        held = _begin(server, body)
        for _ in range(20):
            with contextlib.closing(_begin(server, body)) as connection:
                connection.send(body[len(body) // 2 :])
                assert connection.getresponse().status == 200
        assert server.read_metric("person_attributes_rows_total") == 20
        assert server.read_metric("person_attributes_requests_in_flight") == 1

        for child in psutil.Process(server.process.pid).children():
            child.kill()
        with contextlib.suppress(OSError):
            held.getresponse()
        held.close()
        while True:  # until both are replaced
            with contextlib.suppress(OSError):
                if server.read_metric("person_attributes_requests_in_flight") == 0:
                    break
            time.sleep(0.1)
        assert server.read_metric("person_attributes_rows_total") == 20


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--port", "0"], "argument --port: expected 1 to 65535. Received: 0."),
        (["--workers", "0"], "argument --workers: expected 1 or more. Received: 0."),
        (["--timeout-seconds", "nan"], "expected a number above 0. Received: nan."),
    ],
)
def test_invalid_settings_are_refused(
    arguments: list[str], reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["serve", *arguments])
    assert ended.value.code == 2
    assert reason in capsys.readouterr().err


def test_an_unknown_model_a_used_port_and_a_small_limit_are_refused(
    registered: Registered,
) -> None:
    def refuse(*arguments: str) -> str:
        environment = registered.environment()
        return run_in_process(registered.root, environment, ["serve", *arguments], 2).stderr

    assert "Run person-attributes models" in refuse("--model", "models:/person-attributes/9")
    with socket.create_server(("127.0.0.1", 0)) as used:
        port = str(used.getsockname()[1])
        assert "in use. Choose another --port or --host." in refuse("--port", port)
    (port,) = map(str, find_ports(1))
    small = refuse("--port", port, "--max-in-flight-megabytes", "1")
    assert "--max-in-flight-megabytes: expected at least 4" in small


def test_a_folder_without_a_model_stops_all_workers(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "person_attributes.serving", str(tmp_path)]
    for options, code in (([], 2), (["--workers", "2"], 2)):
        (port,) = map(str, find_ports(1))
        done = subprocess.run(
            [*command, *options, "--port", port],
            capture_output=True,
            text=True,
            timeout=COMMAND_SECONDS,
            check=False,
        )
        assert done.returncode == code
        assert "cannot be loaded" in done.stderr
        assert "Traceback" not in done.stderr
