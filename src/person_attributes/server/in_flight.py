"""Limits how many requests are read and answered at a time, and the size of their bodies."""

import threading

from prometheus_client import Gauge

from person_attributes.serving.requests import RefusedRequest


class InFlight:
    """The requests in flight of one process. It is thread-safe."""

    def __init__(self, max_requests: int, max_bytes: float, gauge: Gauge) -> None:
        """Starts without requests.

        Args:
            max_requests: The largest number of requests.
            max_bytes: The largest size of their bodies together.
            gauge: A metric of their number.
        """
        self._max_requests = max_requests
        self._max_bytes = max_bytes
        self._gauge = gauge
        self._lock = threading.Lock()
        self._requests = 0
        self._bytes = 0

    def admit(self) -> "Admitted":
        """Admits a request. The caller must release it.

        Raises:
            RefusedRequest: If there are too many.
        """
        with self._lock:
            if self._requests >= self._max_requests:
                raise RefusedRequest("too many requests are in flight. Try again.", 503)
            self._requests += 1
        self._gauge.inc()
        return Admitted(self)

    def hold(self, size: int) -> None:
        """Adds a part of a body.

        Raises:
            RefusedRequest: If all bodies together are too large. The part is not added.
        """
        with self._lock:
            if self._bytes + size > self._max_bytes:
                raise RefusedRequest("the requests in flight are too large. Try again.", 503)
            self._bytes += size

    def release(self, size: int) -> None:
        """Removes a request with a body of this size."""
        with self._lock:
            self._requests -= 1
            self._bytes -= size
        self._gauge.dec()


class Admitted:
    """One request in flight, and the size of its body so far."""

    def __init__(self, in_flight: InFlight) -> None:
        self._in_flight = in_flight
        self.size = 0

    def hold(self, size: int) -> None:
        """Adds a part of the body.

        Raises:
            RefusedRequest: If the bodies of all requests together are too large.
        """
        self._in_flight.hold(size)
        self.size += size

    def release(self) -> None:
        """Ends the request."""
        self._in_flight.release(self.size)
