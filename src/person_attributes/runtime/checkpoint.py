"""Checkpoints: a phase that was stopped goes on where it stopped, to the same weights to the bit."""

import contextlib
import errno
import json
import math
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import filelock
import numpy as np
import numpy.typing as npt

from person_attributes.errors import TrainingError
from person_attributes.files import writing

_DISK_IS_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, None}
"""None: NumPy gives no number where it could write but a part of an array."""


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


class Checkpoint:
    """The checkpoint of one phase under one fingerprint, in a folder that DVC does not know.

    Attributes:
        phase: Whose checkpoint it is.
        minutes: How often to write it, inside epochs as well.
        folder: Holds the checkpoint, the journal of its run, and what training writes on the way.
    """

    def __init__(self, phases: Path, phase: str, fingerprint: str, minutes: float) -> None:
        """Names the place; makes nothing yet.

        Args:
            phases: The folder of all checkpoints.
            phase: The phase.
            fingerprint: Digest of everything that its result depends on, so that a changed
                parameter finds no checkpoint.
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
                    "and run dvc repro, which goes on from its checkpoint."
                ) from None
            print(f"{self.phase}: another process is training this phase; waits for it", flush=True)
            lock.acquire()
        with lock:
            self.folder.mkdir(exist_ok=True)
            yield

    def read(self) -> Progress:
        """Reads how far the phase had come; a checkpoint that is missing or broken is a fresh start."""
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
            print(f"{self.phase}: the checkpoint {self._state} is broken; starts anew.", flush=True)
            return Progress()
        where = f"after epoch {progress.epoch} and {progress.batch} batches"
        print(f"{self.phase}: goes on from its checkpoint, {where}", flush=True)
        return progress

    def write(self, progress: Progress) -> None:
        """Replaces the checkpoint in one step.

        Raises:
            TrainingError: If the disk is full; the last checkpoint stays.
        """
        content = {name: getattr(progress, name) for name in vars(progress)}
        content["arrays"] = {group: len(arrays) for group, arrays in progress.arrays.items()}
        arrays = [array for group in progress.arrays.values() for array in group]
        try:
            with writing(self._state, durable=True) as path, path.open("wb") as file:
                file.write(json.dumps(content).encode() + b"\n")
                for array in arrays:
                    np.save(file, array, allow_pickle=False)
        except OSError as error:
            if error.errno not in _DISK_IS_FULL:
                raise
            megabytes = sum(array.nbytes for array in arrays) / 1e6
            raise TrainingError(
                f"{self.phase}: no room for a checkpoint of {megabytes:.0f} MB in {self.folder} "
                f"({error.strerror or error}). The one before stays. Free some room and run "
                "dvc repro, which goes on from there."
            ) from None

    def finish(self, outputs: Mapping[str, str]) -> None:
        """Notes that the phase is done, and clears the checkpoint.

        Args:
            outputs: Digests of what the stage wrote, by name.
        """
        with writing(self._finished, durable=True) as path:
            path.write_text(json.dumps(dict(outputs)), encoding="utf-8")
        shutil.rmtree(self.folder)

    def finished_outputs(self) -> dict[str, str] | None:
        """Gives what `finish` noted, or None."""
        try:
            outputs: dict[str, str] = json.loads(self._finished.read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError):
            return None
        return outputs


class WorkerCheckpoint(Checkpoint):
    """The checkpoint as a process has it that helps the first one: it reads, and writes nothing.

    Attributes:
        folder: Of its own, for what training writes on the way.
    """

    def __init__(self, phases: Path, phase: str, fingerprint: str, folder: Path) -> None:
        """Names the place of the first process's checkpoint, on a disk that both see.

        Args:
            phases: The folder of all checkpoints.
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
