"""The first import of Keras, which takes seconds."""

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from person_attributes.errors import TrainingError, one_line

_UNUSED = ("IPython", "matplotlib", "sklearn")
"""Optional imports of Keras, for wrappers and plots that this project does not use.

Without them the import takes 3 seconds of processor time instead of 5.
"""


def import_keras() -> None:
    """Imports Keras without optional packages and without the log lines of TensorFlow.

    Raises:
        TrainingError: If its backend is unknown or not installed. Install it or name another one.
    """
    try:
        with _without_unused(), _without_stderr():
            import keras
    except (ImportError, ValueError) as error:
        raise TrainingError(
            "KERAS_BACKEND or ~/.keras/keras.json: expected a backend that is installed, such as "
            f"tensorflow. Received: {one_line(error, 200)}. Set KERAS_BACKEND=tensorflow, or "
            "install the backend."
        ) from None
    # A file ~/.keras/keras.json for other projects must not change a result.
    keras.config.set_floatx("float32")
    keras.config.set_epsilon(1e-7)
    keras.config.set_image_data_format("channels_last")


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
