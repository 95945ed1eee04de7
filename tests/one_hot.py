"""One-hot labels for tests."""

import numpy as np
import numpy.typing as npt


def one_hot(classes: npt.ArrayLike, count: int) -> npt.NDArray[np.float32]:
    """Returns one row per class number."""
    rows: npt.NDArray[np.float32] = np.eye(count, dtype=np.float32)[np.asarray(classes)]
    return rows
