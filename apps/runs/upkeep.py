"""What every worker does between steps: reap the dead, fire what is due. Level-triggered and bounded.

Nothing here remembers anything between calls: each looks at the rows as they are, so it does not matter which
process does it, how often, or whether the one before died in the middle.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any
from uuid import UUID

from django.db.models import Exists, OuterRef, Q, QuerySet

from apps.ledger.core.states import EffectState
from apps.ledger.models import Effect
from apps.ledger.selectors import entries, has_entry
from apps.runs import deadlines, held, queueing, slots, subflows
from apps.runs.at_work import works_on
from apps.runs.claim import timeout_of
from apps.runs.core.limits import LIMITS
from apps.runs.core.state import StepState
from apps.runs.core.states import RUN_ENDED, StepStatus, WaitReason
from apps.runs.doubts import leave_in_doubt
from apps.runs.errors import RunNotFound, StaleStep
from apps.runs.hooks import deliveries_due, settle_deliveries
from apps.runs.inline import CannotGoOn, go_on, going_on
from apps.runs.models import Step, Worker
from apps.runs.passing_over import passed_over
from apps.runs.ports import desk
from apps.runs.schedules import fire_schedules, schedules_due
from apps.runs.transact import RunBusy, RunTransaction, locked_run
from mirrorneuron.base.clock import now
from mirrorneuron.base.worded import Worded

PROOF_TRANSACTIONS = 1000
"""How far back the resume proof looks. A death can only repeat what was at work when it came; and a run may
be so long that reading it whole, for each step that is taken back, would hold up everything else."""
_SOME_TIME = datetime(1987, 6, 5, 4, 3, 2, tzinfo=UTC)
"""Stands in a worded question where the time of asking belongs."""


def upkeep(boot: UUID) -> int:
    """One round; returns how many steps it moved and runs it started."""
    return (
        reap(boot)
        + fire_due()
        + slots.admit_waiting()
        + queueing.expire()
        + deadlines.expire()
        + note_recoveries()
        + fire_schedules()
        + settle_deliveries()
        + subflows.deliver_ends()
    )


def anything_due(boot: UUID, queues: Sequence[str] = ()) -> bool:
    """What an idle worker asks each second: is there anything to claim in these queues, to fire, to take back
    or to start?"""
    return _worded(boot, tuple(queues)).is_any(now())


@lru_cache(maxsize=16)
def _worded(boot: UUID, queues: tuple[str, ...]) -> Worded:
    """To word it costs more than all else that an idle process does."""
    return Worded(lambda at: _question(boot, queues, at), _SOME_TIME, exists=True)


def _question(boot: UUID, queues: Sequence[str], at: datetime) -> QuerySet[Any, Any]:
    # One part for each index: with OR between them SQLite would look at every step there is. Of paused runs
    # nothing is claimed or fired, so what is ready or due in them is no reason to look further.
    ready = Step.objects.filter(status=StepStatus.READY, queue__in=queues, run__pause_requested=False)
    running = Step.objects.filter(status=StepStatus.RUNNING)
    lost = running.filter(Q(deadline_at__lt=at) | ~Q(worker=boot))
    elsewhere = held.runs().filter(Q(held_deadline_at__lt=at) | ~Q(held_worker=boot))
    others = (
        _due(at).values("id"),
        lost.values("id"),
        slots.wanted_now().values("id"),
        queueing.overdue(at).values("seq"),
        deadlines.runs_overdue(at).values("seq"),
        deadlines.steps_overdue(at).values("id"),
        schedules_due(at),
        deliveries_due(at),
        elsewhere.values("seq"),
        Worker.objects.filter(boot=boot, kill_requested_at__isnull=False).values("pid"),
    )
    return ready.values("id").union(*others, all=True)


def reap(boot: UUID) -> int:
    """Take back steps whose worker is dead or whose deadline has passed.

    boot: our own; its steps are reaped by deadline only, never by lease (ENGINE rule 10).
    """
    at = now()
    alive = Worker.objects.filter(boot=OuterRef("worker"), lease_until__gte=at, stopped_at=None)
    lost = (
        Step.objects.filter(status=StepStatus.RUNNING)
        .filter(Q(deadline_at__lt=at) | (~Q(worker=boot) & ~Exists(alive)))
        .order_by("deadline_at")
        .values_list("run_id", "path", "fence")[: LIMITS.reap_batch]
    )
    of_runs = held.lost(boot, at).order_by("held_deadline_at").values_list("id", "held_path")
    found = [*lost, *((run_id, path, held.FENCE) for run_id, path in of_runs[: LIMITS.reap_batch])]
    return sum(_reap_one(run_id, path or "", fence, boot) for run_id, path, fence in found)


def take_back(boot: UUID) -> int:
    """Give back steps that are claimed for this process although nothing here works on them."""
    before = now() - timedelta(seconds=LIMITS.claim_grace_seconds)
    claimed = Step.objects.filter(status=StepStatus.RUNNING, worker=boot, started_at__lt=before).values_list(
        "run_id", "path", "fence"
    )[: LIMITS.reap_batch]
    of_runs = held.runs().filter(held_worker=boot, held_started_at__lt=before)
    kept = of_runs.values_list("id", "held_path")[: LIMITS.reap_batch]
    return sum(
        _reap_one(run_id, path or "", fence, boot, abandoned=True)
        for run_id, path, fence in [*claimed, *((run_id, path, held.FENCE) for run_id, path in kept)]
        if not works_on(run_id, path or "", fence)
    )


def _reap_one(run_id: UUID, path: str, fence: int, boot: UUID, *, abandoned: bool = False) -> int:
    """abandoned: this process knows that nobody works on the step."""
    try:
        with locked_run(run_id, path, skip_locked=True) as tx:
            step = tx.step(path)
            if step.status is not StepStatus.RUNNING or step.fence != fence:
                return 0
            at = now()
            worker = Worker.objects.filter(boot=step.worker).first() if step.worker else None
            dead = worker is None or worker.lease_until < at or worker.stopped_at is not None
            late = step.deadline_at is not None and step.deadline_at < at
            if not late and not abandoned and (not dead or step.worker == boot):
                return 0
            why = "its worker is gone" if dead else "its deadline has passed"
            since = step.started_at
            # A new statement under the lock: an effect in flight decides between ready and in doubt. One that
            # was being looked into is still in doubt, and goes on being looked into.
            unknown = [EffectState.IN_FLIGHT, EffectState.IN_DOUBT]
            effects = list(Effect.objects.filter(run_id=run_id, step_path=path, state__in=unknown))
            if effects:
                leave_in_doubt(tx, path, effects, "The worker that sent it never reported.")
            elif abandoned:
                tx.transition.lose(path, "the answer to its claim was lost", counts=False)
            elif dead:
                # A death that was ordered, or a stop that ran out of time, is not the step's doing.
                ordered = worker is not None and bool(worker.kill_requested_at or worker.stopped_at)
                tx.transition.lose(path, why, counts=not ordered)
            else:
                error = _late(tx, step)
                tx.transition.try_again_or_fail(
                    path, error, permanent=bool(error["permanent"]), retry_after=None
                )
            if dead:
                tx.transition.recovered(path, _proof(tx, path, since, worker))
        return 1
    except (RunBusy, StaleStep, RunNotFound):
        return 0
    except Exception as exc:
        return passed_over(run_id, exc)


def _late(tx: RunTransaction, step: StepState) -> dict[str, Any]:
    """Which of its deadlines an attempt has missed."""
    if deadlines.has_expired(step):
        return deadlines.step_deadline(step)
    node = tx.transition.node_of(step)
    whole = timedelta(seconds=timeout_of(node))
    if node.progress is not None and step.started_at is not None and now() < step.started_at + whole:
        return {
            "code": "no_progress",
            "message": f'Step "{step.path}" has shown no progress for {node.progress:g} s.',
            "permanent": False,
            "next": "Find out where it hangs, or give the node a longer `progress`.",
        }
    return {
        "code": "attempt_timeout",
        "message": f'Step "{step.path}" was still at work when its time was over.',
        "permanent": False,
        "next": "Give the node a longer `timeout`, or find out what it was waiting for.",
    }


def _proof(tx: RunTransaction, path: str, since: datetime | None, worker: Worker | None) -> dict[str, Any]:
    """What the crash cost, counted from the ledger: steps and effects that happened more than once."""
    found = entries(tx.run.id, kinds=("step.succeeded", "effect.committed"), newest=PROOF_TRANSACTIONS)
    done = [e.step_path for e in found if e.kind == "step.succeeded"]
    committed = [e.data.get("key") for e in found if e.kind == "effect.committed"]
    return {
        "step": path,
        "kept": Step.objects.filter(run_id=tx.run.id, status=StepStatus.SUCCEEDED).count(),
        "repeated": len(done) - len(set(done)),
        "effects_repeated": len(committed) - len(set(committed)),
        "seconds": round((now() - since).total_seconds(), 3) if since else 0.0,
        "killed_by": "drill" if worker is not None and worker.kill_requested_at else "crash",
    }


def note_recoveries() -> int:
    """Give runs that were only waiting when a drill killed their worker their resume proof line too."""
    at = now()
    noted = 0
    dead = Worker.objects.filter(kill_run__isnull=False).filter(
        Q(lease_until__lt=at) | Q(stopped_at__isnull=False)
    )
    for worker in dead[:10]:
        assert worker.kill_run is not None
        try:
            with locked_run(worker.kill_run) as tx:
                if Worker.objects.filter(boot=worker.boot, kill_run__isnull=False).update(kill_run=None):
                    running = any(s.worker == worker.boot for s in tx.state.steps.values())
                    recovered = _already_recovered(tx, worker)
                    if not running and not recovered and tx.state.status not in RUN_ENDED:
                        waiting = [s for s in tx.state.steps.values() if not s.has_ended]
                        path = waiting[0].path if waiting else ""
                        tx.transition.recovered(path, _proof(tx, path, worker.kill_requested_at, worker))
                        noted += 1
        except RunNotFound:
            Worker.objects.filter(boot=worker.boot).update(kill_run=None)
        except Exception as exc:
            passed_over(worker.kill_run, exc)
    return noted


def _already_recovered(tx: RunTransaction, worker: Worker) -> bool:
    since = worker.kill_requested_at or worker.started_at
    return has_entry(tx.run.id, "run.recovered", since=since)


def _due(at: datetime) -> QuerySet[Step]:
    """Steps whose time has come in runs that may go on."""
    waiting = [StepStatus.WAITING, StepStatus.IN_DOUBT]
    return Step.objects.filter(status__in=waiting, due_at__lte=at, run__pause_requested=False)


def fire_due() -> int:
    """Move steps whose time has come: timers, retries, approvals past their due date, doubts to look into.

    Returns how many; with many due, those that a second allows, and at least a run's.
    """
    due = _due(now()).order_by("due_at").values_list("run_id", "path")
    by_run: dict[UUID, list[str]] = {}
    for run_id, path in list(due[: LIMITS.due_batch]):
        by_run.setdefault(run_id, []).append(path)
    moved, until = 0, time.monotonic() + LIMITS.due_seconds
    for run_id, paths in by_run.items():
        moved += _fire(run_id, paths)
        if moved and time.monotonic() > until:
            break
    return moved


@going_on
def _fire(run_id: UUID, paths: list[str]) -> int:
    moved = 0
    try:
        with locked_run(run_id, skip_locked=True) as tx:
            if tx.state.pause_requested:
                return 0
            for path in paths:
                step = tx.step(path)
                if step.due_at is None or step.due_at > now() or step.has_ended:
                    continue
                if step.status is StepStatus.IN_DOUBT:
                    tx.transition.wake(path)
                elif step.status is not StepStatus.WAITING:
                    continue
                elif step.reason == WaitReason.TIMER:
                    tx.entry("timer.fired", path, {"due_at": step.due_at.isoformat()})
                    tx.complete_step(path, {"fired_at": now().isoformat()})
                elif step.reason == WaitReason.APPROVAL:
                    _approval_due(tx, path)
                elif step.reason == WaitReason.CHILD:
                    subflows.stop_due(tx, path)
                else:
                    tx.transition.wake(path)
                moved += 1
            go_on(tx)
    except (RunBusy, RunNotFound, StaleStep):
        return 0
    except CannotGoOn:
        raise
    except Exception as exc:
        return passed_over(run_id, exc)
    return moved


def _nobody(tx: RunTransaction, path: str) -> dict[str, Any]:
    """The output of a question nobody answered, in the shape a person's rejection has."""
    proposal = Step.objects.get(run_id=tx.run.id, path=path).input
    return {"reason": "Nobody decided in time.", "proposal": proposal}


def _approval_due(tx: RunTransaction, path: str) -> None:
    """Apply the declared timeout action; an effect is never approved by the clock."""
    action = desk().expire(run_id=tx.run.id, step_path=path)
    tx.entry("approval.overdue", path, {"action": action})
    if action in ("reject", "edge") and tx.step(path).kind != "approval":
        # The question was about a call of this step; what nobody approved was not done.
        tx.fail_step(
            path,
            {"code": "approval_expired", "permanent": True,
             "message": f'Nobody approved what "{path}" was going to do in time; it was not done.'},
        )  # fmt: skip
        return
    match action:
        case "reject":
            tx.complete_step(path, _nobody(tx, path), port="rejected")
        case "edge":
            tx.complete_step(path, _nobody(tx, path), port="expired")
        case "remind" | "escalate":
            # Asked again a day later; the request stays open.
            tx.transition.remind(path, now() + timedelta(days=1))
        case _:
            tx.transition.remind(path, None)


def forget_old_workers() -> None:
    """Rows of dead workers are kept for a week, then dropped; a missing row means dead as well."""
    Worker.objects.filter(
        lease_until__lt=now() - timedelta(days=LIMITS.worker_retention_days), kill_run=None
    ).delete()
