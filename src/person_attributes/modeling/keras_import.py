"""The first import of Keras, which takes seconds."""

import os
import sys
from pathlib import Path


def import_keras() -> None:
    """Imports Keras without the lines that TensorFlow writes below Python while it is loaded."""
    sys.stderr.flush()
    stderr = os.dup(2)
    with Path(os.devnull).open("wb") as devnull:
        os.dup2(devnull.fileno(), 2)
        try:
            import keras  # noqa: F401
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)
