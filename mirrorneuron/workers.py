"""Worker processes as they are started: the engine's own loop plus Celery, which rings its bell.

Threads (also embedded in `mn up`): one `WorkerProcess`; Celery's controller runs in a thread beside it and
may be without its broker for as long as it likes, since the loop polls.
Prefork: Celery's parent only listens; every pool process gets a `WorkerProcess` of its own after the fork
(ENGINE rule 16), for Python work that needs more than one core.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from typing import Any

from apps.runs.worker import WorkerProcess
from mirrorneuron.base.logs import logger
from mirrorneuron.celery import app
from mirrorneuron.config import config
from mirrorneuron.signals import Signals

log = logger(__name__)
STOP_SECONDS = 25.0


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

    def stop(self, timeout_seconds: float = STOP_SECONDS) -> None:
        """Hand back what can be handed back; a broker that hangs does not hold the process."""
        self.process.stop(timeout_seconds)
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
    worker.stop()


def work_with_processes(queues: Sequence[str], slots: int) -> None:
    """Work in a pool of processes until SIGTERM or SIGINT; needs a broker for its doorbell."""
    from celery.signals import setup_logging, worker_process_init, worker_process_shutdown
    from django.db import connections

    inside: list[WorkerProcess] = []

    def begin(**_: Any) -> None:
        connections.close_all()  # a connection must not be shared across the fork
        process = WorkerProcess(queues=queues, slots=1)
        process.start()
        inside.append(process)
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
    app.Worker(
        app=app,
        pool="prefork",
        concurrency=slots,
        queues=list(queues),
        without_gossip=True,
        without_mingle=True,
        quiet=True,
    ).start()
