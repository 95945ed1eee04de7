"""Resumes a phase from its checkpoint, and writes checkpoints while it trains."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from person_attributes.data.batches import ImageBatches
from person_attributes.runtime.checkpoint import Checkpoint, Progress
from person_attributes.runtime.devices import is_across_hosts
from person_attributes.runtime.interrupts import Signals
from person_attributes.training.callbacks import BestWeights, Recorder

_SCHEDULE_STATE = ("best", "wait", "cooldown_counter", "stopped_epoch", "best_epoch")
"""State of `EarlyStopping` and `ReduceLROnPlateau` between epochs."""


@dataclass(frozen=True)
class TrackedCallbacks:
    """Callbacks whose state a checkpoint contains."""

    recorder: Recorder
    best: BestWeights
    schedules: Sequence[keras.callbacks.Callback]


class CheckpointCallback(keras.callbacks.Callback):
    """Restores a phase from its checkpoint, and writes checkpoints.

    It is the last callback in the list, so that it saves the final state of the others.

    Attributes:
        tracked: The other callbacks whose state it saves and restores.
        progress: The training state, which it updates.
        signals: Ctrl-C and SIGTERM; on a signal it writes a checkpoint and raises.
    """

    def __init__(
        self,
        train: ImageBatches,
        tracked: TrackedCallbacks,
        checkpoint: Checkpoint,
        progress: Progress,
        epochs: int,
    ) -> None:
        super().__init__()
        self._train = train
        self._checkpoint = checkpoint
        self._epochs = epochs
        self._written = time.monotonic()
        self.tracked = tracked
        self.progress = progress
        self.signals = Signals()

    def restore(self, network: keras.Model) -> None:
        """Restores the network, its optimizer and the tracked callbacks before `fit`.

        Args:
            network: The compiled network; its optimizer is built.
        """
        arrays, history = self.progress.arrays, self.progress.history
        if not arrays:
            return
        _assign(network.variables, arrays["network"])
        _assign(network.optimizer.variables, arrays["optimizer"])
        self.tracked.recorder.history = list(history)
        best_epoch = self.progress.best_epoch
        if best_epoch is not None:
            self.tracked.best.restore(arrays["best"], best_epoch, history[best_epoch]["val_loss"])

    def on_train_begin(self, logs: Any = None) -> None:
        if self.progress.callbacks:
            for schedule, state in zip(
                self.tracked.schedules, self.progress.callbacks, strict=True
            ):
                vars(schedule).update(state)

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        # `fit` has just reset the running means, which continue inside a resumed epoch.
        if self._train.first_batch:
            _assign(self.model.metrics_variables, self.progress.arrays["metrics"])

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        if is_across_hosts():
            return  # each host has its own running means and its own clock
        done = self._train.first_batch + batch + 1
        if done < self._train.batches and self._is_due():
            self._update_progress(epoch=self.progress.epoch, batch=done)
            self._write()
            self._stop_if_signalled()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self._train.first_batch = 0
        self._update_progress(epoch=epoch + 1, batch=0)
        self.progress.is_complete = self.model.stop_training or epoch + 1 == self._epochs
        if self._is_due() or self.progress.is_complete:
            self._write()
        self._stop_if_signalled()

    def _is_due(self) -> bool:
        is_old = time.monotonic() - self._written >= 60 * self._checkpoint.minutes
        return is_old or self.signals.received is not None

    def _update_progress(self, epoch: int, batch: int) -> None:
        self.progress.epoch, self.progress.batch = epoch, batch
        self.progress.history = self.tracked.recorder.history
        self.progress.best_epoch = self.tracked.best.epoch
        if batch == 0:
            self.progress.callbacks = [
                {name: vars(schedule)[name] for name in _SCHEDULE_STATE if name in vars(schedule)}
                for schedule in self.tracked.schedules
            ]

    def _write(self) -> None:
        self.progress.arrays = {
            "network": _read(self.model.variables),
            "optimizer": _read(self.model.optimizer.variables),
            "metrics": _read(self.model.metrics_variables) if self.progress.batch else [],
            "best": self.tracked.best.weights,
        }
        self._checkpoint.write(self.progress)
        self._written = time.monotonic()

    def _stop_if_signalled(self) -> None:
        where = f"after epoch {self.progress.epoch} of {self._epochs}"
        if self.progress.batch:
            where += f" and {self.progress.batch} of {self._train.batches} batches"
        self.signals.raise_if_signalled(self._checkpoint.phase, where)


def _read(variables: Sequence[Any]) -> list[npt.NDArray[Any]]:
    return [np.array(keras.ops.convert_to_numpy(variable)) for variable in variables]


def _assign(variables: Sequence[Any], values: Sequence[npt.NDArray[Any]]) -> None:
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)
