"""Runs a command in a new process and measures its time and memory."""

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

_ROOT = Path(__file__).parent.parent
_INTERVAL_SECONDS = 0.05


@dataclass(frozen=True)
class Watched:
    """Resources that a command used.

    Attributes:
        seconds: Processor seconds of the process and its children, on all cores.
        wall: Wall-clock seconds.
        megabytes: Maximum private memory of the process and its children; pages of mapped files do
            not count.
    """

    seconds: float
    wall: float
    megabytes: float


def watch(command: Sequence[str], folder: Path) -> Watched:
    """Runs a module with its arguments in a folder.

    Raises:
        RuntimeError: If the command fails. The message contains the end of its output.
    """
    log = folder / "log.txt"
    path = os.pathsep.join([str(_ROOT / "src"), str(_ROOT), os.environ.get("PYTHONPATH", "")])
    seconds, peak, began = 0.0, 0, time.perf_counter()
    with log.open("w", encoding="utf-8") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", *command],
            cwd=folder,
            env=os.environ | {"PYTHONPATH": path},
            stdout=file,
            stderr=subprocess.STDOUT,
        )
        watched, ended = psutil.Process(process.pid), 0
        while not ended:
            time.sleep(_INTERVAL_SECONDS)
            used, held = _sample(watched)
            seconds, peak = max(seconds, used), max(peak, held)
            ended, status, usage = os.wait4(process.pid, os.WNOHANG)
    wall = time.perf_counter() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)}: {log.read_text(encoding='utf-8')[-2000:]}")
    # The last sample precedes the end, and the kernel's sum lacks children without a `wait`.
    return Watched(max(seconds, usage.ru_utime + usage.ru_stime), wall, peak / 1e6)


def _sample(process: psutil.Process) -> tuple[float, int]:
    """Sums the seconds and the private memory of a process and its children."""
    seconds, memory = 0.0, 0
    try:
        for one in (process, *process.children(recursive=True)):
            times, held = one.cpu_times(), one.memory_info()
            seconds += times.user + times.system + times.children_user + times.children_system
            memory += held.rss - held.shared
    except psutil.NoSuchProcess:  # a process has just ended
        pass
    return seconds, memory
