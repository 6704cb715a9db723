"""Worker processes as they are started: the engine's own loop plus Celery, which rings its bell.

Threads (also embedded in `mn up`): one `WorkerProcess`; Celery's controller runs in a thread beside it and
may be without its broker for as long as it likes, since the loop polls.
Prefork: Celery's parent only listens; every pool process gets a `WorkerProcess` of its own after the fork
(ENGINE rule 16), for Python work that needs more than one core.

Stopping is the same in both: nothing more is claimed, steps may finish for a while, what is left is handed
back. A second signal hurries.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Sequence
from typing import Any

from apps.runs.lease import expire_gone
from apps.runs.worker import EXIT_UNWELL, WorkerProcess
from mirrorneuron.base.logs import logger
from mirrorneuron.base.process import birth
from mirrorneuron.config import config
from mirrorneuron.signals import HURRY, Signals

log = logger(__name__)
STOP_SECONDS = 25.0
LEAVE_SECONDS = 5.0
"""How long a pool process that has stopped waits for Celery to end it."""
WATCH_SECONDS = 0.25
CHILDLESS_SECONDS = 15.0
"""A parent without a living child for so long starts none any more."""


class ThreadedWorker:
    """The engine's loop with Celery's doorbell in this process. `start()`, then `stop()`."""

    def __init__(self, *, queues: Sequence[str], slots: int, embedded: bool, sole: bool) -> None:
        self.process = WorkerProcess(queues=queues, slots=slots, embedded=embedded, sole=sole)
        self._controller: Any = None
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        self.process.start()
        if config().broker_url or config().embedded:
            self._controller = _controller(self.process.queues, self.process.slots)
            self._thread = threading.Thread(target=self._listen, name="celery", daemon=True)
            self._thread.start()

    def stop(self, timeout_seconds: float = STOP_SECONDS, signals: Signals | None = None) -> None:
        """Hand back what can be handed back; a broker that hangs does not hold the process."""
        self.process.stop(timeout_seconds, hurry=lambda: signals is not None and signals.hurry)
        if self._controller is not None and self._thread is not None:
            stopper = threading.Thread(target=self._controller.stop, name="celery-stop", daemon=True)
            stopper.start()
            stopper.join(3.0)
            self._thread.join(1.0)

    def _listen(self) -> None:
        try:
            self._controller.start()
        except Exception as exc:  # the engine goes on by polling
            log.warning("doorbell.listener_failed", error=str(exc) or type(exc).__name__)


def _controller(queues: Sequence[str], slots: int) -> Any:
    # Loaded here, while the loop already works: a start does not wait for it.
    from mirrorneuron.celery import app

    # Celery would run Django's system checks first, which imports every page: time a restart does not have.
    os.environ.setdefault("CELERY_SKIP_CHECKS", "1")
    app.finalize()
    app.loader.import_default_modules()
    # WorkController, unlike Celery's command line class, leaves signals alone, so that it may run in a
    # thread.
    return app.WorkController(
        app=app,
        pool="threads",
        concurrency=slots,
        queues=list(queues),
        hostname="worker@localhost",
        without_gossip=True,
        without_mingle=True,
        without_heartbeat=True,
        quiet=True,
    )


def work_with_threads(queues: Sequence[str], slots: int, *, sole: bool) -> None:
    """Work until SIGTERM or SIGINT."""
    signals = Signals()
    worker = ThreadedWorker(queues=queues, slots=slots, embedded=False, sole=sole)
    worker.start()
    while not signals.stop:
        signals.wait()
    worker.stop(signals=signals)
    if worker.process.is_busy:
        os._exit(0)  # What was handed back may go on for long here, and Python would wait for it.


# --- prefork ----------------------------------------------------------------------------------------------


def work_with_processes(queues: Sequence[str], slots: int) -> None:
    """Work in a pool of processes until SIGTERM or SIGINT; needs a broker for its doorbell."""
    from billiard import common
    from celery.signals import setup_logging, worker_process_init, worker_process_shutdown
    from django.db import connections

    from mirrorneuron.celery import app

    inside: list[WorkerProcess] = []

    def begin(**_: Any) -> None:
        connections.close_all()  # a connection must not be shared across the fork
        # After this hook billiard puts a handler of its own in the place of each of these, ours as well: it
        # would end the process in the midst of a step.
        common.TERMSIGS_DEFAULT.discard("SIGTERM")
        process = WorkerProcess(queues=queues, slots=1)
        process.start()
        inside.append(process)
        signals = Signals(in_pool=True)
        threading.Thread(target=_stop_when_told, args=(process, signals), daemon=True).start()
        # Celery's own hook closes this thread's connection by number, which a thread may have got again by
        # then.
        connections.close_all()

    def end(**_: Any) -> None:
        for process in inside:
            process.stop(STOP_SECONDS)

    # Without a receiver Celery would set up logging of its own over ours.
    setup_logging.connect(lambda **_: None, weak=False)
    worker_process_init.connect(begin, weak=False)
    worker_process_shutdown.connect(end, weak=False)
    connections.close_all()
    parent = app.Worker(
        app=app,
        pool="prefork",
        concurrency=slots,
        queues=list(queues),
        without_gossip=True,
        without_mingle=True,
        quiet=True,
    )
    nursery = _Nursery(parent)
    nursery.start()
    parent.start()


def _stop_when_told(process: WorkerProcess, signals: Signals) -> None:
    """In a pool process: SIGTERM ends claiming at once; Celery would let the running task claim on."""
    while not signals.stop:
        signals.wait()
    process.stop(STOP_SECONDS, hurry=lambda: signals.hurry)
    # Celery ends this process if its parent stops too. If not, or if a step will not end, we do.
    time.sleep(LEAVE_SECONDS if not process.is_busy else 0.0)
    os._exit(0)


class _Nursery(threading.Thread):
    """In the parent: passes signals on to the pool, and sees children that were killed.

    Celery starts a new child for each that ended; what the dead one held is free for others as soon as its
    lease is. Without its broker Celery starts none, so a parent that has lost all of them ends, for whoever
    keeps it running to start it anew.
    """

    def __init__(self, parent: Any) -> None:
        from celery.signals import worker_shutting_down

        super().__init__(name="nursery", daemon=True)
        self._parent = parent
        self._told = 0
        worker_shutting_down.connect(self._tell, weak=False)

    def run(self) -> None:
        known: dict[int, str] = {}
        last_seen = time.monotonic()
        while not self._told:
            living = {pid: born for pid in self._children() if (born := birth(pid))}
            if any(living.get(pid) != born for pid, born in known.items()):
                self._expire()
            known = living
            last_seen = time.monotonic() if living else last_seen
            if time.monotonic() - last_seen > CHILDLESS_SECONDS:
                log.error("worker.childless")
                os._exit(EXIT_UNWELL)
            time.sleep(WATCH_SECONDS)

    def _children(self) -> list[int]:
        pool = getattr(getattr(self._parent, "pool", None), "_pool", None)
        return [process.pid for process in list(getattr(pool, "_pool", ())) if process.pid]

    def _expire(self) -> None:
        from django.db import Error, connections

        try:
            expire_gone()
        except Error as exc:
            log.warning("lease.expiry_failed", error=str(exc))
        finally:
            connections.close_all()  # The next fork must not share it.

    def _tell(self, **_: Any) -> None:
        """Runs inside Celery's signal handler."""
        self._told += 1
        for pid in self._children():
            try:
                os.kill(pid, signal.SIGTERM if self._told == 1 else HURRY)
            except ProcessLookupError:
                continue
