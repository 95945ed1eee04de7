"""Runs a command in a process of its own, and watches its time and memory."""

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

_ROOT = Path(__file__).parent.parent
_LOOKS_EVERY = 0.05
"""Seconds."""


@dataclass(frozen=True)
class Watched:
    """What a command took.

    Attributes:
        seconds: Of the processor, of all cores together, children included: what others on the
            machine take does not count.
        wall: Seconds by the clock.
        megabytes: The most that the process and its children had of their own at one look; pages
            of mapped files are not their own.
    """

    seconds: float
    wall: float
    megabytes: float


def watch(command: Sequence[str], folder: Path) -> Watched:
    """Runs a module with its arguments in a folder.

    Raises:
        RuntimeError: If it fails, with the end of what it said.
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
            time.sleep(_LOOKS_EVERY)
            used, held = _look(watched)
            seconds, peak = max(seconds, used), max(peak, held)
            ended, status, usage = os.wait4(process.pid, os.WNOHANG)
    wall = time.perf_counter() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)}: {log.read_text(encoding='utf-8')[-2000:]}")
    # The last look came too early, and the kernel's sum lacks children that nobody waited for.
    return Watched(max(seconds, usage.ru_utime + usage.ru_stime), wall, peak / 1e6)


def _look(process: psutil.Process) -> tuple[float, int]:
    """Sums seconds and memory of a process and its children, without the pages of files."""
    seconds, memory = 0.0, 0
    try:
        for one in (process, *process.children(recursive=True)):
            times, held = one.cpu_times(), one.memory_info()
            seconds += times.user + times.system + times.children_user + times.children_system
            memory += held.rss - held.shared
    except psutil.NoSuchProcess:  # one that has just ended
        pass
    return seconds, memory
