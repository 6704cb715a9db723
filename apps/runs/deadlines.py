"""Deadlines of whole runs and of steps over all their tries; attempts have their own, which the reaper keeps.

Level-triggered, in database time, by whichever process looks first. While a run is paused none passes; on
resume they move by the pause's length (ENGINE rules 12, 34).
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

from django.db.models import QuerySet

from apps.runs.core.limits import LIMITS
from apps.runs.core.plan import Plan
from apps.runs.core.state import StepState
from apps.runs.core.states import RUN_ENDED, StepStatus
from apps.runs.errors import RunNotFound, StaleStep
from apps.runs.models import Run, Step
from apps.runs.passing_over import passed_over
from mirrorneuron.base.clock import now

if TYPE_CHECKING:
    from apps.runs.transact import RunTransaction


def run_deadline_of(plan: Plan, at: datetime) -> datetime | None:
    """Until when a run that is started now must have ended, by its contract."""
    seconds = plan.document.contract.run_deadline
    return at + timedelta(seconds=seconds) if seconds else None


def runs_overdue(at: datetime) -> QuerySet[Run]:
    """A run's deadline is cleared when it ends, so only those under way are here; what stops already needs
    none."""
    going = Run.objects.filter(pause_requested=False, cancel_requested=False, error__isnull=True)
    return going.filter(deadline_at__lte=at)


def steps_overdue(at: datetime) -> QuerySet[Step]:
    """Steps that stand still past their deadline. What runs is the reaper's; what is in doubt is cleared up
    first; and a subflow's time is its child's."""
    return (
        Step.objects.filter(expires_at__lte=at, ended_at=None)  # As the index has it.
        .filter(status__in=[StepStatus.READY, StepStatus.WAITING])
        .exclude(run__pause_requested=True)
        .exclude(kind="subflow")
    )


def expire() -> int:
    """Fail what is overdue; returns how many runs and steps."""
    failed = 0
    for run_id in list(runs_overdue(now()).values_list("id", flat=True)[: LIMITS.due_batch]):
        failed += _in_run(run_id, "")
    steps = steps_overdue(now()).order_by("expires_at").values_list("run_id", "path")
    for run_id, path in list(steps[: LIMITS.due_batch]):
        failed += _in_run(run_id, path)
    return failed


def _in_run(run_id: UUID, path: str) -> int:
    from apps.runs.transact import RunBusy, locked_run

    try:
        with locked_run(run_id, path or None, skip_locked=True) as tx:
            if tx.state.pause_requested:
                return 0
            return _expire_step(tx, path) if path else _expire_run(tx)
    except (RunBusy, RunNotFound, StaleStep):
        return 0
    except Exception as exc:
        return passed_over(run_id, exc)


def _expire_run(tx: RunTransaction) -> int:
    deadline = tx.run.deadline_at
    if deadline is None or deadline > now():
        return 0
    if tx.state.status in RUN_ENDED or tx.state.cancel_requested or tx.state.is_failing:
        return 0
    tx.transition.run_updates["deadline_at"] = None
    tx.transition.fail_run(
        {
            "code": "run_deadline",
            "message": f"The run was to end by {deadline:%Y-%m-%d %H:%M:%S} UTC, and had not.",
            "permanent": True,
            "next": "Fork it to go on from what it has done, or give the contract a longer run_deadline.",
        }
    )
    return 1


def _expire_step(tx: RunTransaction, path: str) -> int:
    step = tx.step(path)
    if step.status not in (StepStatus.READY, StepStatus.WAITING) or not has_expired(step):
        return 0
    if step.is_resolving:
        return 0
    if step.status is StepStatus.WAITING:
        tx.transition.closed.append(path)
    tx.fail_step(path, step_deadline(step))
    return 1


def has_expired(step: StepState) -> bool:
    return step.expires_at is not None and step.expires_at <= now()


def step_deadline(step: StepState) -> dict[str, Any]:
    return {
        "code": "step_deadline",
        "message": f'Step "{step.path}" had not ended when the time for all its tries was over.',
        "permanent": True,
        "next": "Retry it by hand, skip it with a value, or give the node a longer `deadline`.",
    }


def shift(tx: RunTransaction, seconds: float) -> None:
    """A pause does not count; the steps' own deadlines move with their other times."""
    if tx.run.deadline_at is not None:
        tx.transition.run_updates["deadline_at"] = tx.run.deadline_at + timedelta(seconds=seconds)
