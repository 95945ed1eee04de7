"""Ctrl-C and SIGTERM, noted while a phase trains, and acted upon between its batches."""

import contextlib
import multiprocessing
import os
import signal
from collections.abc import Iterator
from types import FrameType

from person_attributes.errors import StoppedError


class Signals:
    """Whether Ctrl-C or SIGTERM came; training looks at it between batches.

    Attributes:
        received: The signal, or None.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self._process = os.getpid()
        self._is_over = multiprocessing.Value("b", False)

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """Notes a first signal in the block; a second one ends at once."""
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
        """Raises where a signal came.

        Raises:
            StoppedError: Says where the phase was stopped and how to go on.
        """
        if self.received is not None:
            raise StoppedError(
                f"{phase}: stopped by {signal.Signals(self.received).name} {where}, and backed up. "
                "Run dvc repro to go on from there.",
                self.received,
            )

    def _note(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._process:
            # A worker inherits this handler and hears what a terminal tells the whole group. It
            # works on: the batch that it makes is waited for. Its pool ends it by SIGTERM later.
            if self._is_over.value:
                os._exit(128 + number)
            return
        if self.received is not None:
            raise KeyboardInterrupt(number)
        self.received = number
