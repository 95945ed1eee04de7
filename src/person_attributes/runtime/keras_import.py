"""The first import of Keras, which takes seconds."""

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path

_UNUSED = ("IPython", "matplotlib", "sklearn")
"""What Keras imports where it is installed, for wrappers and plots that this project does not use.

Without them it is there in 3 seconds of processor time instead of 5.
"""


def import_keras() -> None:
    """Imports Keras without what it does not need, and without the lines that TensorFlow writes."""
    with _without_unused(), _without_stderr():
        import keras  # noqa: F401


@contextlib.contextmanager
def _without_unused() -> Iterator[None]:
    """Has imports in the block find these packages missing, unless they are loaded already."""
    hidden = [name for name in _UNUSED if name not in sys.modules]
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]
    try:
        yield
    finally:
        for name in hidden:
            del sys.modules[name]


@contextlib.contextmanager
def _without_stderr() -> Iterator[None]:
    """Hides what is written to stderr below Python."""
    sys.stderr.flush()
    stderr = os.dup(2)
    with Path(os.devnull).open("wb") as devnull:
        os.dup2(devnull.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)
