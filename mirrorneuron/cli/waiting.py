"""Waiting for a run, and working it when nobody else does.

If a worker holds the data, this process only watches. If none does, it takes the data lock (on a laptop) and
works the run itself; should the other worker end meanwhile, it takes over then.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Any

from apps.ledger.selectors import Entry
from apps.runs import selectors
from apps.runs.core.states import RUN_ENDED, RunStatus, StepStatus
from apps.runs.models import Run, Step
from apps.runs.worker import WorkerProcess
from mirrorneuron import datalock
from mirrorneuron.cli.frame import FAILED, OK, REFUSED, WAITING, say
from mirrorneuron.config import config

LOOK_SECONDS = 0.1
TAKE_OVER_SECONDS = 1.0
POLICY = frozenset({"refused", "egress_refused"})
"""Codes of run errors that mean: a rule said no, of the contract or of this installation. A person's no is
`rejected`, which is a failed run like any other."""


def wait_for(run: Run, on_event: Callable[[Entry], None] | None = None) -> Run:
    """Return the run once it has ended or only a person can move it; every new entry goes to `on_event`."""
    seen = 0
    with _working() as nudge:
        while True:
            nudge()
            run.refresh_from_db()
            if on_event is not None:
                for entry in selectors.events_after(run, seen):
                    on_event(entry)
                    seen = entry.seq
            if rests(run) and (on_event is None or seen >= run.seq):
                return run
            time.sleep(LOOK_SECONDS)


def go_on(run_id: Any) -> None:
    """Let a run that a person has just moved go on: by the worker there is, else here (on a laptop).

    Says so on standard error; returns when the run has ended or needs a person again.
    """
    if worker_elsewhere():
        return
    if not config().is_sqlite:
        say("No worker is running; start one with `mn worker`.")
        return
    run = Run.objects.select_related("version").get(id=run_id)
    if run.status == RunStatus.PAUSED or run.status in RUN_ENDED:
        return
    say("No worker is running, so this command works the run itself.")
    run = wait_for(run)
    say(f"{run.status}: {selectors.explain(run)['why']}")


def rests(run: Run) -> bool:
    """Whether nothing will happen to the run without a person."""
    if run.status in RUN_ENDED or run.status == RunStatus.PAUSED:
        return True
    if run.held_worker is not None:
        return False
    open_steps = list(
        Step.objects.filter(run=run).exclude(status__in=["succeeded", "failed", "cancelled", "skipped"])
    )
    return bool(open_steps) and all(_needs_a_person(step) for step in open_steps)


def code_of(run: Run) -> int:
    """The exit code for where a run rests."""
    if run.status == RunStatus.SUCCEEDED:
        return OK
    if run.status in RUN_ENDED:
        return REFUSED if (run.error or {}).get("code") in POLICY else FAILED
    return WAITING


def worker_elsewhere() -> bool:
    """Whether some other process works on this data."""
    if config().is_sqlite:
        return datalock.holder(config().data) is not None
    return selectors.worker_is_alive()


def _needs_a_person(step: Step) -> bool:
    if step.status == StepStatus.IN_DOUBT:
        return step.due_at is None
    told = step.reason == "approval" or (step.reason == "signal" and step.due_at is None)
    return step.status == StepStatus.WAITING and told


@contextlib.contextmanager
def _working() -> Iterator[Callable[[], None]]:
    """Yields what to call at every look: keeps this process working whenever nobody else is."""
    own: list[Any] = []
    asked = -TAKE_OVER_SECONDS

    def nudge() -> None:
        nonlocal asked
        if own:
            own[0].nudge()
        elif time.monotonic() - asked >= TAKE_OVER_SECONDS:
            asked = time.monotonic()
            own.extend(_start())

    try:
        yield nudge
    finally:
        for part in own:
            part.stop() if isinstance(part, WorkerProcess) else part.release()


def _start() -> list[Any]:
    """A started worker and the lock it works under; nothing when somebody else is at work."""
    lock = None
    if config().is_sqlite:
        try:
            lock = datalock.acquire(config().data, command="mn run --wait")
        except datalock.DataHeld:
            return []
    elif selectors.worker_is_alive():
        return []
    worker = WorkerProcess(sole=lock is not None)
    worker.start()
    return [worker, *([lock] if lock else [])]
