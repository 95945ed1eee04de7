"""Callbacks that record metrics and keep the best weights."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy.typing as npt

from person_attributes.data.batches import ImageBatches
from person_attributes.errors import UntrainableError

EpochListener = Callable[[int, Mapping[str, float]], None]
"""Called at the end of each epoch with its number, from 0, and its metrics."""


class Recorder(keras.callbacks.Callback):
    """Records the metrics of each epoch, passes them to listeners, and checks the loss.

    It also sets the epoch of the training batches.

    Attributes:
        history: Metrics of the complete epochs.
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
        metrics = _add_means({name: float(value) for name, value in logs.items()})
        _refuse_unless_finite(epoch, "val_loss", metrics["val_loss"])
        rate = keras.ops.convert_to_numpy(self.model.optimizer.learning_rate)
        metrics["learning_rate"] = float(rate)
        metrics |= self.model.loss_weights_of_heads()
        self.history.append(metrics)
        seconds = max(self._trained - self._began, 1e-9)
        rows = self._train.rows - self._train.first_batch * self._train.batch_size
        reported = metrics | {"images_per_second": rows / seconds}
        for listener in self._listeners:
            listener(epoch, reported)


def _refuse_unless_finite(epoch: int, name: str, value: float) -> None:
    if not math.isfinite(value):
        raise UntrainableError(
            f"epoch {epoch + 1}: {name} is {value}. Expected a finite number. "
            "Lower the phase's learning_rate in params.yaml."
        )


def _add_means(metrics: dict[str, float]) -> dict[str, float]:
    """Adds the mean accuracy over heads."""
    for prefix in ("", "val_"):
        accuracies = [
            value
            for name, value in metrics.items()
            if name.endswith("_accuracy") and name.startswith("val_") == bool(prefix)
        ]
        metrics[f"{prefix}mean_accuracy"] = sum(accuracies) / len(accuracies)
    return metrics


class BestWeights(keras.callbacks.Callback):
    """Keeps the weights with the lowest validation loss.

    In the list of callbacks it precedes `SwapEMAWeights`, so that it copies averaged weights.

    Attributes:
        weights: In the order of `get_weights`; empty before the first epoch ends.
        epoch: The epoch of the weights, from 0, or None.
    """

    def __init__(self) -> None:
        super().__init__()
        self.weights: list[npt.NDArray[Any]] = []
        self.epoch: int | None = None
        self._loss = math.inf
        self._epoch = 0

    def restore(self, weights: list[npt.NDArray[Any]], epoch: int, loss: float) -> None:
        """Restores the best weights of an earlier process."""
        self.weights, self.epoch, self._loss = weights, epoch, loss

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._epoch = epoch

    def on_test_end(self, logs: Any = None) -> None:
        if logs["loss"] < self._loss:
            self._loss = logs["loss"]
            self.weights, self.epoch = self.model.get_weights(), self._epoch
