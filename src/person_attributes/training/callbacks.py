"""What is recorded, kept and shown while a phase trains."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy.typing as npt
from tqdm import tqdm

from person_attributes.data.batches import ImageBatches
from person_attributes.errors import TrainingError

EpochListener = Callable[[int, Mapping[str, float]], None]
"""Told the number of an epoch, from 0, and its figures when it ends."""


class Recorder(keras.callbacks.Callback):
    """Tells the batches their epoch, refuses a loss that is not finite, and passes figures on.

    Attributes:
        history: Figures of the epochs that are done.
    """

    def __init__(self, train: ImageBatches, listeners: Sequence[EpochListener]) -> None:
        super().__init__()
        self.history: list[dict[str, float]] = []
        self._train = train
        self._listeners = listeners
        self._began = 0.0
        self._trained = 0.0

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._train.epoch = epoch
        self._began = time.perf_counter()

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        _refuse_unless_finite(len(self.history), "loss", logs["loss"])
        self._trained = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        figures = _add_means(name_figures(logs, list(self.model.output)))
        _refuse_unless_finite(epoch, "val_loss", figures["val_loss"])
        rate = keras.ops.convert_to_numpy(self.model.optimizer.learning_rate)
        figures["learning_rate"] = float(rate)
        self.history.append(figures)
        seconds = max(self._trained - self._began, 1e-9)
        rows = self._train.rows - self._train.first_batch * self._train.batch_size
        told = figures | {"images_per_second": rows / seconds}
        for listener in self._listeners:
            listener(epoch, told)


def _refuse_unless_finite(epoch: int, name: str, value: float) -> None:
    if not math.isfinite(value):
        raise TrainingError(
            f"epoch {epoch + 1}: {name} is {value}. Expected a finite number. "
            "Lower the phase's learning_rate in params.yaml."
        )


def name_figures(logs: Mapping[str, Any], heads: Sequence[str]) -> dict[str, float]:
    """Names figures by head; where there is one head alone, Keras leaves its name out."""
    figures = {name: float(value) for name, value in logs.items()}
    if len(heads) == 1:
        for prefix in ("", "val_"):
            if f"{prefix}loss" in figures:
                figures[f"{prefix}{heads[0]}_loss"] = figures[f"{prefix}loss"]
                figures[f"{prefix}{heads[0]}_accuracy"] = figures.pop(f"{prefix}accuracy")
    return figures


def _add_means(figures: dict[str, float]) -> dict[str, float]:
    """Adds the mean accuracy over heads."""
    for prefix in ("", "val_"):
        accuracies = [
            value
            for name, value in figures.items()
            if name.endswith("_accuracy") and name.startswith("val_") == bool(prefix)
        ]
        figures[f"{prefix}mean_accuracy"] = sum(accuracies) / len(accuracies)
    return figures


class BestWeights(keras.callbacks.Callback):
    """Keeps the weights of the least validation loss.

    Attributes:
        weights: As `get_weights` gives them; empty before the first epoch ends.
        epoch: Their epoch, from 0, or None.
    """

    def __init__(self) -> None:
        super().__init__()
        self.weights: list[npt.NDArray[Any]] = []
        self.epoch: int | None = None
        self._loss = math.inf

    def restore(self, weights: list[npt.NDArray[Any]], epoch: int, loss: float) -> None:
        """Goes on from the best of an earlier process."""
        self.weights, self.epoch, self._loss = weights, epoch, loss

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        if logs["val_loss"] < self._loss:
            self._loss = logs["val_loss"]
            self.weights, self.epoch = self.model.get_weights(), epoch


class ProgressBar(keras.callbacks.Callback):
    """Draws a bar inside each epoch, on terminals only."""

    def __init__(self, train: ImageBatches, epochs: int) -> None:
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
