"""Why a run is where it is, in words: what it works on, what it waits for, and whom nobody serves.

Looks at the rows as they are; every reason for which a run may not move has its sentence here.
"""

from __future__ import annotations

from collections.abc import Sequence

from apps.runs.core.limits import LIMITS
from apps.runs.core.plan import is_undo
from apps.runs.core.states import STEP_ENDED, RunStatus, StepStatus, WaitReason
from apps.runs.models import Run, Step, Worker
from apps.runs.ports import handler_for
from apps.runs.views import slot_words
from mirrorneuron.base.clock import now

_REASONS = {
    "approval": "a person's decision",
    "timer": "its time",
    "retry": "the next try",
    "signal": "a signal from outside",
    "poll": "what it looks for outside",
    "person": "a person, because it could not take back what was done",
    "child": "what runs inside it",
}
_CONTAINERS = frozenset(["map", "loop", "item", "round", "subflow"])
"""Kinds the engine opens and closes itself."""


def why(run: Run, steps: Sequence[Step]) -> str:
    """One sentence, or a few."""
    match run.status:
        case RunStatus.SUCCEEDED:
            return "All steps have ended; the run succeeded."
        case RunStatus.CANCELLED:
            return "A person cancelled the run."
        case RunStatus.FAILED:
            error = run.error or {}
            where = f'Step "{error["step"]}" failed: ' if error.get("step") else ""
            return f"{where}{error.get('message', 'the run failed.')}"
        case RunStatus.PAUSED:
            return "The run is paused; nothing starts until somebody resumes it."
        case RunStatus.CANCELLING:
            return _cancelling(steps)
    running = [s for s in steps if s.status == StepStatus.RUNNING]
    lost = set(lost_steps(running))
    if at_work := [s.path for s in running if s.path not in lost]:
        return f"Working on {', '.join(at_work)}."
    if lost:
        return " ".join(_of_lost(step) for step in running)
    if ready := [s for s in steps if s.status == StepStatus.READY]:
        return _of_ready(ready)
    waiting = [s for s in steps if s.status in (StepStatus.WAITING, StepStatus.IN_DOUBT)]
    # What runs inside a container says more than the container.
    inner = [s for s in waiting if s.reason != "child"] or waiting
    return ("; ".join(map(_of_waiting, inner)) + ".") if inner else "Nothing is active."


def _cancelling(steps: Sequence[Step]) -> str:
    given_up = [s.path for s in steps if s.status == StepStatus.WAITING and s.reason == WaitReason.PERSON]
    if given_up:
        return f"A person has to say how it goes on: {', '.join(given_up)} could not take back what was done."
    if any(is_undo(s.path) for s in steps if s.status not in STEP_ENDED):
        return "The run is being cancelled and takes back what it has done."
    return "The run is being cancelled; what is in flight settles first."


def lost_steps(running: Sequence[Step]) -> list[str]:
    """Those whose worker is gone."""
    if not running:
        return []
    boots = {s.worker for s in running if s.worker}
    alive = Worker.objects.filter(boot__in=boots, lease_until__gte=now(), stopped_at=None)
    living = set(alive.values_list("boot", flat=True))
    return [s.path for s in running if s.worker not in living]


def _of_lost(step: Step) -> str:
    worker = Worker.objects.filter(boot=step.worker).first() if step.worker else None
    who = f"the worker on {worker.host} (process {worker.pid})" if worker else "a worker nobody remembers"
    then = "another one takes it back at its next look" if _live() else "no other is running to take it back"
    return f"{step.path} was with {who}, which is gone; {then}."


def _of_ready(ready: Sequence[Step]) -> str:
    first = ready[0]
    if first.kind not in _CONTAINERS and handler_for(first.kind) is None:
        return f'{first.path} is of kind "{first.kind}", which this release cannot run.'
    workers = _live()
    if not workers:
        return f"{first.path} is ready, but no worker is running."
    served = {name for worker in workers for name in worker.queues or ["default"]}
    if deaf := [s for s in ready if s.queue not in served]:
        return f'{deaf[0].path} is ready, but no worker listens on its queue "{deaf[0].queue}".'
    if lossy := [s for s in ready if s.losses]:
        left = LIMITS.poison_losses - lossy[0].losses
        return (
            f"{lossy[0].path} was at work when {_times(lossy[0].losses)} died, so it waits for a process of "
            f"its own; after {_times(left)} more it counts as failed."
        )
    are = "is" if len(ready) == 1 else "are"
    return f"{', '.join(s.path for s in ready)} {are} ready and waits for a free worker."


def _times(count: int) -> str:
    return "a worker" if count == 1 else f"{count} workers"


def _of_waiting(step: Step) -> str:
    if step.status == StepStatus.IN_DOUBT:
        who = "it is looked into again soon" if step.due_at else "a person has to say"
        return f"{step.path}: nobody knows yet whether its effect happened; {who}"
    what = slot_words(step) if step.reason == "slot" else _REASONS.get(step.reason, step.reason)
    return f"{step.path} waits for {what}"


def _live() -> list[Worker]:
    return list(Worker.objects.filter(lease_until__gte=now(), stopped_at=None))
