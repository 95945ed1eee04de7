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

_ROWS_AHEAD = 4
"""Rows per thread that are computed ahead of those that are returned."""


class RowPool:
    """A pool of threads that all requests share. Decoders and ONNX Runtime release the GIL."""

    def __init__(self, threads: int) -> None:
        """Creates a pool.

        Args:
            threads: The number of threads, and of single rows that other threads compute.
        """
        self._ahead = _ROWS_AHEAD * threads
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix="row")
        self._single_rows = threading.Semaphore(threads)
        self._lock = threading.Lock()
        self._requests = 0

    def map(
        self, function: RowFunction[_Item, _Result], items: Sequence[_Item]
    ) -> Iterator[_Result]:
        """Applies a function to the rows of a request, and yields the results in order.

        Rows are computed in order of arrival, each on one core. To pass a row to another thread
        takes time. The thread of a request therefore computes a single row itself, unless as many
        others do so. Such a row runs on all cores if there is no other request.

        Args:
            function: Computes the result of a row. After its first exception, rows that have not
                started are not computed.
            items: The rows.
        """
        with self._count_request() as is_only_request:
            if len(items) == 1 and self._single_rows.acquire(blocking=False):
                try:
                    result = function(items[0], is_only_request)
                finally:
                    self._single_rows.release()
                yield result
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
