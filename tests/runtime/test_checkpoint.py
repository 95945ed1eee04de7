"""A phase that is stopped in any way resumes and ends with the same result."""

import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from benchmarks.loopback import find_ports
from conftest import COMMAND_SECONDS, OURS, Project, change_params, kill, read_until
from mlflow.tracking import MlflowClient

from person_attributes.config import read_params
from person_attributes.pipeline.run_cache import RunCache
from person_attributes.pipeline.train import train
from person_attributes.tracking.database import sqlite_address
from person_attributes.workspace import Workspace

EPOCHS = 6
TRAIN = (*OURS, "train", "p1")
OUTPUTS = ("models/phases/p1.weights.h5", "models/phases/p1.json", "reports/phases/p1.csv")


@pytest.fixture(scope="module")
def prepared(finished: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project that is ready to train its first phase; read-only."""
    project = finished.copy(tmp_path_factory.mktemp("prepared") / "project")
    project.forget_runs()
    changes = {
        "phases.p1.epochs": EPOCHS,
        "phases.p1.augmentation": "aggressive",
        "phases.p1.batch_size": 8,
        "schedules.plateau.patience": 1,
        "schedules.plateau.min_delta": 9.0,
        "runtime.checkpoint_minutes": 0.0,
    }
    change_params(project.params_file, changes)
    return project


@pytest.fixture
def project(prepared: Project, tmp_path: Path) -> Project:
    return prepared.copy(tmp_path / "project")


@pytest.fixture(scope="module")
def uninterrupted(prepared: Project, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The outputs of the phase when nothing stops it."""
    project = prepared.copy(tmp_path_factory.mktemp("uninterrupted") / "project")
    project.cli("train", "p1")
    return _read_outputs(project)


def _read_outputs(project: Project) -> dict[str, bytes]:
    return {name: (project.root / name).read_bytes() for name in OUTPUTS}


def _check_runs(client: MlflowClient, epochs: int = EPOCHS) -> None:
    """Checks that the phase has one finished run with every epoch once."""
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    (run,) = client.search_runs(experiments, "tags.`dvc.stage` = 'train@p1'")
    assert run.info.status == "FINISHED"
    for name in ("loss", "val_gender_accuracy", "learning_rate", "images_per_second"):
        steps = [point.step for point in client.get_metric_history(run.info.run_id, name)]
        assert sorted(steps) == list(range(epochs)), name
    for name in ("best_epoch", "p1_val_loss"):
        assert len(client.get_metric_history(run.info.run_id, name)) == 1, name


def _store(project: Project) -> MlflowClient:
    return MlflowClient(sqlite_address(project.root / "mlflow.db"))


def test_a_phase_that_is_killed_at_random_moments_has_the_same_outputs(
    project: Project, uninterrupted: dict[str, bytes]
) -> None:
    """Kills before the first batch, inside and between epochs, and during a checkpoint."""
    moments = random.Random(7)
    writing, journal = ".writing-*-state.npy", "points.jsonl"
    for awaited, seconds in [(journal, 8.0), (writing, 0.02), (writing, 0.4)]:
        process = project.start(*TRAIN)
        _wait_for(project, awaited, process)
        time.sleep(moments.uniform(0, seconds))
        assert process.poll() is None, "the process ended before it was killed"
        kill(process)
    done = project.cli("train", "p1")
    assert f"p1 {EPOCHS}/{EPOCHS}" in done.stdout
    assert _read_outputs(project) == uninterrupted
    _check_runs(_store(project))


def _wait_for(project: Project, name: str, process: "subprocess.Popen[str]") -> None:
    """Waits until the process has written a checkpoint's file that matches the pattern."""
    began = time.time()
    while process.poll() is None:
        with contextlib.suppress(FileNotFoundError):  # removed in the meantime
            for path in (project.root / "checkpoints").rglob(name):
                if path.stat().st_mtime > began:
                    return
        time.sleep(0.001)


@pytest.mark.parametrize(("number", "workers"), [(signal.SIGTERM, 0), (signal.SIGINT, 2)])
def test_a_signal_writes_a_checkpoint_and_prints_how_to_resume(
    project: Project, uninterrupted: dict[str, bytes], number: signal.Signals, workers: int
) -> None:
    """The whole process group gets the signal, as from a terminal or a supervisor."""
    runtime = {"runtime.checkpoint_minutes": 60.0, "runtime.workers": workers}
    change_params(project.params_file, runtime)
    process = project.start(*TRAIN)
    read_until("p1 1/", process)
    os.killpg(process.pid, number)
    printed, _ = process.communicate(timeout=COMMAND_SECONDS)
    assert process.returncode == 128 + number
    assert printed.splitlines()[-1].startswith(f"p1: stopped by {number.name} after epoch ")
    assert printed.splitlines()[-1].endswith("Run dvc repro to resume.")
    assert "Traceback" not in printed
    done = project.cli("train", "p1")
    assert "p1: resuming from checkpoint, after epoch " in done.stdout
    assert "p1 1/" not in done.stdout
    assert _read_outputs(project) == uninterrupted
    _check_runs(_store(project))


def test_only_one_process_trains_a_phase_and_a_changed_parameter_restarts_it(
    project: Project,
) -> None:
    process = project.start(*TRAIN)
    _wait_for(project, "state.npy", process)
    refused = project.cli("train", "p1", code=2)
    assert refused.stderr.startswith("train@p1: another process runs this stage in ")
    assert refused.stderr.count("\n") == 1
    kill(process)
    changes = {"phases.p1.learning_rate": 2.0e-3, "phases.p1.epochs": 1}
    change_params(project.params_file, changes)
    assert "p1 1/" in project.cli("train", "p1").stdout


def test_a_finished_phase_is_restored_instead_of_trained_again(
    project: Project, uninterrupted: dict[str, bytes]
) -> None:
    """An experiment that waited for it restores it, and `dvc repro` killed before dvc.lock too."""
    first = project.start(*TRAIN)
    _wait_for(project, "state.npy", first)
    os.killpg(first.pid, signal.SIGSTOP)
    second = project.start("dvc", "exp", "run", "--temp", "train@p1")
    read_until("p1: another process is training this phase; waiting for it", second)
    os.killpg(first.pid, signal.SIGCONT)
    printed, _ = first.communicate(timeout=COMMAND_SECONDS)
    assert first.returncode == 0, printed
    printed, _ = second.communicate(timeout=COMMAND_SECONDS)
    assert second.returncode == 0, printed
    restored = "train@p1: restored from DVC's run cache"
    assert restored in printed
    assert "p1 1/" not in printed
    assert restored in project.run("dvc", "repro", "train@p1").stdout
    change_params(project.params_file, {"phases.p1.epochs": 1})
    assert "p1 1/1" in project.cli("train", "p1").stdout
    change_params(project.params_file, {"phases.p1.epochs": EPOCHS})
    assert restored in project.run("dvc", "repro", "train@p1").stdout
    assert _read_outputs(project) == uninterrupted


def test_a_phase_that_another_process_finished_clears_the_checkpoint(
    project: Project, uninterrupted: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if the other process was killed after it wrote the outputs."""
    checkpoints = project.root / "checkpoints" / "p1"

    class Restored(RunCache):
        def restore(self) -> bool:
            (folder,) = (path for path in checkpoints.iterdir() if path.is_dir())
            (folder / "state.npy").write_bytes(b"left behind")
            for name, content in uninterrupted.items():
                (project.root / name).write_bytes(content)
            return True

    monkeypatch.chdir(project.root)
    workspace, params = Workspace(project.root), read_params(project.params_file)
    train(workspace, params, "p1", run_cache=Restored(workspace, "train@p1"))
    assert not [path for path in checkpoints.iterdir() if path.is_dir()]
    assert _read_outputs(project) == uninterrupted


def test_a_finished_phase_that_could_not_be_cached_is_not_trained_again(
    project: Project, uninterrupted: dict[str, bytes]
) -> None:
    """As if the disk was full when the outputs were copied to DVC's cache."""
    runs = project.root / ".dvc/cache/runs"
    shutil.rmtree(runs)
    runs.write_text("no folder")
    failed = project.cli("train", "p1", code=2)
    assert f"p1 {EPOCHS}/{EPOCHS}" in failed.stdout
    runs.unlink()
    done = project.cli("train", "p1")
    assert f"p1: resuming from checkpoint, after epoch {EPOCHS} " in done.stdout
    assert f"p1 {EPOCHS}/{EPOCHS}" not in done.stdout
    assert _read_outputs(project) == uninterrupted
    _check_runs(_store(project))


@pytest.fixture
def server(tmp_path: Path) -> Iterator["Server"]:
    server = Server(tmp_path / "server")
    server.start()
    yield server
    server.end()


class Server:
    """A real tracking server on loopback that can be stopped and restarted."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self._folder = folder
        (self._port,) = find_ports(1)
        self.address = f"http://127.0.0.1:{self._port}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [sys.executable, "-m", "mlflow", "server", "--port", str(self._port)]
        store = sqlite_address(self._folder / "mlflow.db")
        self._process = subprocess.Popen(
            [*command, "--workers", "1", "--backend-store-uri", store],
            cwd=self._folder,
            env=os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        until = time.monotonic() + COMMAND_SECONDS
        while time.monotonic() < until:
            with contextlib.suppress(OSError), urllib.request.urlopen(f"{self.address}/health"):
                return
            time.sleep(0.25)
        raise TimeoutError(self.address)

    def end(self) -> None:
        if self._process:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()


def test_training_survives_an_outage_of_the_server_and_sends_every_point(
    project: Project, server: Server, uninterrupted: dict[str, bytes]
) -> None:
    process = project.start(*TRAIN, MLFLOW_TRACKING_URI=server.address)
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line)
        if line.startswith("p1 1/"):
            server.end()
        if line.startswith("MLflow does not respond"):
            break
    assert any(line.startswith(f"p1 {EPOCHS}/{EPOCHS}") for line in lines), lines
    server.start()
    rest, _ = process.communicate()
    assert process.returncode == 0, rest
    assert _read_outputs(project) == uninterrupted
    _check_runs(MlflowClient(server.address))


def test_an_unresponsive_server_does_not_lose_training(
    project: Project, server: Server, uninterrupted: dict[str, bytes]
) -> None:
    change_params(project.params_file, {"runtime.tracking_minutes": 0.02})
    process = project.start(*TRAIN, MLFLOW_TRACKING_URI=server.address)
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("p1 1/"):
            server.end()
    process.communicate()
    assert process.returncode == 2
    server.start()
    done = project.cli("train", "p1", MLFLOW_TRACKING_URI=server.address)
    assert "p1 1/" not in done.stdout
    assert _read_outputs(project) == uninterrupted
    _check_runs(MlflowClient(server.address))
