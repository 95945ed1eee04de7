"""Shared fixtures: parameters, the sample, projects and registries."""

import contextlib
import gc
import io
import os
import shutil
import signal
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import filelock
import numpy as np
import pytest
from ruamel.yaml import YAML

from person_attributes import cli
from person_attributes.config import Params, read_params
from person_attributes.data.sample import draw_sample
from person_attributes.files import remove
from person_attributes.labels import LabelMap
from person_attributes.workspace import Workspace

if TYPE_CHECKING:
    from tiny_model import Registered

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "CRITICAL")  # MLflow reads it when imported

ROOT = Path(__file__).parent.parent
SHIPPED = ROOT / "recipes" / "sample.yaml"
COMMAND_SECONDS = 1200
"""Timeout that only detects a hang; on a busy machine a command may take a quarter of it."""

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")

gc.set_threshold(50_000)  # like the command line, for stages in the process of the tests

# Shells start background jobs with SIGINT ignored, and child processes would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks tests that need a project or a registered model, and runs the longest test first."""
    for item in items:
        if {"make_project", "registered"} & set(getattr(item, "fixturenames", ())):
            item.add_marker("pipeline")
    items.sort(key=lambda item: item.get_closest_marker("new_user") is None)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Reports skipped browser tests and how to enable them."""
    skipped = terminalreporter.stats.get("skipped", [])
    if any("Chromium" in str(report.longrepr) for report in skipped):
        terminalreporter.write_line(
            "Browser tests of the demo were skipped. Run apt-get install chromium, then make test."
        )


@pytest.fixture(scope="session")
def params() -> Params:
    return read_params(SHIPPED)


@pytest.fixture(scope="session")
def label_map(params: Params) -> LabelMap:
    return LabelMap.declare(params.heads)


@pytest.fixture(scope="session")
def people(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sample of 24 drawn people, 64 px."""
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
        """The environment of a new user: this Python first on the path, no MLflow variables."""
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
        """Runs a command in the project and checks its exit code; None accepts any code."""
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
        """Starts a command in its own process group, with its output in a pipe."""
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
            _prepare_store(store)  # otherwise the first command reports that the project was copied
        return copied

    def cli(
        self, *arguments: str, code: int = 0, **variables: str
    ) -> subprocess.CompletedProcess[str]:
        """Runs `person-attributes` in this process and checks its exit code.

        Imports take longer than most commands. To test or stop a process, pass `OURS` to `run` or
        `start`.
        """
        return run_in_process(self.root, self.environment() | variables, arguments, code)

    def commit(self, message: str) -> None:
        self.run("git", "add", "--all")
        self.run("git", "commit", "--quiet", "--message", message)

    def forget_runs(self) -> None:
        """Deletes the tracking store and all checkpoints."""
        for name in ("mlflow.db", "mlruns", "checkpoints"):
            remove(self.root / name)

    def execute(self, *stages: str) -> None:
        """Runs stages in this process, and commits them to DVC."""
        for stage in stages:
            self.cli(*stage.split("@"))
        self.run("dvc", "commit", "--force", *stages)

    def repro(self, *targets: str) -> list[str]:
        """Runs `dvc repro` and returns the executed stages."""
        done = self.run("dvc", "repro", *targets)
        return [
            line.partition("'")[2].partition("'")[0]
            for line in done.stdout.splitlines()
            if line.startswith("Running stage")
        ]


OURS = (sys.executable, "-u", "-m", "person_attributes")
"""`person-attributes` as a separate process."""


def run_in_process(
    root: Path, environment: Mapping[str, str], arguments: Sequence[str], code: int
) -> subprocess.CompletedProcess[str]:
    """Runs `person-attributes` in this process, and captures its output."""
    output, errors = io.StringIO(), io.StringIO()
    with (
        _isolated(environment),
        contextlib.chdir(root),
        contextlib.redirect_stdout(output),
        contextlib.redirect_stderr(errors),
    ):
        returned = cli.main(arguments)
    done = subprocess.CompletedProcess(arguments, returned, output.getvalue(), errors.getvalue())
    assert returned == code, f"{arguments} ended with {returned}\n{done.stdout}\n{done.stderr}"
    return done


@contextlib.contextmanager
def _isolated(environment: Mapping[str, str]) -> Iterator[None]:
    """Restores the state of the process after a command."""
    import mlflow

    kept, path = signal.getsignal(signal.SIGTERM), list(sys.path)
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        for name in os.environ.keys() - environment.keys():
            patch.delenv(name)
        for name, value in environment.items():
            patch.setenv(name, value)
        warnings.simplefilter("ignore")
        if "keras" in sys.modules:
            # Resets the names of layers. Collecting garbage each time would take half a second.
            sys.modules["keras"].utils.clear_session(free_memory=False)
        try:
            yield
        finally:
            signal.signal(signal.SIGTERM, kept)
            sys.path[:] = path
            mlflow.set_tracking_uri(None)  # type: ignore[arg-type]
            for name in os.environ.keys() - environment.keys():
                del os.environ[name]


def read_until(start: str, process: "subprocess.Popen[str]") -> str:
    """Reads the output of a running process up to the first line with this start."""
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line)
        if line.startswith(start):
            break
    else:
        pytest.fail(f"ended before {start!r}:\n{''.join(lines)}")
    assert process.poll() is None, lines
    return "".join(lines)


def kill(process: "subprocess.Popen[str]") -> None:
    """Kills a process started by `Project.start`, and its children."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


_HEADS = read_yaml(SHIPPED)["heads"]
SHRUNK: dict[str, Any] = {
    "sample.images": 60,
    "heads": {name: _HEADS[name] for name in ("gender", "age", "bag", "emotion")},
    "data.image_sizes": [32, 40],
    "model.backbone": "residual",
    "model.residual.widths": [32, 64],
    "model.residual.blocks": [1, 1],
    "runtime.tracking_minutes": 1.0,
    "evaluation.bootstrap_samples": 50,
    "evaluation.most_confident_errors_per_head": 1,
    "evaluation.least_confident_correct_per_head": 1,
    "evaluation.label_issues_per_head": 1,
    **{f"phases.{phase}.epochs": 1 for phase in ("p1", "p2", "p3", "p4", "p5")},
    **{f"phases.{phase}.image_size": 32 for phase in ("p1", "p2", "p3")},
    **{f"phases.{phase}.image_size": 40 for phase in ("p4", "p5")},
}
"""Changes to the shipped parameters for tests: the whole pipeline runs with little computation."""

STAGES = [
    "sample", "ingest", "encode", "split", "pack@32", "pack@40", "inspect", "initialize",
    "train@p1", "train@p2", "train@p3", "train@p4", "train@p5", "select", "evaluate",
    "register",
]  # fmt: skip


@pytest.fixture(scope="session")
def make_once(
    tmp_path_factory: pytest.TempPathFactory,
) -> Callable[[str, Callable[[Path], object]], Path]:
    """Fills a folder once for all workers of a session; tests must not change it."""
    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent

    def make(name: str, fill: Callable[[Path], object]) -> Path:
        folder, done = shared / f"shared-{name}", shared / f"shared-{name}.done"
        with filelock.FileLock(shared / f"shared-{name}.lock"):
            if not done.exists():
                folder.mkdir()
                fill(folder)
                done.touch()
        return folder

    return make


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
        project.commit("Start")
        return project

    return make


@pytest.fixture(scope="session")
def finished(
    make_project: Callable[[str], Project],
    make_once: Callable[[str, Callable[[Path], object]], Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> Project:
    """A project with all stages executed and committed; tests must not change it."""

    def fill(folder: Path) -> None:
        project = make_project("started").copy(folder / "project")
        project.execute(*STAGES)
        project.commit("Run")

    made = Project(make_once("finished", fill) / "project")
    return made.copy(tmp_path_factory.mktemp("finished") / "project")


@pytest.fixture
def project(finished: Project, tmp_path: Path) -> Project:
    """A copy of the finished project, which tests may change."""
    return finished.copy(tmp_path / "project")


@pytest.fixture(scope="session")
def registered(
    make_once: Callable[[str, Callable[[Path], object]], Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> "Registered":
    """A small model in its own registry; tests must not change it."""
    from tiny_model import Registered, register_tiny_model

    made = Registered(make_once("registered", register_tiny_model))
    return made.copy(tmp_path_factory.mktemp("registered") / "workspace")


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
    """Creates a store, or updates the paths in a copied one."""
    # Tests of other backends run without MLflow.
    from person_attributes.tracking.database import prepare_store

    prepare_store(database)


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty MLflow store to copy, because creating one takes seconds."""
    database = tmp_path_factory.mktemp("store") / "mlflow.db"
    _prepare_store(database)
    return database


@pytest.fixture
def shell() -> Iterator[None]:
    """An environment without MLflow variables, restored after the test."""
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
    """A project folder with an empty MLflow store."""
    workspace = Workspace(tmp_path / "project")
    workspace.root.mkdir()
    shutil.copy(empty_store, workspace.tracking_database)
    _prepare_store(workspace.tracking_database)
    return workspace
