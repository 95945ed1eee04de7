"""`person-attributes serve` and the entry point of its container, as processes."""

import contextlib
import json
import shutil
import socket
import subprocess
import time
from collections.abc import Sequence
from http.client import HTTPConnection
from pathlib import Path

import psutil
import pytest
from benchmarks.loopback import find_ports
from conftest import COMMAND_SECONDS, OURS, run_in_process
from servers import CONTAINER, Server, download, start
from tiny_model import Registered

from person_attributes.cli import main
from person_attributes.errors import ServingError
from person_attributes.server.run import create_application
from person_attributes.server.settings import ServerSettings


@pytest.fixture(scope="module")
def folder(registered: Registered, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return download(registered, tmp_path_factory.mktemp("model"))


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


def _wait_until_ended(processes: list[psutil.Process]) -> None:
    def is_alive(process: psutil.Process) -> bool:
        with contextlib.suppress(psutil.NoSuchProcess):
            return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
        return False

    until = time.monotonic() + COMMAND_SECONDS
    while any(map(is_alive, processes)):
        assert time.monotonic() < until
        time.sleep(0.1)


@pytest.mark.parametrize("kind", ["command", "container with two workers"])
def test_sigterm_answers_the_requests_in_flight_and_leaves_no_process_and_no_file(
    registered: Registered, folder: Path, people: Path, tmp_path: Path, kind: str
) -> None:
    container = [*CONTAINER, str(folder), "--workers", "2"]
    command = [*OURS, "serve"] if kind == "command" else container
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
        _wait_until_ended(children)
        assert not list(server.temporary.iterdir())
    lines = server.log.read_text().splitlines()
    assert all(line.startswith("{") for line in lines[1:]), lines


def test_workers_share_their_metrics_and_dead_ones_are_replaced(
    folder: Path, registered: Registered, people: Path, tmp_path: Path
) -> None:
    body = min(people.rglob("*.jpg")).read_bytes()
    command = [*CONTAINER, str(folder), "--workers", "2"]
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


def test_workers_end_with_their_killed_parent(
    folder: Path, registered: Registered, tmp_path: Path
) -> None:
    command = [*CONTAINER, str(folder), "--workers", "2"]
    with start(registered, command, tmp_path / "serve.log") as server:
        server.wait_until_ready()
        workers = psutil.Process(server.process.pid).children()
        server.process.kill()
        _wait_until_ended(workers)


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--port", "0"], "argument --port: expected 1 to 65535. Received: 0."),
        (["--port", "http"], "argument --port: expected 1 to 65535. Received: http."),
        (["--workers", "0"], "argument --workers: expected an integer of 1 or more. Received: 0."),
        (["--workers", "two"], "expected an integer of 1 or more. Received: two."),
        (["--stop-seconds", "1.5"], "expected an integer of 1 or more. Received: 1.5."),
        (["--timeout-seconds", "1 s"], "expected a number above 0. Received: 1 s."),
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


def test_an_unknown_version_is_refused(registered: Registered) -> None:
    arguments = ["serve", "--model", "models:/person-attributes/9"]
    done = run_in_process(registered.root, registered.environment(), arguments, code=2)
    assert "models:/person-attributes/9: cannot be loaded" in done.stderr
    assert "Run person-attributes models" in done.stderr


def test_a_limit_below_that_of_the_model_is_refused(folder: Path) -> None:
    with pytest.raises(ServingError, match="--max-in-flight-megabytes: expected at least 4"):
        create_application(folder, ServerSettings(max_in_flight_megabytes=1))


@pytest.mark.parametrize("name", ["MLmodel", "label_map.json"])
def test_a_damaged_model_is_refused(folder: Path, tmp_path: Path, name: str) -> None:
    damaged = tmp_path / "damaged"
    shutil.copytree(folder, damaged)
    next(damaged.rglob(name)).write_text("{", encoding="utf-8")
    with pytest.raises(ServingError, match="damaged: cannot be loaded: "):
        create_application(damaged, ServerSettings())


@pytest.mark.parametrize("workers", ["1", "2"])
def test_an_invalid_number_of_threads_is_refused(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: str
) -> None:
    monkeypatch.setenv("PERSON_ATTRIBUTES_THREADS", "many")
    (port,) = map(str, find_ports(1))
    command = [*CONTAINER, str(folder), "--port", port, "--workers", workers]
    assert "PERSON_ATTRIBUTES_THREADS: expected a number of threads" in _fail(command, tmp_path)


def test_a_port_in_use_is_refused(registered: Registered) -> None:
    with socket.create_server(("127.0.0.1", 0)) as used:
        address = f"127.0.0.1:{used.getsockname()[1]}"
        done = _fail([*OURS, "serve", "--port", address.partition(":")[2]], registered.root)
    assert f"{address}: Address already in use. Choose another --port" in done


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_folder_without_a_model_is_refused(tmp_path: Path, workers: str) -> None:
    (port,) = map(str, find_ports(1))
    command = [*CONTAINER, str(tmp_path), "--port", port, "--workers", workers]
    assert f"{tmp_path}: cannot be loaded" in _fail(command, tmp_path)


def _fail(command: Sequence[str], root: Path) -> str:
    """Runs a command that refuses to start, and returns its messages."""
    done = subprocess.run(
        command,
        cwd=root,
        env=Registered(root).environment(),
        capture_output=True,
        text=True,
        timeout=COMMAND_SECONDS,
        check=False,
    )
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr
