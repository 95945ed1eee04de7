"""Writes files whole or not at all."""

import contextlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any


@contextlib.contextmanager
def writing(path: Path, *, durable: bool = False) -> Iterator[Path]:
    """Gives a temporary path that takes the place of `path` once everything is written.

    A stage that fails leaves the output of the time before untouched. No two processes share a
    temporary path; what a killed one left behind is cleared by the next.

    Args:
        path: The file or folder to write.
        durable: Whether the content of a file is on the disk before it takes its place, so that
            a loss of power leaves one of the two.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    for abandoned in path.parent.glob(f".writing-*-{path.name}"):
        remove(abandoned)
    temporary = path.with_name(f".writing-{os.getpid()}-{path.name}")
    earlier = path.with_name(f".writing-{os.getpid()}-earlier-{path.name}")
    try:
        yield temporary
        if durable:
            with temporary.open("rb+") as file:
                os.fsync(file.fileno())
        if path.is_dir():
            path.rename(earlier)  # a folder cannot take the place of one that is not empty
        temporary.replace(path)
    finally:
        remove(temporary)
        remove(earlier)


def remove(path: Path) -> None:
    """Removes a file or a folder, where there is one."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def write_json(path: Path, content: Any) -> None:
    """Writes JSON for people."""
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
