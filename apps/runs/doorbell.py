"""Ringing: tell workers there may be work. A ring carries no state; losing one costs a poll interval.

The broker is never spoken to inside a transaction or on a caller's thread: a dead broker can hold a publish
for seconds. One daemon thread per process publishes, coalescing what piles up meanwhile, over a connection of
its own that it drops at the first sign of trouble.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable
from typing import Any

from mirrorneuron.base import crash
from mirrorneuron.base.logs import logger
from mirrorneuron.config import config

log = logger(__name__)
MAX_RINGS = 32
"""Per queue and burst: more workers than that find the work by going on."""
MAX_UNHEARD = 200
"""Rings that wait in a queue of the broker; where nobody listens more would only pile up."""
CONFIRM_SECONDS = 5.0
EXPIRES_SECONDS = 60
_wanted: Counter[str] = Counter()
_condition = threading.Condition()
_thread: threading.Thread | None = None


def ring(queues: Iterable[str] = ("default",)) -> None:
    """Ask for a worker to look, one for each name given; returns at once, never raises."""
    global _thread
    crash.reach("before_doorbell")
    with _condition:
        for queue in queues:
            _wanted[queue] = min(_wanted[queue] + 1, MAX_RINGS)
        if _thread is None or not _thread.is_alive():
            _thread = threading.Thread(target=_publish, name="doorbell", daemon=True)
            _thread.start()
        _condition.notify()


def _publish() -> None:
    bell = _Bell()
    while True:
        with _condition:
            while not _wanted:
                _condition.wait()
            wanted = dict(_wanted)
            _wanted.clear()
        if not config().broker_url and not config().embedded:
            continue  # No worker listens on this process's own in-memory transport.
        try:
            for queue, count in wanted.items():
                bell.ring(queue, count)
        except Exception as exc:  # the broker is down: workers poll
            log.warning("doorbell.failed", error=str(exc) or type(exc).__name__)
            bell.drop()


class _Bell:
    """One connection to the broker, for the publishing thread alone."""

    def __init__(self) -> None:
        self._connection: Any = None

    def ring(self, queue: str, count: int) -> None:
        from apps.runs.tasks import drain

        if self._connection is None:
            connection = drain.app.connection_for_write()
            connection.connect()  # Once; a channel asked for first would try for ever.
            self._connection = connection
        bell = drain.app.amqp.queues[queue]
        room = self._room(bell.name)
        with drain.app.amqp.Producer(self._connection.default_channel, auto_declare=False) as producer:
            for _ in range(min(count, room)):
                drain.apply_async(
                    producer=producer, queue=bell, expires=EXPIRES_SECONDS, retry=False, ignore_result=True,
                    **self._confirmed,
                )  # fmt: skip

    @property
    def _confirmed(self) -> dict[str, float]:
        return {"confirm_timeout": CONFIRM_SECONDS} if config().broker_url.startswith("amqp") else {}

    def _room(self, queue: str) -> int:
        """How many more rings are of use.

        RabbitMQ bounds its queues itself; a list in Redis grows for as long as nobody listens, and one in
        this process while all slots are at work. Whoever answers a ring that lies there already looks later
        than now, so it sees what this one would be about.
        """
        if not config().broker_url:
            return MAX_RINGS - int(self._connection.default_channel._size(queue))
        if config().broker_url.startswith("redis"):
            return MAX_UNHEARD - int(self._connection.default_channel.client.llen(queue))
        return MAX_RINGS

    def drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            # A broker that does not answer does not answer goodbyes either.
            threading.Thread(target=connection.release, name="doorbell-drop", daemon=True).start()
