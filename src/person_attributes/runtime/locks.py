"""Locks files without waiting for the process that holds the lock."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import filelock

from person_attributes.errors import BusyError


@contextlib.contextmanager
def lock_or_refuse(path: Path, refusal: str) -> Iterator[None]:
    """Locks a file in the block.

    Args:
        path: The lock file; its folder exists.
        refusal: The message if another process holds the lock.

    Raises:
        BusyError: If another process holds the lock.
    """
    lock = filelock.FileLock(path)
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        raise BusyError(refusal) from None
    try:
        yield
    finally:
        lock.release()
