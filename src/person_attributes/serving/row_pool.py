"""Computes the rows of requests on the cores of this process."""

import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")

RowFunction = Callable[[_Item, bool], _Result]
"""Takes an item, and whether to compute its result on all cores."""

_ROWS_AHEAD = 16
"""Rows per thread that are computed ahead of those that are returned."""

_SINGLE_ROWS = 2
"""Requests of a single row that are computed at a time, per core; more would only take memory."""


class RowPool:
    """A pool of threads that all requests share. Decoders and ONNX Runtime release the GIL."""

    def __init__(self, threads: int) -> None:
        """Creates a pool of as many threads as the process may use cores."""
        self._ahead = _ROWS_AHEAD * threads
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix="row")
        self._single_rows = threading.Semaphore(_SINGLE_ROWS * threads)
        self._lock = threading.Lock()
        self._requests = 0

    def map(
        self, function: RowFunction[_Item, _Result], items: Sequence[_Item]
    ) -> Iterator[_Result]:
        """Applies a function to the rows of a request, and yields the results in order.

        The rows of a request are computed in parallel, each on one core. A single row is computed
        in the thread of its request, because passing it to another thread takes time. It runs on
        all cores if there is no other request.

        Args:
            function: Computes the result of a row. After its first exception, rows that have not
                started are not computed.
            items: The rows.
        """
        with self._count_request() as is_only_request:
            if len(items) == 1:
                with self._single_rows:
                    yield function(items[0], is_only_request)
            else:
                yield from self._map_in_threads(lambda item: function(item, False), items)

    @contextmanager
    def _count_request(self) -> Iterator[bool]:
        """Yields whether there is no other request."""
        with self._lock:
            self._requests += 1
            is_only_request = self._requests == 1
        try:
            yield is_only_request
        finally:
            with self._lock:
                self._requests -= 1

    def _map_in_threads(
        self, function: Callable[[_Item], _Result], items: Sequence[_Item]
    ) -> Iterator[_Result]:
        pending: deque[Future[_Result]] = deque()
        try:
            for item in items:
                pending.append(self._executor.submit(function, item))
                if len(pending) > self._ahead:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()
