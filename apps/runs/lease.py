"""One row says that a process lives: registered, renewed, given up, and seen to be gone.

A lease runs out by itself. Where it is certain that a process has ended (it is of this machine and its number
is free or somebody else's), the others need not wait for that.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from uuid import UUID

from django.db import connection

import mirrorneuron
from apps.runs.models import Worker
from mirrorneuron.base.clock import clock, now
from mirrorneuron.base.logs import logger
from mirrorneuron.base.process import birth, is_gone, place

log = logger(__name__)


class Lease:
    """The row of this process. Renewed by whoever owns it; `is_old` says when that is overdue."""

    def __init__(
        self, boot: UUID, *, seconds: float, queues: Sequence[str], slots: int, embedded: bool
    ) -> None:
        self.boot = boot
        self.seconds = seconds
        self._fixed = {
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "place": place(),
            "birth": birth(os.getpid()),
            "queues": list(queues),
            "slots": slots,
            "version": mirrorneuron.__version__,
            "embedded": embedded,
        }
        self._renewed = time.monotonic()

    def take(self, *, sole: bool) -> None:
        """Register; sole: a lock proves that every other boot is dead (ENGINE rule 11)."""
        sync_clock()
        at = now()
        if sole:
            Worker.objects.filter(lease_until__gte=at).update(lease_until=at - timedelta(seconds=1))
        else:
            expire_gone()
        self._create(at)

    def renew(self) -> None:
        asked = time.monotonic()
        sync_clock()
        until = now() + timedelta(seconds=self.seconds)
        if not Worker.objects.filter(boot=self.boot).update(lease_until=until):
            log.error("lease.row_missing", boot=str(self.boot))
            self._create(now())
        self._renewed = asked

    def is_old(self) -> bool:
        """Half of it has passed unrenewed: the process was suspended, or cannot reach the database."""
        return time.monotonic() - self._renewed > self.seconds / 2

    def give_up(self) -> None:
        Worker.objects.filter(boot=self.boot).update(stopped_at=now(), lease_until=now())

    def _create(self, at: datetime) -> None:
        until = at + timedelta(seconds=self.seconds)
        # The answer of an earlier try may have been lost on its way.
        Worker.objects.update_or_create(
            boot=self.boot, defaults={"started_at": at, "lease_until": until, **self._fixed}
        )


def sync_clock() -> None:
    """Take over the database's time; with a file it is this machine's, which may have slept."""
    sent = time.monotonic()
    if connection.vendor != "postgresql":
        clock.set_offset(datetime.now(UTC), sent, time.monotonic())
        return
    with connection.cursor() as cursor:
        cursor.execute("SELECT clock_timestamp()")
        (at,) = cursor.fetchone()
    clock.set_offset(at, sent, time.monotonic())


def expire_gone() -> int:
    """End the leases of processes of this place that have ended without a word; returns how many."""
    at = now()
    alive = Worker.objects.filter(place=place(), lease_until__gte=at, stopped_at=None)
    gone = [boot for boot, pid, born in alive.values_list("boot", "pid", "birth") if is_gone(pid, born)]
    if not gone:
        return 0
    expired = Worker.objects.filter(boot__in=gone, lease_until__gte=at).update(
        lease_until=at - timedelta(seconds=1)
    )
    if expired:
        log.warning("lease.expired_early", workers=[str(boot) for boot in gone])
    return expired
