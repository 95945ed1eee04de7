"""What all tests share: the shipped parameters, shrunk ones, drawn people, and whole projects."""

import contextlib
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
from person_attributes.labels import LabelMap
from person_attributes.stages.wiring import make_label_map, remove
from person_attributes.workspace import Workspace

if TYPE_CHECKING:
    from tiny_model import Registered

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "CRITICAL")  # read once, when MLflow is imported

ROOT = Path(__file__).parent.parent
SHIPPED = ROOT / "recipes" / "sample.yaml"
COMMAND_SECONDS = 1200
"""What takes longer hangs; on a busy machine a command may well take a quarter of that."""

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")

# What a shell starts in the background ignores SIGINT, and so would all that the tests start.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks what takes a whole project or a registered model; the longest test begins first."""
    for item in items:
        if {"make_project", "registered"} & set(getattr(item, "fixturenames", ())):
            item.add_marker("pipeline")
    items.sort(key=lambda item: item.get_closest_marker("new_user") is None)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Says what was left out, and how to have it run."""
    skipped = terminalreporter.stats.get("skipped", [])
    if any("Chromium" in str(report.longrepr) for report in skipped):
        terminalreporter.write_line(
            "The page of the demo was opened in no browser. "
            "Run apt-get install chromium, then make test."
        )


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

    def cli(
        self, *arguments: str, code: int = 0, **variables: str
    ) -> subprocess.CompletedProcess[str]:
        """Runs a command of ours in the project and checks how it ended.

        In this process, since imports take longer than most commands. Where the process itself is
        tested, or is to be stopped, `run` and `start` take `OURS`.
        """
        return run_in_process(self.root, self.environment() | variables, arguments, code)

    def commit(self, message: str) -> None:
        self.run("git", "add", "--all")
        self.run("git", "commit", "--quiet", "--message", message)

    def forget_runs(self) -> None:
        """Begins with an empty tracking store, and without what phases remember."""
        for name in ("mlflow.db", "mlruns", "backups"):
            remove(self.root / name)

    def execute(self, *stages: str) -> None:
        """Runs stages in this process, and has DVC note them as if it had run them."""
        for stage in stages:
            self.cli(*stage.split("@"))
        self.run("dvc", "commit", "--force", *stages)

    def repro(self, *targets: str) -> list[str]:
        """Runs `dvc repro` and lists the stages that it executed."""
        done = self.run("dvc", "repro", *targets)
        return [
            line.partition("'")[2].partition("'")[0]
            for line in done.stdout.splitlines()
            if line.startswith("Running stage")
        ]


OURS = (sys.executable, "-u", "-m", "person_attributes")
"""The command line of ours, as a process of its own."""


def run_in_process(
    root: Path, environment: Mapping[str, str], arguments: Sequence[str], code: int
) -> subprocess.CompletedProcess[str]:
    """Runs a command of ours in this process as if it had one of its own."""
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
    """Undoes what a command leaves in its process."""
    import mlflow

    kept, path = signal.getsignal(signal.SIGTERM), list(sys.path)
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        for name in os.environ.keys() - environment.keys():
            patch.delenv(name)
        for name, value in environment.items():
            patch.setenv(name, value)
        warnings.simplefilter("ignore")
        if "keras" in sys.modules:
            sys.modules["keras"].utils.clear_session()  # or layers get other names
        try:
            yield
        finally:
            signal.signal(signal.SIGTERM, kept)
            sys.path[:] = path
            mlflow.set_tracking_uri(None)  # type: ignore[arg-type]
            for name in os.environ.keys() - environment.keys():
                del os.environ[name]


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


_HEADS = read_yaml(SHIPPED)["heads"]
SHRUNK: dict[str, Any] = {
    "sample.images": 60,
    "heads": {name: _HEADS[name] for name in ("gender", "age", "bag", "emotion")},
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

STAGES = [
    "sample", "ingest", "encode", "split", "pack@32", "pack@40", "inspect", "initialize",
    "train@p1", "train@p2", "train@p3", "train@p4", "train@p5", "evaluate", "register",
]  # fmt: skip


@pytest.fixture(scope="session")
def make_once(
    tmp_path_factory: pytest.TempPathFactory,
) -> Callable[[str, Callable[[Path], object]], Path]:
    """Makes a folder once for all workers of a session; nobody changes it after."""
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
    """A project with all of its stages executed, committed; not to be changed."""

    def fill(folder: Path) -> None:
        project = make_project("started").copy(folder / "project")
        project.execute(*STAGES)
        project.commit("Run")

    made = Project(make_once("finished", fill) / "project")
    return made.copy(tmp_path_factory.mktemp("finished") / "project")


@pytest.fixture
def project(finished: Project, tmp_path: Path) -> Project:
    """A copy of the finished project, to be changed."""
    return finished.copy(tmp_path / "project")


@pytest.fixture(scope="session")
def registered(
    make_once: Callable[[str, Callable[[Path], object]], Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> "Registered":
    """A small model in a registry of its own; not to be changed."""
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
