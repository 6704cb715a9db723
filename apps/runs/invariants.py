"""The engine's promises as queries; `mn doctor` runs them, and every fault test asserts them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta

from django.db.models import Count, Exists, F, Max, Min, OuterRef, Q

from apps.ledger.core.states import EffectState
from apps.ledger.models import Effect, Entry
from apps.runs.core.states import RUN_ENDED, STEP_ENDED, RunStatus, StepStatus, WaitReason
from apps.runs.models import Run, Step, Worker
from apps.runs.ports import desk
from mirrorneuron.base.clock import now

LIMIT = 50
"""Findings per invariant; one is already too many."""


@dataclass(frozen=True)
class Finding:
    invariant: str
    run: str
    what: str


def check_all() -> list[Finding]:
    """Every broken promise, at most 50 each; an empty list is the only good answer."""
    checks: tuple[Callable[[], Iterator[Finding]], ...] = (
        one_execution_per_key,
        nothing_stuck,
        ended_stays_ended,
        gapless_ledger,
        run_ends_with_its_steps,
        committed_is_readable,
    )
    return [finding for check in checks for finding in check()]


def one_execution_per_key() -> Iterator[Finding]:
    """I1. Each effect key is executed at most once: one row per key, opaque and probe never resent."""
    again = Effect.objects.filter(sends__gt=1, effect_class__in=["opaque", "probe"])
    for effect in again[:LIMIT]:
        yield Finding("I1", str(effect.run_id), f"{effect.tool} was sent {effect.sends} times under one key.")
    twice = (
        Entry.objects.filter(kind="effect.committed")
        .values("run_id", "data__key")
        .annotate(n=Count("id"))
        .filter(n__gt=1)
    )
    for row in twice[:LIMIT]:
        yield Finding("I1", str(row["run_id"]), f"effect {row['data__key']} was committed {row['n']} times.")


def nothing_stuck() -> Iterator[Finding]:
    """I2. No unfinished step without due time, waiter, live lease or open request."""
    at = now()
    alive = Worker.objects.filter(boot=OuterRef("worker"), lease_until__gte=at, stopped_at=None)
    # Reapers need a moment after a death; a minute without one is a finding.
    orphans = (
        Step.objects.filter(status=StepStatus.RUNNING)
        .filter(~Exists(alive), deadline_at__lt=at - timedelta(minutes=1))
        .exclude(run__pause_requested=True)
    )
    for step in orphans[:LIMIT]:
        yield Finding("I2", str(step.run_id), f"{step.path} runs without a live worker.")
    waiting = Step.objects.filter(status=StepStatus.WAITING, due_at=None).exclude(run__pause_requested=True)
    for step in waiting.exclude(reason__in=[WaitReason.APPROVAL, WaitReason.SIGNAL])[:LIMIT]:
        yield Finding("I2", str(step.run_id), f"{step.path} waits for {step.reason} without a due time.")
    for run_id, path in desk().missing_requests(limit=LIMIT):
        yield Finding("I2", str(run_id), f"{path} waits for an approval that was never asked.")
    doubtful = Step.objects.filter(status=StepStatus.IN_DOUBT, due_at=None)
    known = Effect.objects.filter(
        run_id=OuterRef("run_id"), step_path=OuterRef("path"), state=EffectState.IN_DOUBT
    )
    for step in doubtful.filter(~Exists(known))[:LIMIT]:
        yield Finding("I2", str(step.run_id), f"{step.path} is in doubt, but no effect of it is.")
    live = Step.objects.filter(run=OuterRef("pk")).exclude(status__in=STEP_ENDED)
    for run in Run.objects.exclude(status__in=RUN_ENDED).filter(~Exists(live))[:LIMIT]:
        yield Finding("I2", str(run.id), f"the run is {run.status}, but has no unfinished step.")


def ended_stays_ended() -> Iterator[Finding]:
    """I3. Terminal states change only by run.reopened: nothing but that follows a run's end."""
    ends = ["run.succeeded", "run.failed", "run.cancelled"]
    many = Entry.objects.filter(kind__in=ends).values("run_id").annotate(n=Count("id")).filter(n__gt=1)
    for row in many[:LIMIT]:
        reopened = Entry.objects.filter(run_id=row["run_id"], kind="run.reopened").count()
        if row["n"] > reopened + 1:
            yield Finding("I3", str(row["run_id"]), f"the run ended {row['n']} times.")
    twice = (
        Entry.objects.filter(kind="step.succeeded")
        .values("run_id", "step_path")
        .annotate(n=Count("id"))
        .filter(n__gt=1)
    )
    for row in twice[:LIMIT]:
        yield Finding("I3", str(row["run_id"]), f"{row['step_path']} succeeded {row['n']} times.")


def gapless_ledger() -> Iterator[Finding]:
    """I4. `seq` is gapless per run and ends at the run's own."""
    rows = (
        Entry.objects.values("run_id")
        .annotate(n=Count("id"), first=Min("seq"), last=Max("seq"))
        .filter(~Q(n=F("last")) | ~Q(first=1))
    )
    for row in rows[:LIMIT]:
        yield Finding(
            "I4", str(row["run_id"]), f"{row['n']} entries, numbered {row['first']} to {row['last']}."
        )
    last = Entry.objects.filter(run_id=OuterRef("pk"), seq=OuterRef("seq")).values("id")
    for run in Run.objects.filter(seq__gt=0).filter(~Exists(last))[:LIMIT]:
        yield Finding("I4", str(run.id), f"the run is at seq {run.seq}, which has no entry.")


def run_ends_with_its_steps() -> Iterator[Finding]:
    """I6. A run has ended exactly when all its steps have. (The other half is in I2.)"""
    live = Step.objects.filter(run=OuterRef("pk")).exclude(status__in=STEP_ENDED)
    for run in Run.objects.filter(status__in=RUN_ENDED).filter(Exists(live))[:LIMIT]:
        yield Finding("I6", str(run.id), f"the run {run.status}, but a step has not ended.")
    succeeded = Step.objects.filter(run=OuterRef("pk"), status=StepStatus.IN_DOUBT)
    for run in Run.objects.filter(status=RunStatus.SUCCEEDED).filter(Exists(succeeded))[:LIMIT]:
        yield Finding("I6", str(run.id), "the run succeeded with a step in doubt.")


def committed_is_readable() -> Iterator[Finding]:
    """I7. A committed effect's result is readable."""
    for effect in Effect.objects.filter(state=EffectState.COMMITTED, committed_at=None)[:LIMIT]:
        yield Finding("I7", str(effect.run_id), f"{effect.tool} is committed without a time.")
    flying = Effect.objects.filter(state=EffectState.IN_FLIGHT)
    running = Step.objects.filter(
        run_id=OuterRef("run_id"), path=OuterRef("step_path"), status=StepStatus.RUNNING
    )
    for effect in flying.filter(~Exists(running))[:LIMIT]:
        yield Finding("I7", str(effect.run_id), f"{effect.tool} is in flight, but its step is not running.")
