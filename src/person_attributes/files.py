"""Atomic writes of files and folders."""

import contextlib
import errno
import json
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil


@contextlib.contextmanager
def writing(path: Path, *, durable: bool = False) -> Iterator[Path]:
    """Yields a temporary path that replaces `path` when the block succeeds.

    If the block fails, `path` stays unchanged. Each process has a temporary path of its own. The
    next write removes what a killed process left.

    Args:
        path: The file or folder to write.
        durable: Whether to flush a file to the disk before it replaces `path`. A power failure
            then leaves either the old or the new content.

    Yields:
        The temporary path to write to.

    Raises:
        IsADirectoryError: If the block wrote a file and `path` is a folder.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    _clear_abandoned(path)
    temporary = path.with_name(f".writing-{os.getpid()}-{path.name}")
    earlier = path.with_name(f".writing-{os.getpid()}-earlier-{path.name}")
    try:
        yield temporary
        if durable:
            with temporary.open("rb+") as file:
                os.fsync(file.fileno())
        if path.is_dir():
            if not temporary.is_dir():
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
            path.rename(earlier)  # a folder cannot replace a folder with content
        temporary.replace(path)
    finally:
        remove(temporary)
        remove(earlier)


def _clear_abandoned(path: Path) -> None:
    """Removes temporary files of killed processes, and restores a folder that one moved away."""
    pattern = re.compile(rf"\.writing-(\d+)-(earlier-)?{re.escape(path.name)}")
    for abandoned in list(path.parent.glob(".writing-*")):
        match = pattern.fullmatch(abandoned.name)
        if match is None:
            continue
        pid = int(match[1])
        if pid != os.getpid() and _is_running(pid):
            continue
        if match[2] and not path.exists():
            abandoned.rename(path)
        else:
            remove(abandoned)


def _is_running(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def remove(path: Path) -> None:
    """Removes a file, a folder or a link, if it exists."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def write_json(path: Path, content: Any) -> None:
    """Writes indented JSON to a path; use it inside `writing`."""
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
