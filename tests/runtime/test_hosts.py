"""Several hosts, simulated by processes on loopback, train a phase together."""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest
from benchmarks.loopback import find_ports, make_cluster
from conftest import COMMAND_SECONDS, OURS, Project, change_params, kill, read_until
from mlflow.tracking import MlflowClient

from person_attributes.tracking.database import sqlite_address

_JOIN = (*OURS, "join")
_REPRO = ("dvc", "repro", "train@p2")


@pytest.fixture(scope="module")
def prepared(finished: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project that is ready to train; read-only."""
    project = finished.copy(tmp_path_factory.mktemp("hosts") / "project")
    project.forget_runs()
    changes = {
        "phases.p1.epochs": 3,
        "phases.p1.optimizer": "sgd",
        "phases.p2.optimizer": "sgd",
        "optimizers.sgd.clip_norm": 0.5,  # otherwise rounding errors grow in three epochs
        "phases.p1.schedule": "constant",
        "phases.p1.learning_rate": 0.003,
        "phases.p1.augmentation": "standard",
        "model.dropout": 0.0,  # each device would draw its own dropout
        "runtime.checkpoint_minutes": 0.0,
    }
    change_params(project.params_file, changes)
    project.execute("initialize")
    return project


@pytest.fixture
def project(prepared: Project, tmp_path: Path) -> Project:
    project = prepared.copy(tmp_path / "project")
    change_params(project.params_file, {"runtime.devices": "hosts"})
    return project


@pytest.fixture(scope="module")
def alone(prepared: Project, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project in which one process trained the same phases."""
    project = prepared.copy(tmp_path_factory.mktemp("alone") / "project")
    for phase in ("p1", "p2"):
        project.cli("train", phase)
    return project.root


@contextlib.contextmanager
def _started(
    project: Project, command: tuple[str, ...], **variables: str
) -> Iterator["subprocess.Popen[str]"]:
    process = project.start(*command, **variables)
    try:
        yield process
    finally:
        kill(process)


def _assert_same_weights(ours: Path, theirs: Path, *phases: str) -> None:
    for phase in phases:
        name = f"models/phases/{phase}.weights.h5"
        with h5py.File(ours / name) as our, h5py.File(theirs / name) as their:
            names: list[str] = []
            their.visit(names.append)
            arrays = [name for name in names if isinstance(their[name], h5py.Dataset)]
            assert len(arrays) > 20
            for array in arrays:
                np.testing.assert_allclose(our[array][()], their[array][()], atol=1e-3)


def test_two_hosts_train_the_same_weights_as_one(project: Project, alone: Path) -> None:
    """One runs `dvc repro`, the other `join`; only the first logs and writes."""
    clusters = _make_clusters()
    with (
        _started(project, _JOIN, TF_CONFIG=clusters[1]) as helper,
        _started(project, _REPRO, TF_CONFIG=clusters[0]) as first,
    ):
        printed, _ = first.communicate(timeout=COMMAND_SECONDS)
        assert first.returncode == 0, printed[-3000:]
        joined = read_until("join: p2 finished", helper)
        os.killpg(helper.pid, signal.SIGINT)
        joined += helper.communicate(timeout=COMMAND_SECONDS)[0]
    assert "join: p1 finished" in joined
    assert "Traceback" not in joined
    _assert_same_weights(project.root, alone, "p1", "p2")
    client = MlflowClient(sqlite_address(project.root / "mlflow.db"))
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    (run,) = client.search_runs(experiments, "tags.`dvc.stage` = 'train@p1'")
    assert run.data.tags["p1.devices"] == "2"


def test_a_lost_host_ends_the_phase_and_one_process_resumes_it(
    project: Project, alone: Path
) -> None:
    clusters = _make_clusters()
    with (
        _started(project, _JOIN, TF_CONFIG=clusters[1]) as helper,
        _started(project, _REPRO, TF_CONFIG=clusters[0]) as first,
    ):
        _wait_for_checkpoint(project, first)
        os.killpg(helper.pid, signal.SIGKILL)
        printed, _ = first.communicate(timeout=COMMAND_SECONDS)
    assert first.returncode != 0
    assert "p1: a host was lost" in printed, printed[-3000:]
    assert "a host was lost (Graph" not in printed
    assert "function_node" not in printed
    assert "Traceback" not in printed
    change_params(project.params_file, {"runtime.devices": "one"})
    resumed = project.cli("train", "p1").stdout
    assert "p1: resuming from checkpoint, after epoch" in resumed
    _assert_same_weights(project.root, alone, "p1")


@pytest.mark.parametrize(
    ("number", "arguments", "text"),
    [
        (1, ("train", "p1"), "p1: this is worker 1 in TF_CONFIG. Expected worker 0"),
        (0, ("join",), "join: this is worker 0 in TF_CONFIG. Expected another worker"),
    ],
)
def test_only_the_first_host_runs_the_pipeline(
    project: Project,
    monkeypatch: pytest.MonkeyPatch,
    number: int,
    arguments: tuple[str, ...],
    text: str,
) -> None:
    monkeypatch.setenv("TF_CONFIG", _make_clusters()[number])
    assert text in project.cli(*arguments, code=2).stderr


def _make_clusters() -> list[str]:
    ports = find_ports(2)
    return [make_cluster(number, ports) for number in range(2)]


def _wait_for_checkpoint(project: Project, process: "subprocess.Popen[str]") -> None:
    deadline = time.monotonic() + COMMAND_SECONDS
    while not list((project.root / "checkpoints").glob("p1/*/state.npy")):
        assert process.poll() is None, process.communicate()[0][-3000:]
        assert time.monotonic() < deadline
        time.sleep(0.05)
