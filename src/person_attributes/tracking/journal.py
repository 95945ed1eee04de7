"""Points that are on disk before they are sent, and sent until they arrive."""

import contextlib
import json
import os
import queue
import threading
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from mlflow.entities import Metric
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import (
    INVALID_PARAMETER_VALUE,
    RESOURCE_DOES_NOT_EXIST,
    ErrorCode,
)
from mlflow.tracking import MlflowClient

from person_attributes.errors import TrackingError, one_line
from person_attributes.files import writing

Addressee = Literal["stage", "execution"]

_HOPELESS = {ErrorCode.Name(code) for code in (INVALID_PARAMETER_VALUE, RESOURCE_DOES_NOT_EXIST)}
"""What a server answers that would not take the point later either."""

_LONGEST_PAUSE_SECONDS = 10.0


@dataclass(frozen=True)
class Point:
    """Figures of one step.

    Attributes:
        addressee: The run of the stage, or of its execution.
        step: What they belong to: an epoch, from 0.
        timestamp: Milliseconds since 1970. It is part of what MLflow tells points apart by, so a
            point that is sent again with its first timestamp is stored once.
        metrics: Values by name.
    """

    addressee: Addressee
    step: int
    timestamp: int
    metrics: dict[str, float]


class Journal:
    """A file of points, appended to before they are sent.

    It outlives the process: a phase that was killed and goes on finds what it had said, says
    nothing twice, and sends everything again.
    """

    def __init__(self, path: Path) -> None:
        """Reads what an earlier process wrote; a line that a kill cut off is dropped."""
        self._path = path
        self.points: list[Point] = []
        if path.exists():
            for line in path.read_text(encoding="utf-8").splitlines():
                with contextlib.suppress(ValueError, TypeError):
                    self.points.append(Point(**json.loads(line)))
        self._write()

    def add(self, addressee: Addressee, step: int, metrics: Mapping[str, float]) -> Point | None:
        """Writes down what was not said before; returns what is new."""
        said = {
            name
            for point in self.points
            if (point.addressee, point.step) == (addressee, step)
            for name in point.metrics
        }
        fresh = {name: float(value) for name, value in metrics.items() if name not in said}
        if not fresh:
            return None
        point = Point(addressee, step, int(time.time() * 1000), fresh)
        self.points.append(point)
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(point)) + "\n")
            file.flush()
            os.fsync(file.fileno())
        return point

    def _write(self) -> None:
        lines = [json.dumps(asdict(point)) + "\n" for point in self.points]
        with writing(self._path) as path:
            path.write_text("".join(lines), encoding="utf-8")


class Outbox:
    """Sends points from a thread of its own, so that no server can hold training up."""

    def __init__(self, client: MlflowClient, run_ids: Mapping[Addressee, str]) -> None:
        self._client = client
        self._run_ids = run_ids
        self._queue: queue.Queue[Point] = queue.Queue()
        self._waiting = threading.Event()
        self._is_refused = False
        self._last_error = ""
        threading.Thread(target=self._work, daemon=True).start()

    def send(self, point: Point) -> None:
        """Takes a point to send; returns at once."""
        self._queue.put(point)

    def flush(self, patience_minutes: float) -> None:
        """Waits until everything is sent.

        Args:
            patience_minutes: How long to wait for a server that does not answer.

        Raises:
            TrackingError: If the server stayed away, or refuses a point.
        """
        deadline = time.monotonic() + 60 * patience_minutes
        is_told = False
        while self._queue.unfinished_tasks and time.monotonic() < deadline and not self._is_refused:
            if self._waiting.is_set() and not is_told:
                print(
                    f"MLflow does not answer; {self._queue.unfinished_tasks} points wait for it, "
                    f"for {patience_minutes:g} minutes at most.",
                    flush=True,
                )
                is_told = True
            time.sleep(0.05)
        if self._queue.unfinished_tasks:
            advice = "start the server, or correct MLFLOW_TRACKING_URI"
            raise TrackingError(
                f"MLflow did not take {self._queue.unfinished_tasks} points. "
                f"It said: {self._last_error} Nothing is lost: "
                f"{'correct that' if self._is_refused else advice}, and run dvc repro; what was "
                "trained is kept."
            )

    def _work(self) -> None:
        while not self._is_refused:
            point = self._queue.get()
            pause = 0.5
            while not self._try(point) and not self._is_refused:
                self._waiting.set()
                time.sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)
            if not self._is_refused:
                self._waiting.clear()
                self._queue.task_done()

    def _try(self, point: Point) -> bool:
        metrics = [
            Metric(name, value, point.timestamp, point.step)
            for name, value in point.metrics.items()
        ]
        try:
            self._client.log_batch(self._run_ids[point.addressee], metrics=metrics)
        except (MlflowException, OSError) as error:
            self._last_error = one_line(error, 200)
            self._is_refused = getattr(error, "error_code", None) in _HOPELESS
            return False
        return True
