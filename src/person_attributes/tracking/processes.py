"""Which process a run belongs to, on which machine and in which folder, and whether it is gone."""

import contextlib
import functools
import socket
from pathlib import Path
from urllib.parse import quote

import mlflow
import psutil
from mlflow.entities import RunStatus
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from person_attributes.dvc_processes import find_dvc_processes

PROCESS = "pipeline.process"
PLACE = "pipeline.place"
"""Host and folder: on a shared server, what was stopped is resumed only where it was begun."""

_BOOT, _NAMESPACE = Path("/proc/sys/kernel/random/boot_id"), Path("/proc/self/ns/pid")


def identify(process: psutil.Process) -> str:
    """Names a process among all machines for good: process numbers alone are used again."""
    return ":".join([*_identify_machine(), str(process.pid), _read_start(process)])


def _read_start(process: psutil.Process) -> str:
    """Reads when a process began: on Linux in ticks since the boot, which no clock step changes."""
    try:
        status = Path(f"/proc/{process.pid}/stat").read_text(encoding="utf-8")
    except OSError:
        return f"{process.create_time():.2f}"
    return status.rpartition(")")[2].split()[19]


@functools.cache
def _identify_machine() -> tuple[str, str, str]:
    """Gives host, boot and namespace of process numbers; the last two are Linux's.

    Containers may share the name of a host, and each counts its processes from 1.
    """
    boot = _BOOT.read_text(encoding="ascii").strip() if _BOOT.exists() else ""
    namespace = str(_NAMESPACE.stat().st_ino) if _NAMESPACE.exists() else ""
    return socket.gethostname(), boot, namespace


def is_gone(identity: str) -> bool:
    """Says whether a process is known to have ended.

    Runs in an SQLite file are of this machine: one of an earlier boot has ended. On a server it
    may be one of another machine of the same name.
    """
    host, boot, namespace, number, _ = (*identity.split(":"), *[""] * 5)[:5]
    here = _identify_machine()
    if host != here[0] or not number:
        return False
    if boot != here[1]:
        return mlflow.get_tracking_uri().startswith("sqlite")
    return namespace == here[2] and not _is_alive(int(number), identity)


def _is_alive(number: int, identity: str) -> bool:
    try:
        process = psutil.Process(number)
        return identify(process) == identity and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def find_execution_process() -> psutil.Process:
    """Finds the process that all stages of one execution stand below: `dvc`, or this one."""
    return next((process for process, _ in find_dvc_processes()), psutil.Process())


def name_place(folder: Path) -> str:
    """Names a folder among all machines."""
    return quote(f"{socket.gethostname()}:{folder}", safe="/:")


def end_abandoned_runs(client: MlflowClient, experiment: str) -> None:
    """Marks runs as KILLED whose process is gone, as after `kill -9`."""
    for found in client.search_runs([experiment], "attributes.status = 'RUNNING'"):
        if not is_gone(found.data.tags.get(PROCESS, "")):
            continue
        # It may have ended its run since the search, which it cannot any more.
        run = client.get_run(found.info.run_id)
        if run.info.status == RunStatus.to_string(RunStatus.RUNNING):
            # Who may only read there reads all the same.
            with contextlib.suppress(MlflowException):
                client.set_terminated(run.info.run_id, RunStatus.to_string(RunStatus.KILLED))
