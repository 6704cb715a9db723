"""An in-memory broker for one process that wakes its consumer instead of being polled.

kombu's `memory://` sleeps between looks (one second unless set), which would put that second before every
step. Here a put or an acknowledgement notifies a condition the consumer waits on: milliseconds, and no idle
work. Messages die with the process; they are doorbells.
"""

from __future__ import annotations

import threading
import time
from queue import Empty
from typing import Any

from kombu import transport
from kombu.transport import memory

_condition = threading.Condition()


class Channel(memory.Channel):
    def _put(self, *args: Any, **kwargs: Any) -> None:
        super()._put(*args, **kwargs)  # type: ignore[no-untyped-call]
        with _condition:
            _condition.notify_all()

    def basic_ack(self, *args: Any, **kwargs: Any) -> None:
        super().basic_ack(*args, **kwargs)  # type: ignore[no-untyped-call]
        with _condition:
            _condition.notify_all()


class Transport(memory.Transport):
    Channel = Channel

    def drain_events(self, connection: Any, timeout: float | None = None, **kwargs: Any) -> None:
        deadline = time.monotonic() + (timeout if timeout is not None else 3600)
        while True:
            with _condition:
                try:
                    assert self.cycle is not None
                    self.cycle.get(self._deliver, timeout=0)  # type: ignore[no-untyped-call]
                    return
                except Empty:
                    left = deadline - time.monotonic()
                    if left <= 0:
                        raise TimeoutError from None
                    _condition.wait(left)


def register() -> None:
    """Make `wakemem://` known to kombu."""
    transport.TRANSPORT_ALIASES["wakemem"] = "mirrorneuron.base.transport:Transport"
