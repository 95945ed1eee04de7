"""Backups: a phase that was stopped goes on where it stopped, to the same weights to the bit."""

import contextlib
import errno
import json
import math
import multiprocessing
import os
import shutil
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

import filelock
import keras
import numpy as np
import numpy.typing as npt

from person_attributes.data.batches import ImageBatches
from person_attributes.errors import StoppedError, TrainingError
from person_attributes.training.callbacks import BestWeights, Recorder
from person_attributes.training.devices import is_across_hosts

_DISK_IS_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, None}
"""None: NumPy gives no number where it could write but a part of an array."""

_KEPT = ("best", "wait", "cooldown_counter", "stopped_epoch", "best_epoch")
"""What `EarlyStopping` and `ReduceLROnPlateau` remember between epochs."""


@dataclass
class Progress:
    """How far a phase has come.

    Attributes:
        epoch: Epochs that are done.
        batch: Batches that are done of the epoch after them.
        is_complete: Whether the phase has ended, early or not.
        best_epoch: The epoch of the best weights, or None before the first.
        history: Figures of the epochs that are done.
        callbacks: What each schedule remembers, in order.
        arrays: Variables of the network, of the optimizer and of the metrics, and the best
            weights, each as a list.
    """

    epoch: int = 0
    batch: int = 0
    is_complete: bool = False
    best_epoch: int | None = None
    history: list[dict[str, float]] = field(default_factory=list)
    callbacks: list[dict[str, float | None]] = field(default_factory=list)
    arrays: dict[str, list[npt.NDArray[Any]]] = field(default_factory=dict)


class Backup:
    """The backup of one phase under one fingerprint, in a folder that DVC does not know.

    Attributes:
        phase: Whose backup it is.
        minutes: How often to write it, inside epochs as well.
        folder: Holds the backup, the journal of its run, and what training writes on the way.
    """

    def __init__(self, phases: Path, phase: str, fingerprint: str, minutes: float) -> None:
        """Names the place; makes nothing yet.

        Args:
            phases: The folder of all backups.
            phase: The phase.
            fingerprint: Digest of everything that its result depends on, so that a changed
                parameter finds no backup.
            minutes: How often to write it.
        """
        self.phase = phase
        self.minutes = minutes
        self.folder = phases / phase / fingerprint[:16]
        self._finished = phases / phase / f"{fingerprint[:16]}.json"

    @property
    def journal(self) -> Path:
        return self.folder / "points.jsonl"

    @property
    def _state(self) -> Path:
        return self.folder / "state.npy"

    @contextlib.contextmanager
    def hold(self, *, waits: bool = False) -> Iterator[None]:
        """Keeps other processes away from the phase.

        Args:
            waits: Whether to wait for a process that trains it, as experiments of one queue do.
                It may have finished the phase then.

        Raises:
            TrainingError: If another process trains it, and this one does not wait.
        """
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(self.folder.with_suffix(".lock"))
        try:
            lock.acquire(timeout=0)
        except filelock.Timeout:
            if not waits:
                raise TrainingError(
                    f"{self.phase}: another process is training this phase. Wait for it, or end it "
                    "and run dvc repro, which goes on from its backup."
                ) from None
            print(f"{self.phase}: another process is training this phase; waits for it", flush=True)
            lock.acquire()
        with lock:
            self.folder.mkdir(exist_ok=True)
            yield

    def read(self) -> Progress:
        """Reads how far the phase had come; a backup that is missing or broken is a fresh start."""
        try:
            with self._state.open("rb") as file:
                content = json.loads(file.readline())
                content["arrays"] = {
                    group: [np.load(file, allow_pickle=False) for _ in range(count)]
                    for group, count in content["arrays"].items()
                }
                progress = Progress(**content)
        except FileNotFoundError:
            return Progress()
        except (OSError, EOFError, ValueError, KeyError, TypeError):
            print(f"{self.phase}: the backup {self._state} is broken; starts anew.", flush=True)
            return Progress()
        where = f"after epoch {progress.epoch} and {progress.batch} batches"
        print(f"{self.phase}: goes on from its backup, {where}", flush=True)
        return progress

    def write(self, progress: Progress) -> None:
        """Replaces the backup in one step.

        Raises:
            TrainingError: If the disk is full; the last backup stays.
        """
        content = {name: getattr(progress, name) for name in vars(progress)}
        content["arrays"] = {group: len(arrays) for group, arrays in progress.arrays.items()}
        arrays = [array for group in progress.arrays.values() for array in group]
        temporary = self.folder / f".writing-{self._state.name}"
        try:
            with temporary.open("wb") as file:
                file.write(json.dumps(content).encode() + b"\n")
                for array in arrays:
                    np.save(file, array, allow_pickle=False)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(self._state)
        except OSError as error:
            temporary.unlink(missing_ok=True)
            if error.errno not in _DISK_IS_FULL:
                raise
            megabytes = sum(array.nbytes for array in arrays) / 1e6
            raise TrainingError(
                f"{self.phase}: no room for a backup of {megabytes:.0f} MB in {self.folder} "
                f"({error.strerror or error}). The one before stays. Free some room and run "
                "dvc repro, which goes on from there."
            ) from None

    def finish(self, outputs: Mapping[str, str]) -> None:
        """Notes that the phase is done, and clears the backup.

        Args:
            outputs: Digests of what the stage wrote, by name.
        """
        temporary = self._finished.with_suffix(".writing")
        with temporary.open("w", encoding="utf-8") as file:
            json.dump(dict(outputs), file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(self._finished)
        shutil.rmtree(self.folder)

    def finished_outputs(self) -> dict[str, str] | None:
        """Gives what `finish` noted, or None."""
        try:
            outputs: dict[str, str] = json.loads(self._finished.read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError):
            return None
        return outputs


class HelpersBackup(Backup):
    """The backup as a process has it that helps the first one: it reads, and writes nothing.

    Attributes:
        folder: Of its own, for what training writes on the way.
    """

    def __init__(self, phases: Path, phase: str, fingerprint: str, folder: Path) -> None:
        """Names the place of the first process's backup, on a disk that both see.

        Args:
            phases: The folder of all backups.
            phase: The phase.
            fingerprint: Digest of everything that its result depends on.
            folder: An empty one.
        """
        super().__init__(phases, phase, fingerprint, minutes=math.inf)
        self._shared = super()._state
        self.folder = folder

    @property
    def _state(self) -> Path:
        return self._shared

    def write(self, progress: Progress) -> None:
        """Does nothing: the first process writes."""


class Signals:
    """Whether Ctrl-C or SIGTERM came; training looks at it between batches.

    Attributes:
        received: The signal, or None.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self._process = os.getpid()
        self._is_over = multiprocessing.Value("b", False)

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """Notes a first signal in the block; a second one ends at once."""
        earlier = {
            number: signal.signal(number, self._note) for number in (signal.SIGINT, signal.SIGTERM)
        }
        try:
            yield
        finally:
            self._is_over.value = 1
            for number, handler in earlier.items():
                signal.signal(number, handler)

    def stop_if_told(self, phase: str, where: str) -> None:
        """Raises where a signal came.

        Raises:
            StoppedError: Says where the phase was stopped and how to go on.
        """
        if self.received is not None:
            raise StoppedError(
                f"{phase}: stopped by {signal.Signals(self.received).name} {where}, and backed up. "
                "Run dvc repro to go on from there.",
                self.received,
            )

    def _note(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._process:
            # A worker inherits this handler and hears what a terminal tells the whole group. It
            # works on: the batch that it makes is waited for. Its pool ends it by SIGTERM later.
            if self._is_over.value:
                os._exit(128 + number)
            return
        if self.received is not None:
            raise KeyboardInterrupt(number)
        self.received = number


class Keeper(keras.callbacks.Callback):
    """Takes a phase up where its backup left it, and backs it up. Stands last in the list."""

    def __init__(
        self,
        network: keras.Model,
        train: ImageBatches,
        recorder: Recorder,
        best: BestWeights,
        schedules: Sequence[keras.callbacks.Callback],
        backup: Backup,
        progress: Progress,
        epochs: int,
        signals: Signals,
    ) -> None:
        super().__init__()
        self._train = train
        self._recorder = recorder
        self._best = best
        self._schedules = schedules
        self._backup = backup
        self._epochs = epochs
        self._signals = signals
        self._written = time.monotonic()
        self.progress = progress
        if progress.arrays:
            _assign(network.variables, progress.arrays["network"])
            _assign(network.optimizer.variables, progress.arrays["optimizer"])
            recorder.history = list(progress.history)
            if progress.best_epoch is not None:
                loss = progress.history[progress.best_epoch]["val_loss"]
                best.restore(progress.arrays["best"], progress.best_epoch, loss)

    def on_train_begin(self, logs: Any = None) -> None:
        for schedule, state in zip(self._schedules, self.progress.callbacks, strict=False):
            vars(schedule).update(state)

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        # Inside an epoch the means of its figures go on too; `fit` has just reset them.
        if self._train.first_batch:
            _assign(self.model.metrics_variables, self.progress.arrays["metrics"])

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        if is_across_hosts():
            return  # figures of a begun epoch lie on all hosts, and each has a clock of its own
        done = self._train.first_batch + batch + 1
        if done < self._train.batches and self._is_due():
            self._note(epoch=self.progress.epoch, batch=done)
            self._write()
            self._leave_if_told()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self._train.first_batch = 0
        self._note(epoch=epoch + 1, batch=0)
        self.progress.is_complete = self.model.stop_training or epoch + 1 == self._epochs
        if self._is_due() or self.progress.is_complete:
            self._write()
        self._leave_if_told()

    def _is_due(self) -> bool:
        is_old = time.monotonic() - self._written >= 60 * self._backup.minutes
        return is_old or self._signals.received is not None

    def _note(self, epoch: int, batch: int) -> None:
        self.progress.epoch, self.progress.batch = epoch, batch
        self.progress.history = self._recorder.history
        self.progress.best_epoch = self._best.epoch
        if batch == 0:
            self.progress.callbacks = [
                {name: vars(schedule)[name] for name in _KEPT if name in vars(schedule)}
                for schedule in self._schedules
            ]

    def _write(self) -> None:
        self.progress.arrays = {
            "network": _read(self.model.variables),
            "optimizer": _read(self.model.optimizer.variables),
            "metrics": _read(self.model.metrics_variables) if self.progress.batch else [],
            "best": self._best.weights,
        }
        self._backup.write(self.progress)
        self._written = time.monotonic()

    def _leave_if_told(self) -> None:
        where = f"after epoch {self.progress.epoch} of {self._epochs}"
        if self.progress.batch:
            where += f" and {self.progress.batch} of {self._train.batches} batches"
        self._signals.stop_if_told(self._backup.phase, where)


def _read(variables: Sequence[Any]) -> list[npt.NDArray[Any]]:
    return [np.array(keras.ops.convert_to_numpy(variable)) for variable in variables]


def _assign(variables: Sequence[Any], values: Sequence[npt.NDArray[Any]]) -> None:
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)
