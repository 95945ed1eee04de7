"""Starts `person-attributes serve` and the entry point of its container as processes."""

import contextlib
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path

import mlflow
from benchmarks.loopback import find_ports
from conftest import COMMAND_SECONDS
from prometheus_client.parser import text_string_to_metric_families
from tiny_model import CHAMPION, Registered

CONTAINER = (sys.executable, "-m", "person_attributes.server")
"""The entry point of the container image."""


@dataclass(frozen=True)
class Server:
    """A server as a process."""

    process: subprocess.Popen[bytes]
    port: int
    log: Path

    @property
    def temporary(self) -> Path:
        """Its folder for temporary files."""
        return self.log.with_name("temporary")

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
def start(registered: Registered, command: Sequence[str], log: Path) -> Iterator[Server]:
    """Runs a server during the block."""
    (port,) = find_ports(1)
    temporary = log.with_name("temporary")
    temporary.mkdir()
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*command, "--port", str(port)],
            cwd=registered.root,
            env=registered.environment(TMPDIR=str(temporary)),
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        yield Server(process, port, log)
    finally:
        process.kill()
        process.wait()


def download(registered: Registered, target: Path) -> Path:
    """Downloads the files of the champion, as in its container."""
    with registered.store():
        return Path(mlflow.artifacts.download_artifacts(CHAMPION, dst_path=str(target)))
