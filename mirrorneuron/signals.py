"""Waiting for signals without a lock.

A handler runs between any two instructions of the main thread, also between two of another handler: two
SIGTERM in a row are enough to deadlock on `threading.Event.set()`. So handlers here only set a flag, the
interpreter writes a byte into a pipe, and the main thread sleeps on that pipe.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
from types import FrameType

STOPS = (signal.SIGTERM, signal.SIGINT)


class Signals:
    """From here on SIGTERM and SIGINT only set `stop`; SIGCHLD wakes `wait`. For the main thread, once."""

    def __init__(self) -> None:
        self.stop = False
        self._read, write = os.pipe()
        os.set_blocking(self._read, False)
        os.set_blocking(write, False)
        signal.set_wakeup_fd(write, warn_on_full_buffer=False)
        for number in (*STOPS, signal.SIGCHLD):
            signal.signal(number, self._note)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if number in STOPS:
            self.stop = True

    def wait(self, seconds: float | None = None) -> None:
        """Sleep until a signal arrives, or for so long; returns at once for one that came before."""
        select.select([self._read], [], [], seconds)
        with contextlib.suppress(BlockingIOError):
            while os.read(self._read, 512):
                pass
