"""The progress bar of an epoch."""

from typing import Any, Protocol

import keras
from tqdm import tqdm


class _Batches(Protocol):
    """The attributes of batches that a progress bar needs."""

    @property
    def rows(self) -> int: ...

    batch_size: int
    first_batch: int


class ProgressBar(keras.callbacks.Callback):
    """Draws a progress bar for each epoch, on terminals only."""

    def __init__(self, train: _Batches, epochs: int) -> None:
        super().__init__()
        self._train = train
        self._epochs = epochs

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._bar = tqdm(
            total=self._train.rows,
            initial=self._train.first_batch * self._train.batch_size,
            desc=f"epoch {epoch + 1}/{self._epochs}",
            unit="image",
            leave=False,
            disable=None,
        )

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self._bar.update(min(self._train.batch_size, self._train.rows - self._bar.n))

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self._bar.close()
