"""Metrics that are written to disk before they are sent, and sent until the server accepts them."""

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
from person_attributes.tracking.connection import advise

Addressee = Literal["stage", "execution"]

_PERMANENT_ERRORS = {
    ErrorCode.Name(code) for code in (INVALID_PARAMETER_VALUE, RESOURCE_DOES_NOT_EXIST)
}
"""Error codes after which a retry cannot succeed."""

_MAX_PAUSE_SECONDS = 10.0

_MIN_PATIENCE_SECONDS = 3.0
"""`flush` waits at least so long: a server that responds needs time to accept points."""


@dataclass(frozen=True)
class Point:
    """Metrics of one step.

    Attributes:
        addressee: The run of the stage, or of its execution.
        step: The epoch, from 0.
        timestamp: Milliseconds since 1970. MLflow identifies points by timestamp, too, so a point
            that is sent again with the same timestamp is stored once.
        metrics: Values by name.
    """

    addressee: Addressee
    step: int
    timestamp: int
    metrics: dict[str, float]


class Journal:
    """A file of points; each point is appended before it is sent.

    A resumed phase reads the points of earlier processes, does not record them twice, and sends
    all of them again.
    """

    def __init__(self, path: Path) -> None:
        """Reads the points of earlier processes, and drops an incomplete last line."""
        self._path = path
        self.points: list[Point] = []
        if path.exists():
            for line in path.read_text(encoding="utf-8").splitlines():
                with contextlib.suppress(ValueError, TypeError):
                    self.points.append(Point(**json.loads(line)))
        self._write()

    def add(self, addressee: Addressee, step: int, metrics: Mapping[str, float]) -> Point | None:
        """Records metrics that are new for this run and step.

        Args:
            addressee: The run of the stage, or of its execution.
            step: The epoch, from 0.
            metrics: Values by name.

        Returns:
            A point with the new metrics; None if all of them are recorded already.
        """
        recorded = {
            name
            for point in self.points
            if (point.addressee, point.step) == (addressee, step)
            for name in point.metrics
        }
        added = {name: float(value) for name, value in metrics.items() if name not in recorded}
        if not added:
            return None
        point = Point(addressee, step, int(time.time() * 1000), added)
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
    """Sends points in a background thread, so that a slow server does not delay training.

    The thread runs until `close`.
    """

    def __init__(self, client: MlflowClient, run_ids: Mapping[Addressee, str]) -> None:
        self._client = client
        self._run_ids = run_ids
        self._queue: queue.Queue[Point | None] = queue.Queue()
        self._waiting = threading.Event()
        self._closed = threading.Event()
        self._is_refused = False
        self._last_error: Exception | None = None
        threading.Thread(target=self._work, daemon=True).start()

    def send(self, point: Point) -> None:
        """Queues a point; returns immediately."""
        self._queue.put(point)

    def flush(self, patience_minutes: float) -> None:
        """Waits until all points are sent.

        Args:
            patience_minutes: Maximum time to wait for a server that does not respond; at least
                three seconds.

        Raises:
            TrackingError: If the server does not respond in time or rejects a point. The message
                contains advice; the journal keeps the points.
        """
        deadline = time.monotonic() + max(60 * patience_minutes, _MIN_PATIENCE_SECONDS)
        is_reported = not patience_minutes
        while self._queue.unfinished_tasks and time.monotonic() < deadline and not self._is_refused:
            if self._waiting.is_set() and not is_reported:
                print(
                    f"MLflow does not respond; waiting up to {patience_minutes:g} minutes to send "
                    f"{self._queue.unfinished_tasks} points.",
                    flush=True,
                )
                is_reported = True
            time.sleep(0.05)
        if self._queue.unfinished_tasks:
            reason = one_line(self._last_error or "it does not respond", 200).rstrip(".")
            advice = advise(self._last_error) if self._last_error else ""
            raise TrackingError(
                f"MLflow did not accept {self._queue.unfinished_tasks} points: {reason}. "
                f"{f'{advice}, and run' if advice else 'Run'} dvc repro. It sends the points and "
                "keeps the trained weights."
            )

    def close(self) -> None:
        """Ends the thread. It sends no more points; the journal keeps them."""
        self._closed.set()
        self._queue.put(None)

    def _work(self) -> None:
        while (point := self._queue.get()) is not None and self._send(point):
            self._waiting.clear()
            self._queue.task_done()

    def _send(self, point: Point) -> bool:
        """Sends a point until the server accepts it; false if it refuses or the outbox closes."""
        pause = 0.5
        while not self._try(point):
            self._waiting.set()
            if self._is_refused or self._closed.wait(pause):
                return False
            pause = min(2 * pause, _MAX_PAUSE_SECONDS)
        return True

    def _try(self, point: Point) -> bool:
        metrics = [
            Metric(name, value, point.timestamp, point.step)
            for name, value in point.metrics.items()
        ]
        try:
            self._client.log_batch(self._run_ids[point.addressee], metrics=metrics)
        except (MlflowException, OSError) as error:
            self._last_error = error
            self._is_refused = getattr(error, "error_code", None) in _PERMANENT_ERRORS
            return False
        return True
