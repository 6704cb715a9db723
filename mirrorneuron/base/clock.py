"""One clock for the whole house, set by the database.

Hosts disagree about the time, so deadlines are compared in database time only. Asking the database for the
time in every statement would cost a round trip; instead each process measures its offset from the database
(at start and with each lease renewal) and adds it to its own monotonic clock. Tests set the clock by hand.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

HOLD_SECONDS = 5.0
"""The clock stands still rather than go back this far; a larger error is corrected at once."""


class Clock:
    """Aware UTC time; inside one process it runs backwards only when it was wrong by more than 5 s."""

    def __init__(self) -> None:
        self._base = time.time() - time.monotonic()
        self._floor = 0.0
        self._frozen: datetime | None = None

    def now(self) -> datetime:
        if self._frozen is not None:
            return self._frozen
        return datetime.fromtimestamp(max(self._base + time.monotonic(), self._floor), UTC)

    def set_offset(self, database_now: datetime, sent: float, received: float) -> None:
        """Adopt the database's time.

        sent, received: monotonic seconds around the question; the answer is taken to lie half way. An answer
        that was so slow that it proves nothing against what is known changes nothing.
        """
        base = database_now.timestamp() - (sent + received) / 2
        back = self._base - base
        if abs(back) <= (received - sent) / 2:
            return
        self._floor = self._base + time.monotonic() if 0 < back <= HOLD_SECONDS else 0.0
        self._base = base

    @contextmanager
    def frozen(self, at: datetime) -> Iterator[FrozenClock]:
        """Hold the time still for a test; move it with the yielded object."""
        before, self._frozen = self._frozen, at
        try:
            yield FrozenClock(self)
        finally:
            self._frozen = before


class FrozenClock:
    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def move(self, **delta: float) -> None:
        """Let time pass: `move(seconds=30)`."""
        assert self._clock._frozen is not None
        self._clock._frozen += timedelta(**delta)


clock = Clock()


def now() -> datetime:
    """The time by the house clock, aware, in UTC."""
    return clock.now()
