"""The engine's promises as queries; `mn doctor` runs them, and every fault test asserts them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import islice
from uuid import UUID

from django.db.models import Exists, OuterRef, Q, QuerySet

from apps.ledger.core.lines import Line, unpacked
from apps.ledger.core.states import EffectState
from apps.ledger.models import Effect, EntryBatch, Payload, PayloadUse
from apps.runs import held, slots
from apps.runs.core.states import RUN_ENDED, STEP_ENDED, RunStatus, StepStatus, WaitReason
from apps.runs.models import Run, Slot, Step, Worker
from apps.runs.ports import desk
from mirrorneuron.base.clock import now

LIMIT = 50
"""Findings per check; one is already too many."""
LEDGER_BATCHES = 500_000
"""How many of the newest runs' transactions are read back; about ten seconds' worth."""
ENDS = ("run.succeeded", "run.failed", "run.cancelled")


@dataclass(frozen=True)
class Finding:
    invariant: str
    run: str
    what: str


def check_all() -> list[Finding]:
    """Every broken promise, at most 50 a check; an empty list is the only good answer."""
    checks: tuple[Callable[[], Iterator[Finding]], ...] = (
        one_execution_per_key,
        nothing_stuck,
        histories_hold,
        ledgers_end_at_their_runs,
        slots_are_counted_right,
        run_ends_with_its_steps,
        committed_is_readable,
    )
    return [finding for check in checks for finding in check()]


def one_execution_per_key() -> Iterator[Finding]:
    """I1. Each effect key is executed at most once: one row per key, opaque and probe never resent."""
    again = Effect.objects.filter(sends__gt=1, effect_class__in=["opaque", "probe"])
    for effect in again[:LIMIT]:
        yield Finding("I1", str(effect.run_id), f"{effect.tool} was sent {effect.sends} times under one key.")


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
    for run in held.orphaned(at)[:LIMIT]:
        yield Finding("I2", str(run.id), f"{run.held_path} runs without a live worker.")
    waiting = Step.objects.filter(status=StepStatus.WAITING, due_at=None).exclude(run__pause_requested=True)
    known_reasons = [
        WaitReason.APPROVAL, WaitReason.CHILD, WaitReason.PERSON, WaitReason.SIGNAL, WaitReason.SLOT
    ]  # fmt: skip
    for step in [*waiting.exclude(reason__in=known_reasons)[:LIMIT], *_childless(waiting)[:LIMIT]]:
        yield Finding("I2", str(step.run_id), f"{step.path} waits for {step.reason} without a due time.")
    for run_id, path in desk().missing_requests(limit=LIMIT):
        yield Finding("I2", str(run_id), f"{path} waits for an approval that was never asked.")
    doubtful = Step.objects.filter(status=StepStatus.IN_DOUBT, due_at=None)
    known = Effect.objects.filter(
        run_id=OuterRef("run_id"), step_path=OuterRef("path"), state=EffectState.IN_DOUBT
    )
    for step in doubtful.filter(~Exists(known))[:LIMIT]:
        yield Finding("I2", str(step.run_id), f"{step.path} is in doubt, but no effect of it is.")
    over = Step.objects.filter(run_id=OuterRef("run_id"), path=OuterRef("step_path"), status__in=STEP_ENDED)
    for effect in Effect.objects.filter(state=EffectState.IN_DOUBT).filter(Exists(over))[:LIMIT]:
        yield Finding("I2", str(effect.run_id), f"{effect.tool} is in doubt, but its step has ended.")
    live = Step.objects.filter(run=OuterRef("pk")).exclude(status__in=STEP_ENDED)
    resting = Run.objects.exclude(status__in=RUN_ENDED).filter(held_worker=None)
    for run in resting.filter(~Exists(live))[:LIMIT]:
        yield Finding("I2", str(run.id), f"the run is {run.status}, but has no unfinished step.")


@dataclass
class History:
    """What a run's ledger says about itself, read from its newest transaction to its oldest."""

    run_id: UUID
    first: int
    """Lowest number read so far."""
    broken_at: int | None = None
    """A number that two transactions claim, or none."""
    counts: Counter[str] = field(default_factory=Counter)
    succeeded: Counter[str] = field(default_factory=Counter)
    committed: Counter[str] = field(default_factory=Counter)

    def read(self, seq: int, lines: list[Line]) -> None:
        if seq != self.first - 1 and self.broken_at is None:
            self.broken_at = max(seq, self.first - 1)
        self.first = seq - len(lines) + 1
        for line in lines:
            if line.kind in ENDS:
                self.counts["ended"] += 1
            elif line.kind == "run.reopened":
                self.counts["reopened"] += 1
            elif line.kind == "step.succeeded":
                self.succeeded[line.step_path] += 1
            elif line.kind == "effect.committed":
                self.committed[str(line.data.get("key"))] += 1

    def findings(self) -> Iterator[Finding]:
        run = str(self.run_id)
        for key, n in self.committed.items():
            if n > 1:
                yield Finding("I1", run, f"effect {key} was committed {n} times.")
        if self.counts["ended"] > self.counts["reopened"] + 1:
            yield Finding("I3", run, f"the run ended {self.counts['ended']} times.")
        for path, n in self.succeeded.items():
            if n > 1:
                yield Finding("I3", run, f"{path} succeeded {n} times.")
        if self.broken_at is None and self.first != 1:
            self.broken_at = self.first - 1
        if self.broken_at is not None:
            yield Finding("I4", run, f"its entries do not follow one another at number {self.broken_at}.")


def histories_hold() -> Iterator[Finding]:
    """I1, I3, I4 as the ledger tells them: no effect is committed twice, only run.reopened follows an end, no
    step succeeds twice, and every run's numbers are gapless from 1."""
    going = set(Run.objects.filter(removed_at__isnull=False).values_list("id", flat=True))
    histories = (history for history in _histories() if history.run_id not in going)
    return islice((finding for history in histories for finding in history.findings()), LIMIT)


def _histories() -> Iterator[History]:
    """Every run's history, the newest run first, in one pass that holds one run at a time."""
    batches = EntryBatch.objects.order_by("-run_id", "-seq").values_list("run_id", "seq", "lines")
    history: History | None = None
    read = 0
    for run_id, seq, text in batches[:LEDGER_BATCHES].iterator(chunk_size=2000):
        if history is None or history.run_id != run_id:
            if history is not None:
                yield history
            history = History(run_id, first=seq + 1)
        history.read(seq, unpacked(text))
        read += 1
    if history is not None and read < LEDGER_BATCHES:
        yield history  # Otherwise its beginning was not read, so nothing can be said of it.


def ledgers_end_at_their_runs() -> Iterator[Finding]:
    """I4. A run's number is that of its last entry."""
    last = EntryBatch.objects.filter(run_id=OuterRef("pk"), seq=OuterRef("seq"))
    for run in Run.objects.filter(seq__gt=0, removed_at=None).filter(~Exists(last))[:LIMIT]:
        yield Finding("I4", str(run.id), f"the run is at seq {run.seq}, where no transaction ends.")
    later = EntryBatch.objects.filter(run_id=OuterRef("pk"), seq__gt=OuterRef("seq"))
    for run in Run.objects.filter(Exists(later))[:LIMIT]:
        yield Finding("I4", str(run.id), f"the run is at seq {run.seq}, but its ledger goes on.")


def slots_are_counted_right() -> Iterator[Finding]:
    """I5. Slots in use equal running steps; and (I2) whoever waits for a slot is known to be waiting."""
    for slot in slots.miscounted()[:LIMIT]:
        running = slot.running  # type: ignore[attr-defined]
        what = f'concurrency key "{slot.key}" counts {slot.in_use} steps, but {running} run with it.'
        yield Finding("I5", "", what)
    mine = Slot.objects.filter(workspace_id=OuterRef("workspace_id"), key=OuterRef("slot"))
    unseen = Step.objects.filter(status=StepStatus.RUNNING).exclude(slot="").filter(~Exists(mine))
    for step in unseen[:LIMIT]:
        yield Finding("I5", str(step.run_id), f'{step.path} runs with key "{step.slot}", which has no slot.')
    waiting = Step.objects.filter(status=StepStatus.WAITING, reason=WaitReason.SLOT, due_at=None)
    for step in waiting.filter(~Exists(mine.filter(is_wanted=True)))[:LIMIT]:
        yield Finding(
            "I2", str(step.run_id), f'{step.path} waits for key "{step.slot}", unknown to its slot.'
        )


def run_ends_with_its_steps() -> Iterator[Finding]:
    """I6. A run has ended exactly when all its steps have. (The other half is in I2.)"""
    live = Step.objects.filter(run=OuterRef("pk")).exclude(status__in=STEP_ENDED)
    for run in Run.objects.filter(status__in=RUN_ENDED).filter(Exists(live))[:LIMIT]:
        yield Finding("I6", str(run.id), f"the run {run.status}, but a step has not ended.")
    for run in held.runs().filter(status__in=RUN_ENDED)[:LIMIT]:
        yield Finding("I6", str(run.id), f"the run {run.status}, but {run.held_path} has not ended.")
    twice = Step.objects.filter(run=OuterRef("pk"), path=OuterRef("held_path"))
    for run in held.runs().filter(Q(held_path=None) | Exists(twice))[:LIMIT]:
        yield Finding("I6", str(run.id), f"the run holds {run.held_path}, which has a row of its own.")
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
    holding = Run.objects.filter(id=OuterRef("run_id"), held_path=OuterRef("step_path"))
    for effect in flying.filter(~Exists(running), ~Exists(holding))[:LIMIT]:
        yield Finding("I7", str(effect.run_id), f"{effect.tool} is in flight, but its step is not running.")
    stored = Payload.objects.filter(hash=OuterRef("hash"), workspace_id=OuterRef("workspace_id"))
    for use in PayloadUse.objects.filter(~Exists(stored))[:LIMIT]:
        yield Finding("I7", str(use.run_id), f"its payload {use.hash[:16]}… is not stored.")


def _childless(waiting: QuerySet[Step]) -> QuerySet[Step]:
    """Steps that wait for children although none of theirs is left that could end."""
    inside = Step.objects.filter(run=OuterRef("run")).exclude(status__in=STEP_ENDED)
    passes = inside.filter(node_id=OuterRef("node_id"), kind__in=["item", "round"])
    steps = inside.filter(scope=OuterRef("scope")).exclude(id=OuterRef("id"))
    held_inside = Run.objects.filter(id=OuterRef("run"), held_worker__isnull=False)
    child = Run.objects.filter(parent_id=OuterRef("run"), parent_path=OuterRef("path")).filter(
        ~Q(status__in=RUN_ENDED)
        | Q(ended_at__gte=now() - timedelta(minutes=1))  # Its end is about to be delivered.
    )
    return waiting.filter(reason=WaitReason.CHILD).filter(
        Q(kind__in=["map", "loop"]) & ~Exists(passes)
        | Q(kind__in=["item", "round"]) & ~Exists(steps) & ~Exists(held_inside)
        | Q(kind="subflow") & ~Exists(child)
    )
