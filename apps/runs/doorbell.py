"""Ringing: tell workers there may be work. A ring carries no state; losing one costs a poll interval.

The broker is never spoken to inside a transaction or on a caller's thread: a dead broker can hold a publish
for seconds. One daemon thread per process publishes, coalescing what piles up meanwhile.
"""

from __future__ import annotations

import threading

from mirrorneuron.base import crash
from mirrorneuron.base.logs import logger
from mirrorneuron.config import config

log = logger(__name__)
MAX_RINGS = 32
_wanted = 0
_condition = threading.Condition()
_thread: threading.Thread | None = None


def ring(count: int = 1) -> None:
    """Ask for `count` workers to look; returns at once, never raises."""
    global _wanted, _thread
    crash.reach("before_doorbell")
    with _condition:
        _wanted = min(_wanted + count, MAX_RINGS)
        if _thread is None or not _thread.is_alive():
            _thread = threading.Thread(target=_publish, name="doorbell", daemon=True)
            _thread.start()
        _condition.notify()


def _publish() -> None:
    global _wanted
    from apps.runs.tasks import drain

    while True:
        with _condition:
            while not _wanted:
                _condition.wait()
            count, _wanted = _wanted, 0
        if not config().broker_url and not config().embedded:
            continue  # No worker listens on this process's own in-memory transport.
        for _ in range(count):
            try:
                drain.apply_async(expires=60, retry=False, ignore_result=True)
            except Exception as exc:  # the broker is down: workers poll
                log.warning("doorbell.failed", error=str(exc) or type(exc).__name__)
                break
