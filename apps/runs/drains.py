"""The threads a worker starts by itself to claim and work; each keeps its database connection for a while.

A connection is a process of the server and forgets every prepared statement when it goes, so a thread that
has nothing to do waits some seconds for more before it ends and closes it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from django.db import connections

KEEP_SECONDS = 5.0


class Drains:
    """`go()` has one more thread do the work, an idle one if there is one."""

    def __init__(self, work: Callable[[], object]) -> None:
        self._work = work
        self._condition = threading.Condition()
        self._wanted = 0
        self._idle = 0
        self._closing = False
        self.threads: set[threading.Thread] = set()

    def go(self) -> None:
        with self._condition:
            if self._closing:
                return
            self._wanted += 1
            if self._wanted <= self._idle:
                self._condition.notify()
                return
            thread = threading.Thread(target=self._run, name="worker-drain", daemon=True)
            self.threads.add(thread)
        thread.start()

    def close(self) -> None:
        """Idle threads end now, the others after what they do."""
        with self._condition:
            self._closing = True
            self._condition.notify_all()

    def _run(self) -> None:
        try:
            while self._is_wanted():
                self._work()
        finally:
            connections.close_all()
            self.threads.discard(threading.current_thread())

    def _is_wanted(self) -> bool:
        with self._condition:
            self._idle += 1
            end = time.monotonic() + KEEP_SECONDS
            while not self._wanted and not self._closing and (left := end - time.monotonic()) > 0:
                self._condition.wait(left)
            self._idle -= 1
            if not self._wanted or self._closing:
                return False
            self._wanted -= 1
            return True
