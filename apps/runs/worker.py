"""A worker process: its lease, its loop, its slots.

One per process, under whatever runs it: `mn up` (embedded), `mn worker` (threads or prefork), or `mn run
--wait`. Work arrives two ways that share the same slots: a doorbell (Celery task) and this worker's own poll,
so that a dead broker only slows things down.

    lease thread   renews one row, measures the database's clock, obeys the kill button; own connection
    poll thread    every poll interval: upkeep, then as many drains as there are ready steps and free slots
    drain          claim, work the chain, until nothing is ready
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import threading
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

from django.db import Error as DatabaseTrouble
from django.db import connection, connections

from apps.runs import at_work
from apps.runs.claims import claim_next, needs_empty_process
from apps.runs.core.limits import LIMITS
from apps.runs.core.states import RUN_ENDED, StepStatus
from apps.runs.executor import work_chain
from apps.runs.models import Step, Worker
from apps.runs.upkeep import anything_due, forget_old_workers, take_back, upkeep
from mirrorneuron.base.clock import clock, now
from mirrorneuron.base.logs import logger
from mirrorneuron.config import config

log = logger(__name__)
ATTENTION_SECONDS = 10.0
STUCK_SECONDS = 30.0
"""A step that holds its slot this long past its deadline will not give it back."""
_current: WorkerProcess | None = None


def current_worker() -> WorkerProcess | None:
    """This process's worker, if it has one."""
    return _current


class WorkerProcess:
    """Start with `start()`, end with `stop()`."""

    def __init__(
        self,
        *,
        queues: Sequence[str] = ("default",),
        slots: int = 4,
        embedded: bool = False,
        sole: bool = False,
    ) -> None:
        """sole: a lock proves that no other worker uses this database, so every other boot is dead."""
        self.boot: UUID = uuid4()
        self.queues = tuple(queues)
        self.slots = slots
        self.embedded = embedded
        self.sole = sole
        self.lease_seconds = LIMITS.embedded_lease_seconds if sole else config().lease_seconds
        self._free = threading.Semaphore(slots)
        self._busy = 0
        self._changed = threading.Condition()
        """Guards the next four."""
        self._claiming_alone = False
        self._exclusive = False
        """A step that has killed a worker runs, and nothing beside it."""
        self._emptying = False
        """Such a step has waited for long: nothing new starts until nothing runs."""
        self._stopping = threading.Event()
        self._wake = threading.Event()
        self._renewed = time.monotonic()
        self._threads: list[threading.Thread] = []
        self._drains: set[threading.Thread] = set()

    # --- life ---------------------------------------------------------------------------------------------

    def start(self) -> None:
        global _current
        self.sync_clock()
        self._register()
        _current = self
        for name, target in (("lease", self._lease_loop), ("poll", self._poll_loop)):
            thread = threading.Thread(target=target, name=f"worker-{name}", daemon=True)
            thread.start()
            self._threads.append(thread)
        log.info("worker.started", boot=str(self.boot), queues=self.queues, slots=self.slots)

    def stop(self, timeout_seconds: float = 25.0) -> None:
        """Claim nothing more, let running steps finish for a while, then give up the lease."""
        global _current
        self._stopping.set()
        self._wake.set()
        end = time.monotonic() + timeout_seconds
        for thread in [*self._threads, *self._drains]:
            thread.join(max(end - time.monotonic(), 0.1))
        while self._busy and time.monotonic() < end:
            time.sleep(0.02)
        with contextlib.suppress(DatabaseTrouble):
            Worker.objects.filter(boot=self.boot).update(stopped_at=now(), lease_until=now())
        if _current is self:
            _current = None
        log.info("worker.stopped", boot=str(self.boot))

    @property
    def is_stopping(self) -> bool:
        return self._stopping.is_set()

    def nudge(self) -> None:
        """Look now instead of at the next poll."""
        self._wake.set()

    def _register(self) -> None:
        at = now()
        if self.sole:
            # ENGINE rule 11: the lock proves it, so recovery need not wait for a lease to run out.
            Worker.objects.filter(lease_until__gte=at).update(lease_until=at - timedelta(seconds=1))
        Worker.objects.create(
            boot=self.boot,
            host=socket.gethostname(),
            pid=os.getpid(),
            embedded=self.embedded,
            started_at=at,
            lease_until=at + timedelta(seconds=self.lease_seconds),
        )

    @staticmethod
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

    # --- lease --------------------------------------------------------------------------------------------

    def _lease_loop(self) -> None:
        pause = 1.0 if not self.sole else 60.0
        renew_every = min(self.lease_seconds / 4, 60.0)
        last = time.monotonic()
        while not self._stopping.wait(min(pause, renew_every)):
            try:
                if not self.sole and self._kill_requested():
                    os.kill(os.getpid(), signal.SIGKILL)
                if time.monotonic() - last >= renew_every:
                    self._renew()
                    last = time.monotonic()
            except Exception as exc:
                # Whatever it is: a worker without a lease loses every step it takes.
                log.warning("lease.renewal_failed", error=str(exc) or type(exc).__name__)
                connections.close_all()
        connections.close_all()

    def ensure_lease(self) -> None:
        """Renew before anything goes in flight if the last renewal is old: the process was suspended."""
        if time.monotonic() - self._renewed > self.lease_seconds / 2:
            self._renew()

    def _renew(self) -> None:
        asked = time.monotonic()
        self.sync_clock()
        until = now() + timedelta(seconds=self.lease_seconds)
        if not Worker.objects.filter(boot=self.boot).update(lease_until=until):
            log.error("lease.row_missing", boot=str(self.boot))
            Worker.objects.create(
                boot=self.boot, host=socket.gethostname(), pid=os.getpid(), embedded=self.embedded,
                started_at=now(), lease_until=until,
            )  # fmt: skip
        self._renewed = asked

    def _kill_requested(self) -> bool:
        return Worker.objects.filter(boot=self.boot, kill_requested_at__isnull=False).exists()

    # --- polling ------------------------------------------------------------------------------------------

    def _poll_loop(self) -> None:
        housekeeping = attention = 0.0
        while not self._stopping.is_set():
            try:
                if time.monotonic() > attention:
                    # At the start and now and then: what the quick question does not see.
                    attention = time.monotonic() + ATTENTION_SECONDS
                    self._exit_if_stuck()
                    upkeep(self.boot)
                    take_back(self.boot)
                if time.monotonic() > housekeeping:
                    housekeeping = time.monotonic() + 3600
                    forget_old_workers()
                if anything_due(self.boot, self.queues):
                    upkeep(self.boot)
                    self._emptying = needs_empty_process(self.queues)
                    self._spawn_drains()
                else:
                    self._emptying = False
            except DatabaseTrouble as exc:
                log.warning("poll.failed", error=str(exc))
                connections.close_all()
            except Exception:
                log.exception("poll.crashed")
                connections.close_all()
            self._wake.wait(config().poll_seconds)
            self._wake.clear()
        connections.close_all()

    def _spawn_drains(self) -> None:
        """One drain per ready step, up to the free slots; if a doorbell came first, it finds none."""
        free = self.slots - self._busy
        if free <= 0 or self._exclusive:
            return
        ready = (
            Step.objects.filter(status=StepStatus.READY, queue__in=self.queues, run__pause_requested=False)
            .exclude(run__status__in=RUN_ENDED)
            .values("id")[:free]
        )
        for _ in list(ready):
            thread = threading.Thread(target=self._drain_thread, name="worker-drain", daemon=True)
            self._drains.add(thread)
            thread.start()

    def _drain_thread(self) -> None:
        try:
            self.drain()
        finally:
            connections.close_all()
            self._drains.discard(threading.current_thread())

    def _exit_if_stuck(self) -> None:
        """A process with half its slots past their deadline exits; its supervisor starts a fresh one."""
        # Not the rows: those were taken back long ago. What counts is who still holds a slot.
        late = at_work.late(now() - timedelta(seconds=STUCK_SECONDS))
        if late and late * 2 >= self.slots:
            log.error("worker.stuck", late=late, slots=self.slots)
            os._exit(70)

    # --- work ---------------------------------------------------------------------------------------------

    def drain(self) -> int:
        """Claim and work until nothing is ready, or this slot was held long enough; returns steps worked."""
        if self._stopping.is_set() or not self._free.acquire(blocking=False):
            return 0
        worked, end = 0, time.monotonic() + LIMITS.drain_seconds
        try:
            while not self._stopping.is_set() and time.monotonic() < end:
                done = self._work_one()
                if not done:
                    break
                worked += done
        except DatabaseTrouble as exc:
            log.warning("drain.failed", error=str(exc))
            connections.close_all()
        finally:
            self._free.release()
        if time.monotonic() >= end:
            self.nudge()
        return worked

    def _work_one(self) -> int:
        with self._changed:
            # Whether a process is empty must stay true until it is known what is claimed for it.
            self._changed.wait_for(lambda: not self._claiming_alone)
            alone, emptying = self._busy == 0, self._emptying
            if self._exclusive or (emptying and not alone):
                return 0
            self._busy += 1
            self._claiming_alone = alone
        try:
            claim = None
            try:
                # A process that was asleep looks dead to the others: what it claimed would be taken back.
                self.ensure_lease()
                claim = claim_next(self.boot, self.queues, alone=alone, lossy_first=emptying)
            finally:
                with self._changed:
                    if alone:
                        self._exclusive = claim is not None and claim.step.losses > 0
                        self._claiming_alone = False
                        self._changed.notify_all()
            if claim is None:
                return 0
            lossy = claim.step.losses > 0
            return work_chain(claim, self.boot, self.queues, _never if lossy else self._may_go_on)
        finally:
            with self._changed:
                self._busy -= 1
                if self._busy == 0:
                    self._exclusive = False

    def _may_go_on(self) -> bool:
        return not self._stopping.is_set() and not self._emptying


def _never() -> bool:
    """A step that has killed a worker runs alone; what follows it need not."""
    return False
