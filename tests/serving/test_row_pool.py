"""The rows of all requests share the cores, and no request waits for a later one."""

import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager

import pytest

from person_attributes.serving.row_pool import RowPool

THREADS = 2


class _Rows:
    """Rows that are computed until they are released."""

    def __init__(self) -> None:
        self.released = threading.Event()
        self.started = threading.Semaphore(0)
        self._lock = threading.Lock()
        self.running = self.most = 0

    def compute(self, item: int, all_cores: bool) -> int:
        with self._lock:
            self.running += 1
            self.most = max(self.most, self.running)
        self.started.release()
        self.released.wait()
        with self._lock:
            self.running -= 1
        return item


@contextmanager
def _requests(count: int) -> Iterator[ThreadPoolExecutor]:
    """Threads of a server, one for each request."""
    with ThreadPoolExecutor(count) as threads:
        yield threads


def _ask(pool: RowPool, rows: _Rows, *items: int) -> list[int]:
    return list(pool.map(rows.compute, items))


def test_results_are_in_the_order_of_the_rows() -> None:
    rows = _Rows()
    rows.released.set()
    assert _ask(RowPool(THREADS), rows, *range(100)) == list(range(100))


def test_many_requests_of_a_single_row_compute_few_at_a_time() -> None:
    pool, rows = RowPool(THREADS), _Rows()
    with _requests(20) as threads:
        answers = [threads.submit(_ask, pool, rows, number) for number in range(20)]
        for _ in range(2 * THREADS):
            rows.started.acquire()
        rows.released.set()
        assert [answer.result() for answer in answers] == [[number] for number in range(20)]
    assert rows.most == 2 * THREADS


def test_a_single_row_does_not_wait_for_a_long_request() -> None:
    pool, long, single = RowPool(THREADS), _Rows(), _Rows()
    single.released.set()
    with _requests(2) as threads:
        answer: Future[list[int]] = threads.submit(_ask, pool, long, *range(50))
        for _ in range(THREADS):
            long.started.acquire()
        assert _ask(pool, single, 7) == [7]
        long.released.set()
        assert answer.result() == list(range(50))


def test_a_failed_row_leaves_its_place_to_the_next() -> None:
    def fail(item: int, all_cores: bool) -> int:
        raise ValueError(item)

    pool = RowPool(THREADS)
    for _ in range(3 * THREADS):
        with pytest.raises(ValueError, match="1"):
            list(pool.map(fail, [1]))
    (thread,) = pool.map(lambda _, all_cores: threading.get_ident(), [2])
    assert thread == threading.get_ident()
