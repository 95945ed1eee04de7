"""The first import of Keras, which takes seconds."""

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path

_UNUSED = ("IPython", "matplotlib", "sklearn")
"""Optional imports of Keras, for wrappers and plots that this project does not use.

Without them the import takes 3 seconds of processor time instead of 5.
"""


def import_keras() -> None:
    """Imports Keras without optional packages and without the log lines of TensorFlow."""
    with _without_unused(), _without_stderr():
        import keras  # noqa: F401


@contextlib.contextmanager
def _without_unused() -> Iterator[None]:
    """Makes imports of these packages fail in the block, unless they are loaded already."""
    hidden = [name for name in _UNUSED if name not in sys.modules]
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]
    try:
        yield
    finally:
        for name in hidden:
            del sys.modules[name]


@contextlib.contextmanager
def _without_stderr() -> Iterator[None]:
    """Discards what native code writes to stderr."""
    sys.stderr.flush()
    stderr = os.dup(2)
    with Path(os.devnull).open("wb") as devnull:
        os.dup2(devnull.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)
