"""How long the queue may get, and how long a run may stand in it.

A start that finds the queue full is refused with a time to come again; a run that was accepted is never
dropped in silence: past its deadline it fails, before its first step, and says so.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING
from uuid import UUID

from django.db.models import QuerySet

from apps.runs.core.limits import LIMITS
from apps.runs.core.plan import Plan
from apps.runs.core.states import RunStatus, StepStatus
from apps.runs.errors import QueueFull, RunNotFound, StaleStep
from apps.runs.models import Run, Step
from apps.runs.passing_over import passed_over
from mirrorneuron.base.clock import now
from mirrorneuron.config import config

if TYPE_CHECKING:
    from apps.runs.transact import RunTransaction

KNOWN_SECONDS = 1.0
"""How long a count is good for, as long as it is well below the most."""
WELL_BELOW = 0.9
COME_AGAIN_SECONDS = 10


@dataclass
class _Count:
    at: float
    waiting: int
    """As counted then, and each start of this process since."""


_counts: dict[tuple[UUID, str], _Count] = {}
_lock = threading.Lock()


def check_room(workspace_id: UUID, plan: Plan) -> None:
    """Raises QueueFull when as many runs of the workspace as may wait in a queue the run would start in."""
    most = config().max_queued
    if not most:
        return
    for queue in sorted({plan.nodes[node].queue or "default" for node in plan.roots}):
        waiting = _waiting(workspace_id, queue, most)
        if waiting >= most:
            raise QueueFull(
                f'Queue "{queue}" is full: runs waiting {waiting:,}, at most {most:,} of one workspace.',
                next=f"Start it again in {COME_AGAIN_SECONDS} s or later, or have more workers serve it.",
                retry_after=COME_AGAIN_SECONDS,
                queue=queue,
                waiting=waiting,
            )


def _waiting(workspace_id: UUID, queue: str, most: int) -> int:
    """Runs with a step that waits for a worker of this queue, about; exact near the most."""
    with _lock:
        known = _counts.get((workspace_id, queue))
        if known and time.monotonic() - known.at < KNOWN_SECONDS and known.waiting < most * WELL_BELOW:
            known.waiting += 1
            return known.waiting - 1
    ready = Step.objects.filter(workspace_id=workspace_id, queue=queue, status=StepStatus.READY)
    # Counted in the index of ready steps, and no further than needed.
    waiting = ready.values("id")[:most].count()
    if waiting >= most:
        # Many of them may belong to few runs.
        waiting = ready.values("run_id").distinct()[:most].count()
    with _lock:
        if len(_counts) > 10_000:
            _counts.clear()
        _counts[workspace_id, queue] = _Count(time.monotonic(), waiting + 1)
    return waiting


# --- deadlines --------------------------------------------------------------------------------------------


def deadline_of(plan: Plan, at: datetime) -> datetime | None:
    """Until when a run that is started now must have begun; the contract's word, else the installation's."""
    seconds = plan.document.contract.queue_deadline or config().queue_deadline_seconds
    return at + timedelta(seconds=seconds) if seconds else None


def may_begin(tx: RunTransaction) -> bool:
    """Called in a run's claims: notes that it has begun. False: it came too late, and has failed."""
    deadline = tx.run.queue_deadline_at
    if deadline is None:
        return True
    if tx.state.status is RunStatus.QUEUED and deadline <= now():
        _fail(tx, deadline)
        return False
    tx.transition.run_updates["queue_deadline_at"] = None
    return True


def overdue(at: datetime) -> QuerySet[Run]:
    """Runs nobody has begun in time. One that was cancelled, or runs without a claim, keeps its deadline."""
    waiting = Run.objects.filter(status=RunStatus.QUEUED, pause_requested=False)
    return waiting.filter(queue_deadline_at__lte=at)


def expire() -> int:
    """Fail runs that nobody has begun in time; returns how many."""
    from apps.runs.transact import RunBusy, locked_run

    failed = 0
    for run_id in list(overdue(now()).values_list("id", flat=True)[: LIMITS.due_batch]):
        try:
            with locked_run(run_id, skip_locked=True) as tx:
                if tx.run.queue_deadline_at is not None and not tx.state.pause_requested:
                    failed += not may_begin(tx)
        except (RunBusy, RunNotFound, StaleStep):
            continue
        except Exception as exc:
            passed_over(run_id, exc)
    return failed


def shift_deadline(tx: RunTransaction, seconds: float) -> None:
    """A pause does not count."""
    if tx.run.queue_deadline_at is not None:
        later = tx.run.queue_deadline_at + timedelta(seconds=seconds)
        tx.transition.run_updates["queue_deadline_at"] = later


def _fail(tx: RunTransaction, deadline: datetime) -> None:
    waited = (now() - tx.run.created_at).total_seconds()
    tx.transition.run_updates["queue_deadline_at"] = None
    tx.transition.fail_run(
        {
            "code": "queue_deadline",
            "message": f"It waited {waited:.0f} s for a worker; it was to begin by {deadline:%H:%M:%S} UTC.",
            "permanent": True,
            "next": "Nothing was done. Start it again, or let more workers serve its queue.",
        }
    )
