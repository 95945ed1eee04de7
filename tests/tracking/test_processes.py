"""Only runs whose process no longer exists are ended."""

import os
import subprocess
import sys

import mlflow
import psutil
import pytest

from person_attributes.tracking.connection import connect
from person_attributes.tracking.processes import PROCESS, identify, is_gone
from person_attributes.workspace import Workspace


@pytest.fixture
def ended() -> str:
    """The identity of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    identity = identify(psutil.Process(process.pid))
    process.communicate(b"\n")
    return identity


def _change(identity: str, position: int) -> str:
    parts = identity.split(":")
    parts[position] += "0"
    return ":".join(parts)


HOST, BOOT, NAMESPACE, _, TIME = range(5)


def test_an_ended_process_is_gone_and_this_one_is_not(ended: str, shell: None) -> None:
    assert is_gone(ended)
    alive = identify(psutil.Process())
    assert not is_gone(alive)
    assert is_gone(_change(alive, TIME)), "its id is reused"
    assert not is_gone("")


@pytest.mark.skipif(
    sys.platform != "linux", reason="other systems have no boot id or pid namespace"
)
def test_containers_with_the_same_host_name_are_distinguished(ended: str, shell: None) -> None:
    mlflow.set_tracking_uri("http://127.0.0.1:9")
    for position in (HOST, BOOT, NAMESPACE):
        assert not is_gone(_change(ended, position))
    mlflow.set_tracking_uri("sqlite:///mlflow.db")
    assert is_gone(_change(ended, BOOT)), "a local store survives a restart"
    assert not is_gone(_change(ended, NAMESPACE))


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no zombie processes")
def test_a_zombie_process_is_gone(shell: None) -> None:
    number = os.fork()
    if number == 0:
        os._exit(0)
    identity = identify(psutil.Process(number))
    while psutil.Process(number).status() != psutil.STATUS_ZOMBIE:
        pass
    assert is_gone(identity)
    os.waitpid(number, 0)


def test_opening_the_store_ends_abandoned_runs(workspace: Workspace, ended: str) -> None:
    client = connect(workspace)
    experiment = client.create_experiment("person-attributes")
    tags = {"gone": ended, "alive": identify(psutil.Process()), "unknown": "elsewhere:1:2"}
    runs = {
        name: client.create_run(experiment, tags={PROCESS: process}).info.run_id
        for name, process in tags.items()
    }
    client = connect(workspace)
    statuses = {name: client.get_run(run_id).info.status for name, run_id in runs.items()}
    assert statuses == {"gone": "KILLED", "alive": "RUNNING", "unknown": "RUNNING"}
