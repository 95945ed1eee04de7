"""Starts `mlflow models serve`, and sends requests to it."""

import base64
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.loopback import find_ports
from conftest import COMMAND_SECONDS


@dataclass(frozen=True)
class Endpoint:
    """The address of a server, its process and its log file."""

    address: str
    process: subprocess.Popen[bytes]
    log: Path

    def ask(self, content: Any, **headers: str) -> tuple[int, Any]:
        """Posts JSON or bytes; returns the status, and the predictions or the error."""
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        request = urllib.request.Request(
            f"{self.address}/invocations", body, {"Content-Type": "application/json"} | headers
        )
        try:
            with urllib.request.urlopen(request) as answer:
                return answer.status, json.load(answer)["predictions"]
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    def get(self, path: str) -> int:
        with urllib.request.urlopen(f"{self.address}{path}") as answer:
            return int(answer.status)


@contextlib.contextmanager
def serve(
    root: Path,
    environment: Mapping[str, str],
    model: str,
    log: Path,
    mlflow: Sequence[str] = (sys.executable, "-m", "mlflow"),
    env_manager: str = "local",
) -> Iterator[Endpoint]:
    """Serves a model of the store in a folder during the block."""
    (port,) = find_ports(1)
    command = [*mlflow, "models", "serve", "-m", model, "-p", str(port)]
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*command, "--env-manager", env_manager],
            cwd=root,
            env={**environment, "PYTHONPATH": ""},
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    endpoint = Endpoint(f"http://127.0.0.1:{port}", process, log)
    try:
        _wait(endpoint)
        yield endpoint
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        process.wait()


def _wait(endpoint: Endpoint) -> None:
    until = time.monotonic() + COMMAND_SECONDS
    while time.monotonic() < until:
        assert endpoint.process.poll() is None, endpoint.log.read_text()
        with contextlib.suppress(OSError):
            endpoint.get("/health")
            return
        time.sleep(0.2)
    raise AssertionError(f"no answer in {COMMAND_SECONDS} s: {endpoint.log.read_text()}")


def encode(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode()
