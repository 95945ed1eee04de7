"""Deferred handling of Ctrl-C and SIGTERM: training checks for them between batches."""

import contextlib
import multiprocessing
import os
import signal
from collections.abc import Iterator
from types import FrameType

from person_attributes.errors import StoppedError

_GRACE_SECONDS = 30
"""How long a worker process outlives SIGTERM while training continues."""


class Signals:
    """Records Ctrl-C and SIGTERM; training checks for them between batches.

    Attributes:
        received: The number of the first signal, or None.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self._process = os.getpid()
        self._is_over = multiprocessing.Value("b", False)

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """Records the first signal in the block; a second one interrupts immediately."""
        earlier = {
            number: signal.signal(number, self._note) for number in (signal.SIGINT, signal.SIGTERM)
        }
        try:
            yield
        finally:
            self._is_over.value = 1
            for number, handler in earlier.items():
                signal.signal(number, handler)

    def raise_if_signalled(self, phase: str, where: str) -> None:
        """Raises if a signal was received.

        Raises:
            StoppedError: If a signal was received: run the phase again to resume it.
        """
        if self.received is not None:
            raise StoppedError(
                f"{phase}: stopped by {signal.Signals(self.received).name} {where}; checkpoint "
                "written. Run dvc repro to resume.",
                self.received,
            )

    def _note(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._process:
            # A worker process inherits this handler, and a terminal signals the whole process
            # group. The worker continues, since training waits for its batch. Its pool ends it by
            # SIGTERM later, or after the last batch of an epoch: then the worker may be waiting
            # for a lock that the pool holds, and the pool waits for the worker.
            if self._is_over.value:
                os._exit(128 + number)
            if number == signal.SIGTERM:
                signal.alarm(_GRACE_SECONDS)
            return
        if self.received is not None:
            raise KeyboardInterrupt(number)
        self.received = number
