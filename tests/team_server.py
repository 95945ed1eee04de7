"""The services of `make server` as plain processes: PostgreSQL, an S3 store and MLflow."""

import base64
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from benchmarks.loopback import find_ports
from conftest import COMMAND_SECONDS, ROOT

ADMIN, PASSWORD = "admin", "a long password"


class _Service:
    """A process on a local port that can be restarted; its output is logged to a file."""

    def __init__(self, log: Path) -> None:
        (self.port,) = find_ports(1)
        self.log = log
        self._process: subprocess.Popen[bytes] | None = None

    def _run(
        self, command: list[str], environment: Mapping[str, str], user: str | None = None
    ) -> None:
        with self.log.open("ab") as output:
            self._process = subprocess.Popen(
                command,
                cwd=self.log.parent,
                env=environment,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                user=user,
            )

    def _await(self, answers: Callable[[], object]) -> None:
        assert self._process is not None
        until = time.monotonic() + COMMAND_SECONDS
        while time.monotonic() < until:
            assert self._process.poll() is None, self.log.read_text()
            with contextlib.suppress(OSError, subprocess.CalledProcessError):
                answers()
                return
            time.sleep(0.2)
        raise AssertionError(f"no answer in {COMMAND_SECONDS} s: {self.log.read_text()}")

    def end(self, number: signal.Signals = signal.SIGTERM) -> None:
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, number)
            self._process.wait()
            self._process = None


class Postgres(_Service):
    """A PostgreSQL cluster with the databases of `deploy/databases.sql`."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder / "postgres.log")
        # PostgreSQL refuses to run as root, and its own user cannot read pytest's folders.
        self._user = "postgres" if os.geteuid() == 0 else None
        self._folder = tempfile.TemporaryDirectory(prefix="postgres-")
        root = Path(self._folder.name)
        password = root / "password"
        password.write_text("another long password")
        if self._user:
            shutil.chown(root, self._user)
            shutil.chown(password, self._user)
        self._data = root / "data"
        self.environment = {
            "PGHOST": "127.0.0.1",
            "PGPORT": str(self.port),
            "PGUSER": "mlflow",
            "PGPASSWORD": password.read_text(),
        }
        secured = ["--auth=scram-sha-256", f"--pwfile={password}", "--username=mlflow"]
        initdb = [_find("initdb"), f"--pgdata={self._data}", *secured, "--no-sync"]
        self._do(*initdb, user=self._user)
        self.start()
        self._psql("postgres", "--command", "CREATE DATABASE mlflow")
        self._psql("mlflow", "--file", str(ROOT / "deploy" / "databases.sql"))

    def start(self) -> None:
        options = ["-D", str(self._data), "-p", str(self.port), "-k", "", "-h", "127.0.0.1"]
        self._run([_find("postgres"), *options, "-c", "fsync=off"], os.environ, self._user)
        self._await(lambda: self._psql("postgres", "--command", "SELECT 1"))

    def remove(self) -> None:
        self.end()
        self._folder.cleanup()

    def _psql(self, database: str, *options: str) -> None:
        self._do(_find("psql"), "--quiet", "--no-psqlrc", "--dbname", database, *options)

    def _do(self, *command: str, user: str | None = None) -> None:
        environment = os.environ | self.environment
        subprocess.run(
            command, env=environment, cwd="/", capture_output=True, check=True, user=user
        )


def _find(program: str) -> str:
    """Finds a program of PostgreSQL, which Debian does not install in PATH."""
    folders = [os.environ["PATH"], *map(str, Path("/usr/lib/postgresql").glob("*/bin"))]
    found = shutil.which(program, path=os.pathsep.join(folders))
    assert found, f"{program}: missing; install PostgreSQL (apt-get install postgresql)"
    return found


class ObjectStore(_Service):
    """Moto's server: S3 in memory. Its content is lost when it ends."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder / "s3.log")
        self.address = f"http://127.0.0.1:{self.port}"
        self.environment = {
            "AWS_ENDPOINT_URL": self.address,
            "AWS_ACCESS_KEY_ID": "access",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_DEFAULT_REGION": "us-east-1",
        }
        command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(self.port)]
        self._run(command, os.environ)
        self._await(lambda: urllib.request.urlopen(self.address).close())

    @property
    def client(self) -> Any:
        # Imported here: boto3 is in the extra `shared`, which may not be installed.
        import boto3

        return boto3.client(
            "s3",
            endpoint_url=self.address,
            aws_access_key_id=self.environment["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=self.environment["AWS_SECRET_ACCESS_KEY"],
            region_name=self.environment["AWS_DEFAULT_REGION"],
        )


class TeamServer(_Service):
    """The MLflow server that `deploy/serve.py` starts."""

    def __init__(self, folder: Path, postgres: Postgres, store: ObjectStore) -> None:
        super().__init__(folder / "mlflow.log")
        self.address = f"http://127.0.0.1:{self.port}"
        kept = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
        self._environment = kept | postgres.environment | store.environment
        self._environment |= {
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "MLFLOW_AUTH_ADMIN_USERNAME": ADMIN,
            "MLFLOW_AUTH_ADMIN_PASSWORD": PASSWORD,
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "MLFLOW_FLASK_SERVER_SECRET_KEY": "a key",
            "MLFLOW_HOST": "127.0.0.1",
            "MLFLOW_PORT": str(self.port),
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
            "MLFLOW_WORKERS": "1",
        }
        self.start()

    def start(self) -> None:
        self._run([sys.executable, str(ROOT / "deploy" / "serve.py")], self._environment)
        self._await(lambda: urllib.request.urlopen(f"{self.address}/health").close())

    def create_account(self, name: str, password: str) -> None:
        """Creates an account as the admin, as described in `docs/sharing.md`."""
        account = base64.b64encode(f"{ADMIN}:{PASSWORD}".encode()).decode()
        request = urllib.request.Request(
            f"{self.address}/api/2.0/mlflow/users/create",
            json.dumps({"username": name, "password": password}).encode(),
            {"Authorization": f"Basic {account}", "Content-Type": "application/json"},
        )
        urllib.request.urlopen(request).close()
