import multiprocessing
import signal
from multiprocessing.synchronize import Event, Lock

import pytest

from person_attributes.runtime import interrupts


def _wait(started: Event, lock: Lock) -> None:
    started.set()
    lock.acquire()


def test_a_pool_that_ends_within_training_ends_its_waiting_workers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(interrupts, "_GRACE_SECONDS", 1)
    context = multiprocessing.get_context("fork")
    started, lock = context.Event(), context.Lock()
    with interrupts.Signals().listening(), lock:
        worker = context.Process(target=_wait, args=(started, lock))
        worker.start()
        started.wait()
        worker.terminate()
        worker.join()
    assert worker.exitcode == -signal.SIGALRM
