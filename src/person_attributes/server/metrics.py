"""Metrics of the server in the format of Prometheus.

With several workers, each writes its numbers to files in the folder `PROMETHEUS_MULTIPROC_DIR`, and
the worker that is asked adds them up. `prometheus_client` reads that variable when it is imported.
"""

import functools
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
)
from prometheus_client.exposition import choose_encoder
from prometheus_client.multiprocess import MultiProcessCollector
from starlette.types import Scope

from person_attributes.server.identity import Identity
from person_attributes.server.refusals import CLIENT_LEFT, name_kind

INVOCATIONS = "/invocations"
"""The path of requests, as in MLflow."""

FOLDER = "PROMETHEUS_MULTIPROC_DIR"
"""Environment variable with the folder of several workers."""

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_CONFIDENCES = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 1)

# Several workers do not count the times at which series were created.
disable_created_metrics()  # type: ignore[no-untyped-call]


@dataclass
class Observation:
    """What is logged and counted of one request.

    Attributes:
        request_id: The id that the client sent, or a new one.
        route: The path; `other` if there is no such route.
        status: The status of the answer.
        rows: The number of answered rows.
        received: The size of the body in bytes.
        sent: The size of the answer in bytes.
        seconds: The time until the end of the answer.
    """

    request_id: str
    route: str
    status: int = CLIENT_LEFT
    rows: int = 0
    received: int = 0
    sent: int = 0
    seconds: float = 0.0
    started: float = field(default_factory=time.perf_counter)

    @property
    def error(self) -> str:
        """The kind of the error; empty if there is none."""
        return name_kind(self.status) if self.status >= 400 else ""


def get_observation(scope: Scope) -> Observation:
    """Returns the observation of a request that has passed `Observe`."""
    observed: Observation = scope["state"]["observation"]
    return observed


class Metrics:
    """The metrics of one worker."""

    def __init__(self, identity: Identity) -> None:
        """Creates all metrics.

        Args:
            identity: The name and version of the served model.
        """
        self._registry = registry = CollectorRegistry()
        count = functools.partial(Counter, registry=registry)
        gauge = functools.partial(Gauge, registry=registry)
        histogram = functools.partial(Histogram, registry=registry)

        text = "Answered requests by path and status."
        self._requests = count("person_attributes_requests", text, ["route", "status"])
        text = "Time from the headers of a request to the end of its answer."
        self._seconds = histogram(
            "person_attributes_request_seconds", text, ["route"], buckets=_SECONDS
        )
        text = "Requests to /invocations that are read or answered now."
        self.in_flight = gauge(
            "person_attributes_requests_in_flight", text, multiprocess_mode="livesum"
        )
        self._received = count("person_attributes_received_bytes", "Size of all request bodies.")
        self._sent = count("person_attributes_sent_bytes", "Size of all answers.")
        self._rows = count("person_attributes_rows", "Answered rows, also those with an error.")
        text = "Refused requests to /invocations, and rows with an error."
        self._errors = count("person_attributes_errors", text, ["kind"])
        text = "Probability of the answered label."
        self._confidence = histogram(
            "person_attributes_confidence", text, ["head", "label"], buckets=_CONFIDENCES
        )
        text = "The served version. Always 1."
        version = gauge(
            "person_attributes_model", text, ["name", "version"], multiprocess_mode="max"
        )
        version.labels(identity.name, identity.version).set(1)

    def count_request(self, observed: Observation) -> None:
        """Counts a request."""
        self._requests.labels(observed.route, observed.status).inc()
        self._seconds.labels(observed.route).observe(observed.seconds)
        self._received.inc(observed.received)
        self._sent.inc(observed.sent)
        if observed.error and observed.route == INVOCATIONS:
            self._errors.labels(observed.error).inc()

    def count_answers(self, answers: Sequence[Mapping[str, Any]]) -> None:
        """Counts the rows, errors and labels of an answer.

        Args:
            answers: The answers of all rows, as `ServedClassifier.answer` returns them.
        """
        self._rows.inc(len(answers))
        for answer in answers:
            if kind := answer["error"]:
                self._errors.labels(kind).inc()
                continue
            for head, prediction in answer.items():
                if head not in ("error", "reason"):
                    series = self._confidence.labels(head, prediction["label"])
                    series.observe(prediction["probability"])

    def format(self, accept: str) -> tuple[bytes, str]:
        """Formats the metrics of all workers.

        Args:
            accept: The header `Accept` of the request.

        Returns:
            The body of the answer and its content type.
        """
        registry = self._registry
        if FOLDER in os.environ:
            registry = CollectorRegistry()
            MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        encode, content_type = choose_encoder(accept)
        return encode(registry), content_type
