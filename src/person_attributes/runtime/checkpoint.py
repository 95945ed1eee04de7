"""Checkpoints: a stopped phase resumes where it stopped and ends with bit-identical weights."""

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
"""None: NumPy sets no error number when it can write only a part of an array."""


@dataclass
class Progress:
    """The training state of a phase.

    Attributes:
        epoch: Number of complete epochs.
        batch: Number of complete batches of the epoch in progress.
        is_complete: Whether the phase has ended, early or not.
        best_epoch: The epoch of the best weights, from 0; None before the first epoch ends.
        history: Metrics of the complete epochs.
        callbacks: The state of each schedule, in order.
        arrays: Variables of the network, the optimizer and the metrics, and the best weights,
            each as a list.
    """

    epoch: int = 0
    batch: int = 0
    is_complete: bool = False
    best_epoch: int | None = None
    history: list[dict[str, float]] = field(default_factory=list)
    callbacks: list[dict[str, float | None]] = field(default_factory=list)
    arrays: dict[str, list[npt.NDArray[Any]]] = field(default_factory=dict)


class Checkpoint:
    """The checkpoint of one phase under one fingerprint, in a folder that DVC does not track.

    Attributes:
        phase: Name of the phase.
        minutes: Interval between writes, also inside an epoch.
        folder: Contains the checkpoint, the journal of the run, and temporary files of training.
    """

    def __init__(self, phases: Path, phase: str, fingerprint: str, minutes: float) -> None:
        """Sets the paths; creates no files.

        Args:
            phases: The folder of all checkpoints.
            phase: Name of the phase.
            fingerprint: Digest of everything that the result depends on. With a changed parameter
                the phase starts without a checkpoint.
            minutes: Interval between writes.
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
    def lock(self, *, waits: bool = False) -> Iterator[None]:
        """Locks the phase: only one process at a time trains it.

        Args:
            waits: Whether to wait for another process that trains the phase, as experiments of one
                queue do. That process may complete the phase.

        Raises:
            TrainingError: If another process trains the phase and `waits` is false: wait for that
                process, or end it.
        """
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(self.folder.with_suffix(".lock"))
        try:
            lock.acquire(timeout=0)
        except filelock.Timeout:
            if not waits:
                raise TrainingError(
                    f"{self.phase}: another process is training this phase. Wait for it, or end it "
                    "and run dvc repro, which resumes from its checkpoint."
                ) from None
            print(
                f"{self.phase}: another process is training this phase; waiting for it", flush=True
            )
            lock.acquire()
        try:
            self.folder.mkdir(exist_ok=True)
            yield
        finally:
            lock.release()

    def read(self) -> Progress:
        """Reads the checkpoint; returns an initial `Progress` if it is missing or broken."""
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
            print(
                f"{self.phase}: the checkpoint {self._state} is broken; starting from epoch 1.",
                flush=True,
            )
            return Progress()
        where = f"after epoch {progress.epoch} and {progress.batch} batches"
        print(f"{self.phase}: resuming from checkpoint, {where}", flush=True)
        return progress

    def write(self, progress: Progress) -> None:
        """Replaces the checkpoint atomically.

        Raises:
            TrainingError: If the disk is full: free some space. The previous checkpoint is kept.
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
                f"{self.phase}: no space for a checkpoint of {megabytes:.0f} MB in {self.folder} "
                f"({error.strerror or error}). The previous checkpoint is kept. Free some space "
                "and run dvc repro, which resumes from it."
            ) from None

    def finish(self, outputs: Mapping[str, str]) -> None:
        """Records that the phase is complete, and deletes the checkpoint.

        Args:
            outputs: Digests of the files that the stage wrote, by name.
        """
        with writing(self._finished, durable=True) as path:
            path.write_text(json.dumps(dict(outputs)), encoding="utf-8")
        shutil.rmtree(self.folder)

    def finished_outputs(self) -> dict[str, str] | None:
        """Returns the digests that `finish` recorded, or None."""
        try:
            outputs: dict[str, str] = json.loads(self._finished.read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError):
            return None
        return outputs


class WorkerCheckpoint(Checkpoint):
    """A read-only checkpoint, for the worker processes of a phase that several hosts train.

    Attributes:
        folder: A folder of this worker, for temporary files of training.
    """

    def __init__(self, phases: Path, phase: str, fingerprint: str, folder: Path) -> None:
        """Sets the path of the first worker's checkpoint, on a shared disk.

        Args:
            phases: The folder of all checkpoints.
            phase: Name of the phase.
            fingerprint: Digest of everything that the result depends on.
            folder: An empty folder.
        """
        super().__init__(phases, phase, fingerprint, minutes=math.inf)
        self._shared = super()._state
        self.folder = folder

    @property
    def _state(self) -> Path:
        return self._shared

    def write(self, progress: Progress) -> None:
        """Does nothing: only the first worker writes."""
