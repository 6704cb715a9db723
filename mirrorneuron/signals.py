"""Waiting for signals without a lock.

A handler runs between any two instructions of the main thread, also between two of another handler: two
SIGTERM in a row are enough to deadlock on `threading.Event.set()`. So handlers here only set a flag, the
interpreter writes a byte into a pipe, and whoever waits sleeps on that pipe.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
from types import FrameType

STOPS = (signal.SIGTERM, signal.SIGINT)
HURRY = signal.SIGUSR2


class Signals:
    """From here on SIGTERM and SIGINT only set `stop`, a second one or SIGUSR2 also `hurry`; SIGCHLD wakes
    `wait`. Made in the main thread, once; `wait` may be called in another."""

    def __init__(self, *, in_pool: bool = False) -> None:
        """in_pool: of a process whose parent passes signals on. A service manager may signal the whole group,
        so that SIGTERM comes twice and means nothing more; and SIGINT is the parent's alone."""
        self.stop = False
        self.hurry = False
        self._in_pool = in_pool
        self._read, write = os.pipe()
        os.set_blocking(self._read, False)
        os.set_blocking(write, False)
        signal.set_wakeup_fd(write, warn_on_full_buffer=False)
        for number in (signal.SIGTERM, HURRY) if in_pool else (*STOPS, HURRY, signal.SIGCHLD):
            signal.signal(number, self._note)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if number in STOPS:
            self.hurry = self.hurry or (self.stop and not self._in_pool)
            self.stop = True
        elif number == HURRY:
            self.stop = self.hurry = True

    def wait(self, seconds: float | None = None) -> None:
        """Sleep until a signal arrives, or for so long; returns at once for one that came before."""
        select.select([self._read], [], [], seconds)
        with contextlib.suppress(BlockingIOError):
            while os.read(self._read, 512):
                pass
