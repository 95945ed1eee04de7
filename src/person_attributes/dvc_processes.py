"""The `dvc` processes that this one runs below."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import psutil


def find_dvc_processes() -> Iterator[tuple[psutil.Process, list[str]]]:
    """Gives each of them with its command line, the nearest first."""
    for process in psutil.Process().parents():
        with contextlib.suppress(psutil.Error):
            command = process.cmdline()
            if any(Path(word).name == "dvc" for word in command[:3]):
                yield process, command
