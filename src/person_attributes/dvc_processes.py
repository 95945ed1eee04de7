"""The `dvc` processes that started this process."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import psutil


def find_dvc_processes() -> Iterator[tuple[psutil.Process, list[str]]]:
    """Yields the `dvc` processes among the ancestors, nearest first, with their command lines."""
    for process in psutil.Process().parents():
        with contextlib.suppress(psutil.Error):
            command = process.cmdline()
            if any(Path(word).name == "dvc" for word in command[:3]):
                yield process, command
