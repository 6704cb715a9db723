"""A worker process: its lease, its loop, its slots.

One per process, under whatever runs it: `mn up` (embedded), `mn worker` (threads or prefork), or `mn run
--wait`. Work arrives two ways that share the same slots: a doorbell (Celery task) and this worker's own poll,
so that a dead broker only slows things down.

    lease thread   renews one row, measures the database's clock, obeys the kill button; own connection
    poll thread    every poll interval: upkeep, then as many drains as there are ready steps and free slots
    drain          claim, work the chain, until nothing is ready; in Celery's threads and in some of its own
    watch thread   ends the process when the poll thread hangs; asks nobody, so that it cannot hang itself
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from uuid import UUID, uuid4

from django.db import Error as DatabaseTrouble
from django.db import InterfaceError, OperationalError, connection, connections

from apps.governance.flow import forget_idle
from apps.runs import at_work, slots
from apps.runs.candidates import Candidates
from apps.runs.chores import keep_small
from apps.runs.claim import Claim
from apps.runs.claims import Missed, claim_or_compute, needs_empty_process
from apps.runs.core.limits import LIMITS
from apps.runs.core.states import RUN_ENDED, StepStatus
from apps.runs.drains import Drains
from apps.runs.executor import work_chain
from apps.runs.handing_back import hand_back_all
from apps.runs.hooks import forget_deliveries
from apps.runs.lease import Lease, expire_gone
from apps.runs.models import Step, Worker
from apps.runs.upkeep import anything_due, forget_old_workers, take_back, upkeep
from mirrorneuron.base.clock import now
from mirrorneuron.base.logs import logger
from mirrorneuron.config import config

log = logger(__name__)
TICK_SECONDS = 1.0
ATTENTION_SECONDS = 10.0
COUNTING_SECONDS = 60.0
"""How often the counters of concurrency keys are held against the steps that run."""
STUCK_SECONDS = 30.0
"""A step that holds its slot this long past its deadline will not give it back."""
SILENT_SECONDS = 15.0
"""A process that has neither looked nor worked for so long hangs on something that will not answer."""
BUSY_SHARE = 0.01
"""Who uses this share of a processor does not hang: it computes, and all that is computed is bounded."""
IN_FLIGHT_SECONDS = 5.0
"""How long a stop waits for calls on their way once everything else has been handed back."""
START_SECONDS = 30.0
"""How long a worker that starts waits for its database."""
START_PAUSE_SECONDS = 0.5
MANY_MOVED = 20
"""A round of upkeep that has moved so much is followed by the next one at once."""
EXIT_UNWELL = 70
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
        self.candidates = Candidates(self.queues, slots)
        self.sole = sole
        self.lease = Lease(
            self.boot,
            seconds=LIMITS.embedded_lease_seconds if sole else config().lease_seconds,
            queues=self.queues,
            slots=slots,
            embedded=embedded,
        )
        self._free = threading.Semaphore(slots)
        self._busy = 0
        self._changed = threading.Condition()
        """Guards the next three, and `_busy`."""
        self._claiming_alone = False
        self._exclusive = False
        """A step that has killed a worker runs, and nothing beside it."""
        self._emptying = False
        """Such a step has waited for long: nothing new starts until nothing runs."""
        self._stopping = threading.Event()
        self._stopped = threading.Event()
        self._wake = threading.Event()
        self._alive_at = time.monotonic()
        self._poll_clock: int | None = None
        """The processor time of the poll thread, where the system tells it."""
        self._threads: list[threading.Thread] = []
        self._drains = Drains(self.drain)

    # --- life ---------------------------------------------------------------------------------------------

    def start(self) -> None:
        global _current
        self._take_lease()
        _current = self
        self._alive_at = time.monotonic()
        for target in (self._lease_loop, self._poll_loop, self._watch_loop, self._chores_loop):
            name = target.__name__.strip("_").removesuffix("_loop")
            thread = threading.Thread(target=target, name=f"worker-{name}", daemon=True)
            thread.start()
            self._threads.append(thread)
        log.info("worker.started", boot=str(self.boot), queues=self.queues, slots=self.slots)

    def _take_lease(self) -> None:
        """A database that restarts while a worker starts is waited for, as it is while one works."""
        end = time.monotonic() + START_SECONDS
        while True:
            try:
                return self.lease.take(sole=self.sole)
            except DatabaseTrouble as exc:
                if not isinstance(exc, OperationalError | InterfaceError) or time.monotonic() > end:
                    raise
                error = str(exc).strip() or type(exc).__name__
                log.warning("worker.database_away", error=error, next="Tries again.")
                connection.close()
                if self._stopping.wait(START_PAUSE_SECONDS):
                    raise

    def stop(self, timeout_seconds: float = 25.0, hurry: Callable[[], bool] = lambda: False) -> None:
        """Claim nothing more, let steps finish for a while, hand back the others, give up the lease.

        The lease is renewed until the end, so that nobody takes what is still being finished. hurry: asked
        again and again; once it says so, nothing is waited for but calls on their way.
        """
        global _current
        with self._changed:  # Whoever claims has been counted as busy by now, or claims no more.
            self._stopping.set()
        self._wake.set()
        self._wait(lambda: not self._busy or hurry(), timeout_seconds)
        if self._busy:
            with contextlib.suppress(DatabaseTrouble):
                in_flight = hand_back_all(at_work.claims())
                self._wait(lambda: not any(map(at_work.is_at_work, in_flight)), IN_FLIGHT_SECONDS)
                hand_back_all(at_work.claims())  # What was just being claimed at the first look.
        self._stopped.set()
        self._drains.close()
        for thread in [*self._threads, *self._drains.threads]:
            thread.join(0.5)
        with contextlib.suppress(DatabaseTrouble):
            self.lease.give_up()
        if _current is self:
            _current = None
        log.info("worker.stopped", boot=str(self.boot))

    @staticmethod
    def _wait(until: Callable[[], bool], seconds: float) -> None:
        end = time.monotonic() + seconds
        while not until() and time.monotonic() < end:
            time.sleep(0.02)

    @property
    def is_stopping(self) -> bool:
        return self._stopping.is_set()

    @property
    def is_busy(self) -> bool:
        return bool(self._busy)

    def nudge(self) -> None:
        """Look now instead of at the next poll."""
        self._wake.set()

    # --- lease --------------------------------------------------------------------------------------------

    def _lease_loop(self) -> None:
        while not self._stopped.wait(min(self.lease.seconds / 4, 60.0)):
            try:
                self._obey_kill_button()
                self.lease.renew()
            except Exception as exc:
                # Whatever it is: a worker without a lease loses every step it takes.
                log.warning("lease.renewal_failed", error=str(exc) or type(exc).__name__)
                connections.close_all()
        connections.close_all()

    def ensure_lease(self) -> None:
        """Renew before anything goes in flight if the last renewal is old: the process was suspended."""
        if self.lease.is_old():
            self.lease.renew()

    def _obey_kill_button(self) -> None:
        """The poll thread notices it within a second; the lease thread, should that one hang."""
        # On a laptop the page kills the process itself: it is the same one.
        wanted = Worker.objects.filter(boot=self.boot, kill_requested_at__isnull=False)
        if not self.sole and wanted.exists():
            os.kill(os.getpid(), signal.SIGKILL)

    # --- health -------------------------------------------------------------------------------------------

    def _is_alive(self) -> None:
        self._alive_at = time.monotonic()

    def _watch_loop(self) -> None:
        most = SILENT_SECONDS + config().poll_seconds
        ticked, used = time.monotonic(), 0.0
        while not self._stopping.wait(TICK_SECONDS):
            passed, before, used = time.monotonic() - ticked, used, self._polled()
            if passed > 3 * TICK_SECONDS or used - before > BUSY_SHARE * passed:
                self._is_alive()  # The whole process was suspended, or the poll thread computes.
            ticked = time.monotonic()
            if ticked - self._alive_at > most:
                # What hangs here may never answer; a fresh process has fresh connections.
                log.error("worker.silent", seconds=round(ticked - self._alive_at))
                os._exit(EXIT_UNWELL)

    def _polled(self) -> float:
        """Seconds of a processor the poll thread has used so far."""
        with contextlib.suppress(OSError):  # It has ended.
            return time.clock_gettime(self._poll_clock) if self._poll_clock is not None else 0.0
        return 0.0

    def _exit_if_stuck(self) -> None:
        """A process with half its slots past their deadline exits; its supervisor starts a fresh one."""
        # Not the rows: those were taken back long ago. What counts is who still holds a slot.
        late = at_work.late(now() - timedelta(seconds=STUCK_SECONDS))
        if late and late * 2 >= self.slots:
            log.error("worker.stuck", late=late, slots=self.slots)
            with contextlib.suppress(DatabaseTrouble):
                hand_back_all(at_work.claims())  # The other half did nothing wrong.
                self.lease.give_up()
            os._exit(EXIT_UNWELL)

    # --- polling ------------------------------------------------------------------------------------------

    def _chores_loop(self) -> None:
        keep_small(self._stopping)

    def _poll_loop(self) -> None:
        if hasattr(time, "pthread_getcpuclockid"):
            self._poll_clock = time.pthread_getcpuclockid(threading.get_ident())
        housekeeping = counting = attention = 0.0
        while not self.is_stopping:
            self._is_alive()
            moved = 0
            try:
                if time.monotonic() > attention:
                    # At the start and now and then: what the quick question does not see.
                    attention = time.monotonic() + ATTENTION_SECONDS
                    self._exit_if_stuck()
                    if not self.sole:
                        expire_gone()
                    upkeep(self.boot)
                    take_back(self.boot)
                if time.monotonic() > counting:
                    counting = time.monotonic() + COUNTING_SECONDS
                    slots.reconcile()
                if time.monotonic() > housekeeping:
                    housekeeping = time.monotonic() + 3600
                    forget_old_workers()
                    forget_deliveries()
                    forget_idle()
                if anything_due(self.boot, self.queues):
                    if anything_due(self.boot):  # Ready steps need no upkeep, which asks a dozen times.
                        self._obey_kill_button()
                        moved = upkeep(self.boot)
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
            # Of many that are due at once a round moves some; the others are not to wait for it.
            self._wake.wait(0 if moved >= MANY_MOVED else config().poll_seconds)
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
            self._drains.go()

    # --- work ---------------------------------------------------------------------------------------------

    def drain(self) -> int:
        """Claim and work until nothing is ready, or this slot was held long enough; returns steps worked."""
        if self.is_stopping or not self._free.acquire(blocking=False):
            return 0
        worked, end = 0, time.monotonic() + LIMITS.drain_seconds
        try:
            while not self.is_stopping and time.monotonic() < end:
                done, is_quiet = self._work_one()
                self._is_alive()
                worked += done
                if not done or (is_quiet and not self.candidates.has_any):
                    break
        except DatabaseTrouble as exc:
            log.warning("drain.failed", error=str(exc))
            connections.close_all()
        finally:
            self._free.release()
        if time.monotonic() >= end:
            self.nudge()
        return worked

    def _work_one(self) -> tuple[int, bool]:
        """(steps worked, whether nothing was ready any more when the last of them was stored)."""
        with self._changed:
            # Whether a process is empty must stay true until it is known what is claimed for it.
            self._changed.wait_for(lambda: not self._claiming_alone)
            alone, emptying = self._busy == 0, self._emptying
            if self.is_stopping or self._exclusive or (emptying and not alone):
                return 0, True
            self._busy += 1
            self._claiming_alone = alone
        try:
            claim = None
            try:
                # A process that was asleep looks dead to the others: what it claimed would be taken back.
                self.ensure_lease()
                claim = claim_or_compute(
                    self.boot, self.queues, self.candidates, alone=alone, lossy_first=emptying
                )
            finally:
                with self._changed:
                    if alone:
                        self._exclusive = isinstance(claim, Claim) and claim.step.losses > 0
                        self._claiming_alone = False
                        self._changed.notify_all()
            if not isinstance(claim, Claim):
                return int(claim in (Missed.DONE, Missed.LAST)), claim is Missed.LAST
            lossy = claim.step.losses > 0
            with self.candidates.holding(claim.run.workspace_id):
                worked = work_chain(claim, self.boot, self.queues, _never if lossy else self._may_go_on)
                return worked, claim.is_last
        finally:
            with self._changed:
                self._busy -= 1
                if self._busy == 0:
                    self._exclusive = False

    def _may_go_on(self) -> bool:
        return not self.is_stopping and not self._emptying


def _never() -> bool:
    """A step that has killed a worker runs alone; what follows it need not."""
    return False
