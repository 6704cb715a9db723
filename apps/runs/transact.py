"""The one way a run changes: lock its row, decide, write, commit, then tell.

    with locked_run(run_id) as tx:
        tx.transition.succeed(path, output)

The run's row comes first in every transaction (ENGINE rules 1, 2). A worker that knows the run at `seq` skips
reading: it raises `seq` from exactly that value, and only if that fails does it read and decide again. Every
step write compares status and fence; a write that matches no row is dropped as `StaleStep`.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from django.db import connection, transaction

from apps.ledger import live
from apps.ledger.services import Line, append
from apps.runs.core.plan import Plan
from apps.runs.core.state import RunState, StepState
from apps.runs.core.states import RunStatus, StepStatus
from apps.runs.core.transition import Transition
from apps.runs.doorbell import ring
from apps.runs.errors import RunNotFound, StaleStep
from apps.runs.models import Attempt, Run, Step
from apps.runs.names import Names
from apps.runs.plans import plan_for
from apps.runs.ports import desk
from mirrorneuron.base.clock import now
from mirrorneuron.base.safejson import storable

STEP_COLUMNS = (
    "id", "path", "node_id", "kind", "round", "status", "reason", "port", "taken", "fence", "attempt",
    "failures", "losses", "worker", "ready_at", "started_at", "due_at", "deadline_at", "memo", "labels",
    "model_calls", "tool_calls", "cost_microusd", "cost_unknown",
)  # fmt: skip
_JSON = frozenset({"taken", "labels", "memo", "output", "error", "input"})


class SeqMoved(Exception):
    """Somebody changed the run since we read it; decide again."""


class RunBusy(Exception):
    """Another worker holds the run's row just now."""


@dataclass
class RunTransaction:
    """An open transaction on one run."""

    run: Run
    """The row as read; its inputs are there, its flags may be older than `state`."""
    state: RunState
    transition: Transition
    names: Names
    rows: list[Callable[[], Any]] = field(default_factory=list)
    """Writes to other rows (journal, effects), made after the run's and its steps'."""
    after: list[Callable[[], None]] = field(default_factory=list)
    """Called after commit."""
    is_locked: bool = False
    """The run's row is ours, so `state` cannot be older than the database."""

    @property
    def plan(self) -> Plan:
        return self.transition.plan

    def step(self, path: str) -> StepState:
        """Raises StaleStep when the run has no such step."""
        try:
            return self.state.steps[path]
        except KeyError:
            raise StaleStep(f'Run {self.run.id} has no step "{path}".') from None

    def entry(self, kind: str, path: str = "", data: dict[str, Any] | None = None) -> None:
        step = self.state.steps.get(path)
        self.transition.entry(kind, step, data)

    def complete_step(self, path: str, output: Any, port: str = "", labels: tuple[str, ...] = ()) -> None:
        """A waiting step got its answer and is done; what follows becomes ready in this transaction."""
        self.transition.succeed(path, output, port, labels)

    def fail_step(self, path: str, error: dict[str, Any]) -> None:
        self.transition.fail(path, error)

    def wake_step(self, path: str, memo: dict[str, Any] | None = None) -> None:
        """A waiting step goes on with what it now knows."""
        self.transition.wake(path, memo)

    # --- writing ------------------------------------------------------------------------------------------

    def hold(self) -> None:
        """Lock the run's row now, before anything below it is looked at or written. Raises SeqMoved."""
        if self.is_locked:
            return
        rows = Run.objects.filter(id=self.state.id, seq=self.state.seq)
        if connection.features.has_select_for_update:
            rows = rows.select_for_update(of=("self",))
        if not rows.values_list("seq"):
            raise SeqMoved
        self.is_locked = True

    def write(self) -> None:
        """Store the decision. Raises SeqMoved when the state was read without the lock and is old by now."""
        t = self.transition
        t.settle()
        if t.needs_result:
            self._result()
        if not t.entries and not t.updates and not self.rows:
            return
        lines = [Line(e.kind, e.path, e.attempt, e.data) for e in t.entries]
        first, count = self.state.seq + 1, len(lines)
        rows = Run.objects.filter(id=self.state.id)
        if not self.is_locked:
            rows = rows.filter(seq=self.state.seq)
        if rows.update(seq=self.state.seq + count, **_storable(t.run_updates)) != 1:
            raise SeqMoved
        self._write_steps()
        for write_row in self.rows:
            write_row()
        append(
            workspace_id=self.state.workspace_id, run_id=self.state.id, first_seq=first, at=t.now, lines=lines
        )
        if t.closed:
            desk().close_all(run_id=self.state.id, step_paths=t.closed, state="cancelled")
        self.state.seq += count
        ready = sum(1 for path in t.updates if self.state.steps[path].status is StepStatus.READY)
        groups = [live.run_group(self.state.id)]
        if any(e.kind.startswith("approval.") or e.kind == "step.cancelled" for e in t.entries):
            groups.append(live.inbox_group(self.state.workspace_id))
        self.after.append(lambda: live.announce(*groups))
        if ready and self.state.status in (RunStatus.QUEUED, RunStatus.RUNNING, RunStatus.CANCELLING):
            self.after.append(lambda: ring(ready))

    def after_commit(self) -> None:
        """Announce and ring once the database has it."""
        for call in self.after:
            # Robust: what is committed is committed, whether or not anybody hears of it.
            transaction.on_commit(call, robust=True)

    def _write_steps(self) -> None:
        t = self.transition
        for path, fields in t.updates.items():
            if path in t.inserts:
                continue
            status, fence = t.expected[path]
            step = self.state.steps[path]
            changed = Step.objects.filter(id=step.id, status=status, fence=fence).update(**_storable(fields))
            if changed != 1:
                raise StaleStep(f'Step "{path}" of run {self.state.id} has moved on.')
        if t.inserts:
            rows = [self._new_row(self.state.steps[path], t.updates[path]) for path in t.inserts]
            for path, row in zip(t.inserts, Step.objects.bulk_create(rows), strict=True):
                self.state.steps[path].id = row.pk
        if t.attempts:
            Attempt.objects.bulk_create(
                Attempt(
                    step_id=self.state.steps[a.path].id, number=a.number, fence=a.fence, status=a.status,
                    worker=a.worker, ready_at=a.ready_at, started_at=a.started_at, ended_at=t.now,
                    error=storable(a.error),
                )
                for a in t.attempts
            )  # fmt: skip

    def _new_row(self, step: StepState, fields: dict[str, Any]) -> Step:
        node = self.plan.nodes[step.node_id]
        known = {name: getattr(step, name) for name in STEP_COLUMNS if name != "id"}
        known |= {name: value for name, value in fields.items() if name not in known}
        return Step(
            run_id=self.state.id,
            queue=node.queue or "default",
            priority=node.priority if node.priority is not None else self.run.priority,
            created_at=self.transition.now,
            **_storable(known),
        )

    def _result(self) -> None:
        from apps.runs.result import run_result

        output, checks, error = run_result(self)
        self.transition.run_updates.update(output=storable(output), checks=storable(checks))
        if error:
            # The run did everything, but its own outputs cannot be formed: say so, keep all steps.
            self.transition.run_updates.update(status=RunStatus.FAILED, error=error)
            self.state.status = RunStatus.FAILED
            last = self.transition.entries.pop()
            assert last.kind == "run.succeeded"
            self.transition.entry("run.failed", data={"error": error})
        elif checks:
            last = self.transition.entries.pop()
            self.transition.entry("run.checked", data={"checks": checks})
            self.transition.entries.append(last)


def _storable(fields: dict[str, Any]) -> dict[str, Any]:
    return {k: storable(v) if k in _JSON else v for k, v in fields.items()}


def read_steps(run_id: UUID) -> dict[str, StepState]:
    """All steps of a run without their payloads."""
    states = {}
    for row in Step.objects.filter(run_id=run_id).order_by("id").values_list(*STEP_COLUMNS):
        fields = dict(zip(STEP_COLUMNS, row, strict=True))
        fields["status"] = StepStatus(fields["status"])
        fields["taken"] = tuple(fields["taken"])
        fields["labels"] = tuple(fields["labels"])
        states[fields["path"]] = StepState(**fields)
    return states


def state_of(run: Run) -> RunState:
    return RunState(
        id=run.id,
        workspace_id=run.workspace_id,
        status=RunStatus(run.status),
        seq=run.seq,
        pause_requested=run.pause_requested,
        cancel_requested=run.cancel_requested,
        error=run.error,
        retries_used=run.retries_used,
        cost_microusd=run.cost_microusd,
        cost_unknown=run.cost_unknown,
        started_at=run.started_at,
        steps=read_steps(run.id),
    )


def open_transaction(
    run: Run, state: RunState, names: Names | None = None, *, is_locked: bool = True
) -> RunTransaction:
    """A transaction object over a known state; the caller opens and commits the database's own.

    is_locked: the caller holds the run's row; otherwise writing compares `seq`.
    """
    plan = plan_for(run.version_id)
    names = names or Names(run, plan)
    names.state = state
    transition = Transition(
        plan=plan, state=state, now=now(), evaluate=names.evaluate_for_decision, jitter=random.random(),
        learn=names.know,
    )  # fmt: skip
    return RunTransaction(run=run, state=state, transition=transition, names=names, is_locked=is_locked)


@contextmanager
def locked_run(run_id: UUID, *, skip_locked: bool = False) -> Iterator[RunTransaction]:
    """Lock a run, give its state, write what was decided, commit, then announce.

    Raises RunNotFound; RunBusy when `skip_locked` and another transaction holds the row.
    """
    with transaction.atomic():
        run = lock_run(run_id, skip_locked=skip_locked)
        tx = open_transaction(run, state_of(run))
        yield tx
        tx.write()
        tx.after_commit()


def lock_run(run_id: UUID, *, skip_locked: bool = False) -> Run:
    """Lock a run's row inside an open transaction (on SQLite the transaction itself is the lock).

    Raises RunNotFound; RunBusy when `skip_locked` and another transaction holds the row.
    """
    rows = Run.objects.all()
    if connection.features.has_select_for_update:
        rows = rows.select_for_update(skip_locked=skip_locked, of=("self",))
    run = rows.filter(id=run_id).first()
    if run is None:
        if skip_locked and Run.objects.filter(id=run_id).exists():
            raise RunBusy
        raise RunNotFound(f"There is no run {run_id}.", next="List runs with `mn runs list`.")
    return run
