"""The process, machine and folder of a run, and whether the process still exists."""

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
"""Host and folder: on a shared server, a stopped run is resumed only where it was started."""

_BOOT, _NAMESPACE = Path("/proc/sys/kernel/random/boot_id"), Path("/proc/self/ns/pid")


def identify(process: psutil.Process) -> str:
    """Returns a unique name of a process on all machines; process ids alone are reused."""
    return ":".join([*_identify_machine(), str(process.pid), _read_start(process)])


def _read_start(process: psutil.Process) -> str:
    """Reads the start time of a process; on Linux in ticks since the boot, which is monotonic."""
    try:
        status = Path(f"/proc/{process.pid}/stat").read_text(encoding="utf-8")
    except OSError:
        return f"{process.create_time():.2f}"
    return status.rpartition(")")[2].split()[19]


@functools.cache
def _identify_machine() -> tuple[str, str, str]:
    """Returns the host, boot id and pid namespace; the last two are empty outside Linux.

    Containers may have the same host name, and each numbers its processes from 1.
    """
    boot = _BOOT.read_text(encoding="ascii").strip() if _BOOT.exists() else ""
    namespace = str(_NAMESPACE.stat().st_ino) if _NAMESPACE.exists() else ""
    return socket.gethostname(), boot, namespace


def is_gone(identity: str) -> bool:
    """Returns whether a process is known to have ended.

    Runs in an SQLite file belong to this machine, so a process of an earlier boot has ended. Runs
    on a server may belong to another machine with the same name.
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
    """Finds the common parent process of all stages of an execution: `dvc`, or this process."""
    return next((process for process, _ in find_dvc_processes()), psutil.Process())


def name_place(folder: Path) -> str:
    """Returns a unique name of a folder on all machines."""
    return quote(f"{socket.gethostname()}:{folder}", safe="/:")


def end_abandoned_runs(client: MlflowClient, experiment: str) -> None:
    """Marks runs whose process no longer exists as KILLED, for example after `kill -9`."""
    for found in client.search_runs([experiment], "attributes.status = 'RUNNING'"):
        if not is_gone(found.data.tags.get(PROCESS, "")):
            continue
        # The process may have ended its run between the search and its exit.
        run = client.get_run(found.info.run_id)
        if run.info.status == RunStatus.to_string(RunStatus.RUNNING):
            # Ignore missing write permission: a read-only user can still connect.
            with contextlib.suppress(MlflowException):
                client.set_terminated(run.info.run_id, RunStatus.to_string(RunStatus.KILLED))
