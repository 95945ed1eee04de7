"""What all tests share: the shipped parameters, shrunk ones, drawn people, and whole projects."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ruamel.yaml import YAML

from person_attributes.config import Params, read_params
from person_attributes.data.sample import draw_sample
from person_attributes.labels import LabelMap
from person_attributes.stages.wiring import make_label_map
from person_attributes.workspace import Workspace

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

ROOT = Path(__file__).parent.parent
SHIPPED = ROOT / "recipes" / "sample.yaml"
COMMAND_SECONDS = 1200


@pytest.fixture(scope="session")
def params() -> Params:
    return read_params(SHIPPED)


@pytest.fixture(scope="session")
def label_map(params: Params) -> LabelMap:
    return make_label_map(params)


@pytest.fixture(scope="session")
def people(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of 24 drawn people, 64 px."""
    folder = tmp_path_factory.mktemp("people")
    draw_sample(folder, images=24, image_size=64, seed=1)
    return folder


def read_yaml(path: Path) -> Any:
    return YAML(typ="safe").load(path.read_text(encoding="utf-8"))


def change_params(path: Path, changes: Mapping[str, Any]) -> None:
    """Sets values by dotted keys, as `dvc exp run -S` does."""
    yaml = YAML()  # keeps the order of the keys
    content = yaml.load(path.read_text(encoding="utf-8"))
    for key, value in changes.items():
        *sections, name = key.split(".")
        section = content
        for part in sections:
            section = section[part]
        section[name] = value
    with path.open("w", encoding="utf-8") as file:
        yaml.dump(content, file)


@dataclass(frozen=True)
class Project:
    """A copy of the project in a git repository of its own."""

    root: Path

    @property
    def params_file(self) -> Path:
        return self.root / "params.yaml"

    def environment(self) -> dict[str, str]:
        """The environment of a stranger's shell: this Python first, no MLflow variables."""
        environment = {
            name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")
        }
        environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
        environment["PYTHONPATH"] = str(self.root / "src")
        environment["MLFLOW_DISABLE_TELEMETRY"] = "true"
        environment["GIT_AUTHOR_NAME"] = environment["GIT_COMMITTER_NAME"] = "tester"
        environment["GIT_AUTHOR_EMAIL"] = environment["GIT_COMMITTER_EMAIL"] = "t@example.org"
        return environment

    def run(self, *command: str, code: int | None = 0) -> subprocess.CompletedProcess[str]:
        """Runs a command in the project and checks how it ended; None takes any end."""
        done = subprocess.run(
            command,
            cwd=self.root,
            env=self.environment(),
            capture_output=True,
            text=True,
            timeout=COMMAND_SECONDS,
            check=False,
        )
        assert code is None or done.returncode == code, (
            f"{command} ended with {done.returncode}\n{done.stdout}\n{done.stderr}"
        )
        return done

    def start(self, *command: str, **variables: str) -> subprocess.Popen[str]:
        """Starts a command in a process group of its own, its output to be read."""
        return subprocess.Popen(
            command,
            cwd=self.root,
            env=self.environment() | variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def copy(self, root: Path) -> "Project":
        copied = Project(Path(shutil.copytree(self.root, root)))
        store = copied.root / "mlflow.db"
        if store.exists():
            _prepare_store(store)  # else the first command says that the project was copied
        return copied

    def cli(self, *arguments: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        return self.run(sys.executable, "-m", "person_attributes", *arguments, code=code)

    def repro(self, *targets: str) -> list[str]:
        """Runs `dvc repro` and lists the stages that it executed."""
        done = self.run("dvc", "repro", *targets)
        return [
            line.partition("'")[2].partition("'")[0]
            for line in done.stdout.splitlines()
            if line.startswith("Running stage")
        ]


def read_until(start: str, process: "subprocess.Popen[str]") -> str:
    """Gives what a process says until a line starts so; it must not have ended before."""
    assert process.stdout is not None
    said = []
    for line in process.stdout:
        said.append(line)
        if line.startswith(start):
            break
    else:
        pytest.fail(f"ended before {start!r}:\n{''.join(said)}")
    assert process.poll() is None, said
    return "".join(said)


def kill(process: "subprocess.Popen[str]") -> None:
    """Kills a process that `Project.start` has started, and all of its own."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


SHRUNK: dict[str, Any] = {
    "sample.images": 60,
    "data.image_sizes": [32, 40],
    "model.blocks": [1, 1, 1, 1],
    "runtime.tracking_minutes": 1.0,
    "evaluation.bootstrap_samples": 50,
    "evaluation.mistakes_per_head": 1,
    "evaluation.lucky_hits_per_head": 1,
    "evaluation.suspicious_per_head": 1,
    **{f"phases.{phase}.epochs": 1 for phase in ("p1", "p2", "p3", "p4", "p5")},
    **{f"phases.{phase}.image_size": 32 for phase in ("p1", "p2", "p3")},
    **{f"phases.{phase}.image_size": 40 for phase in ("p4", "p5")},
}
"""The shipped parameters with little to compute: every part runs, nothing is learned."""


@pytest.fixture(scope="session")
def make_project(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Project]:
    def make(name: str) -> Project:
        project = Project(tmp_path_factory.mktemp(name) / "project")
        project.root.mkdir()
        for part in ("src", ".dvc/config", ".dvcignore", ".gitignore", "dvc.yaml", "params.yaml"):
            _copy(part, project.root)
        for part in ("MLproject", "conda.yaml", "third_party", "pyproject.toml", "README.md"):
            _copy(part, project.root)
        change_params(project.params_file, SHRUNK)
        project.run("git", "init", "--quiet")
        project.run("git", "add", "--all")
        project.run("git", "commit", "--quiet", "--message", "Start")
        return project

    return make


def _copy(part: str, root: Path) -> None:
    source, target = ROOT / part, root / part
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
    else:
        shutil.copy(source, target)


@pytest.fixture
def random() -> np.random.Generator:
    return np.random.default_rng(0)


def _prepare_store(database: Path) -> None:
    """Makes a store, or has one that was copied look where it is."""
    # The tests of other backends run without MLflow.
    from person_attributes.tracking.database import prepare_store

    prepare_store(database)


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An MLflow store as the first command makes it, which takes seconds; to be copied."""
    database = tmp_path_factory.mktemp("store") / "mlflow.db"
    _prepare_store(database)
    return database


@pytest.fixture
def shell() -> Iterator[None]:
    """A shell that names no store and no experiment; what a test has MLflow name is forgotten."""
    import mlflow

    def forget() -> None:
        for name in [name for name in os.environ if name.startswith("MLFLOW_")]:
            del os.environ[name]

    before = dict(os.environ)
    forget()
    yield
    mlflow.set_tracking_uri(None)  # type: ignore[arg-type]
    forget()
    os.environ.update(before)


@pytest.fixture
def workspace(tmp_path: Path, empty_store: Path, shell: None) -> Workspace:
    """A folder with an empty store of its own."""
    workspace = Workspace(tmp_path / "project")
    workspace.root.mkdir()
    shutil.copy(empty_store, workspace.tracking_database)
    _prepare_store(workspace.tracking_database)
    return workspace
