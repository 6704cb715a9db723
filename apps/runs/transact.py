"""The one way a run changes: lock its row, decide, write, commit, then tell.

    with locked_run(run_id) as tx:
        tx.transition.succeed(path, output)

The run's row comes first in every transaction (ENGINE rules 1, 2). A worker that knows the run at `seq` skips
reading: it raises `seq` from exactly that value, and only if that fails does it read and decide again. Every
step write compares status and fence; a write that matches no row is dropped as `StaleStep`.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import ceil
from typing import Any
from uuid import UUID

from django.db import connection, transaction

from apps.ledger import live
from apps.ledger.core.lines import Line
from apps.runs import held as held_step
from apps.runs import slots, store
from apps.runs.core.decision import ArchivedAttempt
from apps.runs.core.limits import LIMITS
from apps.runs.core.plan import Plan, enclosing, scope_of
from apps.runs.core.state import RunState, StepState
from apps.runs.core.states import RUN_ENDED, STEP_ENDED, RunStatus, StepStatus
from apps.runs.core.transition import Transition
from apps.runs.doorbell import ring
from apps.runs.errors import RunNotFound, StaleStep
from apps.runs.models import Run, Step
from apps.runs.names import Names
from apps.runs.payloads import packed_fields, packed_value, unwritten, write
from apps.runs.plans import plan_for
from apps.runs.ports import desk
from apps.runs.undo import undoable
from mirrorneuron.base.clock import now
from mirrorneuron.base.packed import Leaf
from mirrorneuron.base.safejson import storable

STEP_COLUMNS = (
    "id", "path", "node_id", "kind", "round", "status", "reason", "port", "taken", "fence", "attempt",
    "failures", "losses", "slot", "worker", "ready_at", "started_at", "due_at", "deadline_at",
    "expires_at", "memo",
    "labels", "model_calls", "tool_calls", "cost_microusd", "cost_unknown",
)  # fmt: skip


class SeqMoved(Exception):
    """Somebody changed the run since we read it; decide again."""


class RunBusy(Exception):
    """Another worker holds the run's row just now."""


class OpenedLate:
    """`transaction.atomic()` that begins only when asked to: a single statement needs none around it, and
    BEGIN and COMMIT would be two round trips more."""

    def __init__(self) -> None:
        self._atomic: Any = None

    def begin(self) -> None:
        if self._atomic is None:
            self._atomic = transaction.atomic()
            self._atomic.__enter__()

    def __enter__(self) -> OpenedLate:
        if connection.in_atomic_block or not store.writes_alone():
            self.begin()
        return self

    def __exit__(self, *raised: Any) -> None:
        if self._atomic is not None:
            self._atomic.__exit__(*raised)


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
    opening: OpenedLate | None = None
    """The transaction, when it may not have begun yet; None when whoever made this object has opened it."""
    new_run: dict[str, Any] | None = None
    """Columns of the run's row when this transaction starts the run."""
    inserted: list[str] = field(default_factory=list)
    """Paths of the steps that get their rows in this transaction."""
    asks: tuple[str, ...] = ()
    """Queues whose worker has nothing to go on with: is anything else ready in them?"""
    is_quiet: bool = False
    """It was asked, and nothing is: neither before this transaction nor by what it brought about."""

    @property
    def plan(self) -> Plan:
        return self.transition.plan

    def step(self, path: str) -> StepState:
        """Raises StaleStep when the run has no such step."""
        step = self.state.find(path)
        if step is None:
            raise StaleStep(f'Run {self.run.id} has no step "{path}".')
        return step

    def entry(self, kind: str, path: str = "", data: dict[str, Any] | None = None) -> None:
        step = self.state.find(path) if path else None
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
        self.begin()
        rows = Run.objects.filter(id=self.state.id, seq=self.state.seq)
        if connection.features.has_select_for_update:
            rows = rows.select_for_update(of=("self",))
        if not rows.values_list("seq"):
            raise SeqMoved
        self.is_locked = True

    def begin(self) -> None:
        """Open the transaction, if it is not: from here on several statements belong together."""
        if self.opening is not None:
            self.opening.begin()

    def decide(self) -> None:
        """The last word of the decision: the run's status, and its result if it has just succeeded."""
        self.transition.settle()
        if self.run.deadline_at is not None and self.state.status in RUN_ENDED:
            self.transition.run_updates["deadline_at"] = None
        if self.transition.needs_result:
            self._result()

    def write(self) -> None:
        """Store the decision. Raises SeqMoved when the state was read without the lock and is old by now."""
        t = self.transition
        self.decide()
        slots.let_go(self)
        if self.run.parent_id is not None and "ended_at" in t.run_updates:
            from apps.runs.subflows import report_end

            report_end(self)
        if not t.entries and not t.updates and not self.rows and self.new_run is None:
            return
        leaves: list[Leaf] = []
        writes = self._write_set(leaves)
        new = unwritten(self.state.id, leaves)
        if self.rows or t.closed or new:
            self.begin()
        self.state.seq = writes.to_seq
        writes.asks = self.asks
        ids = store.write(writes)
        if ids is None:
            raise SeqMoved
        for path, id in zip(self.inserted, ids, strict=True):
            self.state.steps[path].id = id
        write(self.state.workspace_id, self.state.id, new)
        for write_row in self.rows:
            write_row()
        if t.closed:
            desk().close_all(run_id=self.state.id, step_paths=t.closed, state="cancelled")
        ready = self.queues_of(t.updates)
        # What is done after the commit may make steps of other runs ready.
        self.is_quiet = writes.is_quiet and not ready and not self.after
        groups = [live.run_group(self.state.id)]
        if any(e.kind.startswith("approval.") or e.kind == "step.cancelled" for e in t.entries):
            groups.append(live.inbox_group(self.state.workspace_id))
        self.after.append(lambda: live.announce(*groups))
        if ready and self.state.status in (RunStatus.QUEUED, RunStatus.RUNNING, RunStatus.CANCELLING):
            self.after.append(lambda: ring(ready))

    def queues_of(self, paths: Iterable[str]) -> list[str]:
        """The queues of those of these steps that are ready, one entry for each worker that is of use: steps
        that only compute are worked many in one commit."""
        found, pure = [], Counter[str]()
        for path in paths:
            step = self.state.steps[path]
            if step.status is not StepStatus.READY:
                continue
            queue = self.transition.node_of(step).queue or "default"
            if self.is_pure(step):
                pure[queue] += 1
            else:
                found.append(queue)
        return found + [q for q, n in pure.items() for _ in range(ceil(n / LIMITS.inline_steps))]

    def is_pure(self, step: StepState) -> bool:
        """Whether a step only computes, and never harmed a worker."""
        if step.node_id not in self.plan.all_pure or step.is_pass or step.is_undo or step.losses:
            return False
        return step.node_id in self.plan.for_scope(step.scope).pure

    def is_light(self, step: StepState) -> bool:
        """Whether a step only computes, and not for long."""
        return self.is_pure(step) and step.node_id in self.plan.for_scope(step.scope).light

    def learn_ids(self) -> None:
        """Ask for the ids of new steps: their transaction happened, but its answer was lost."""
        known = Step.objects.filter(run_id=self.state.id, path__in=self.inserted)
        for path, id in known.values_list("path", "id"):
            self.state.steps[path].id = id

    def after_commit(self) -> None:
        """Announce and ring once the database has it."""
        for call in self.after:
            # Robust: what is committed is committed, whether or not anybody hears of it.
            transaction.on_commit(call, robust=True)

    def _write_set(self, leaves: list[Leaf]) -> store.WriteSet:
        """leaves: gets the payloads that the rows refer to."""
        t, state = self.transition, self.state
        run_fields = packed_fields(t.run_updates, leaves)
        new, updates, inserts, lifted = set(t.inserts), [], [], []
        held = state.held if state.held and state.held not in t.updates else ""
        for path, fields in t.updates.items():
            step = state.steps[path]
            if path != state.held and not held and held_step.may_hold(t, path, self.run.created_at):
                held = path
                run_fields |= held_step.columns_of(step)
                run_fields["held_memo"] = packed_value(step.memo, leaves)
                if path not in new:
                    status, fence = t.expected[path]
                    lifted.append(store.StepUpdate(step.id, path, str(status), fence, {}))
                    step.id = 0
            elif path in new or path == state.held:
                self.inserted.append(path)
                inserts.append(self._new_row(step, fields, leaves))
            else:
                status, fence = t.expected[path]
                updates.append(
                    store.StepUpdate(step.id, path, str(status), fence, packed_fields(fields, leaves))
                )
        if state.held and not held:
            run_fields |= held_step.NOTHING
        state.held = held
        return store.WriteSet(
            workspace_id=state.workspace_id,
            run_id=state.id,
            from_seq=None if self.is_locked else state.seq,
            to_seq=state.seq + len(t.entries),
            at=t.now,
            run_fields=run_fields,
            new_run=None if self.new_run is None else packed_fields(self.new_run, leaves),
            updates=updates,
            lifted=lifted,
            inserts=inserts,
            attempts=[self._archived(a) for a in t.attempts],
            lines=[Line(e.kind, e.path, e.attempt, e.data) for e in t.entries],
        )

    def _new_row(self, step: StepState, fields: dict[str, Any], leaves: list[Leaf]) -> dict[str, Any]:
        node = self.transition.node_of(step)
        row = packed_fields(fields, leaves)
        for name in STEP_COLUMNS:
            if name != "id":
                row[name] = getattr(step, name)
        row.update(
            run_id=self.state.id,
            scope=step.scope,
            workspace_id=self.state.workspace_id,
            queue=node.queue or "default",
            priority=node.priority if node.priority is not None else self.run.priority,
            memo=packed_value(step.memo, leaves),
        )
        return row

    def _archived(self, attempt: ArchivedAttempt) -> dict[str, Any]:
        id = self.state.steps[attempt.path].id
        return {
            **({"step_id": id} if id else {"path": attempt.path}),
            "number": attempt.number,
            "fence": attempt.fence,
            "status": attempt.status,
            "worker": attempt.worker,
            "ready_at": attempt.ready_at,
            "started_at": attempt.started_at,
            "ended_at": self.transition.now,
            "error": storable(attempt.error),
        }

    def _result(self) -> None:
        from apps.runs.result import run_result

        output, checks, error = run_result(self)
        self.transition.run_updates.update(output=output, checks=checks)
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


def open_scopes(run_id: UUID, prefix: str = "") -> list[str]:
    """Scopes beginning with `prefix` in which something has not ended."""
    rows = Step.objects.filter(run_id=run_id).exclude(status__in=STEP_ENDED)
    if prefix:
        rows = rows.filter(scope__startswith=prefix)
    return list(rows.order_by().values_list("scope", flat=True).distinct())


def state_of(run: Run, path: str | None = None, top: list[StepState] | None = None) -> RunState:
    """A run as stored. top: the steps of its outermost scope, if they have been read.

    path: the step a decision is about; of a run with maps or loops only the scopes around it are read, the
    others when they are needed. None reads every scope in which something has not ended.
    """
    state = RunState(
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
        active=run.active,
        idle=run.idle,
        stuck=run.stuck,
    )
    plan = plan_for(run.version_id)
    held = held_step.state_of(run, plan)
    state.held = held.path if held else ""
    if not plan.bodies:
        found_at_top = top if top is not None else store.read_steps(run.id)
        state.add_scope("", [*found_at_top, *([held] if held else [])])
        return state
    state.load = lambda scope: store.read_steps(run.id, [scope])
    state.load_open = lambda prefix: open_scopes(run.id, prefix)
    wanted = enclosing(scope_of(path)) if path is not None else ["", *open_scopes(run.id)]
    if held:
        wanted = [*wanted, held.scope]  # It is only known from here, so its scope cannot be read later.
    wanted = list(dict.fromkeys(around for scope in wanted for around in enclosing(scope)))
    found: dict[str, list[StepState]] = {scope: [] for scope in wanted}
    found[""] += top or []
    missing = [scope for scope in wanted if scope or top is None]
    for step in store.read_steps(run.id, missing) if missing else ():
        found[step.scope].append(step)
    if held:
        found[held.scope].append(held)
    for scope, steps in found.items():
        state.add_scope(scope, steps)
    return state


def open_transaction(
    run: Run,
    state: RunState,
    names: Names | None = None,
    *,
    is_locked: bool = True,
    opening: OpenedLate | None = None,
) -> RunTransaction:
    """A transaction object over a known state; the caller opens and commits the database's own.

    is_locked: the caller holds the run's row; otherwise writing compares `seq`. opening: opens the
    database's transaction as soon as more than one statement needs it.
    """
    plan = plan_for(run.version_id)
    names = names or Names(run, plan)
    names.state = state
    transition = Transition(
        plan=plan, state=state, now=now(), evaluate=names.evaluate_for_decision, jitter=random.random(),
        learn=names.know, learn_input=names.know_input, item_of=names.item_of, result_of=names.result_of,
        undoable=lambda: undoable(run.id, plan),
    )  # fmt: skip
    return RunTransaction(
        run=run, state=state, transition=transition, names=names, is_locked=is_locked, opening=opening
    )


@contextmanager
def locked_run(
    run_id: UUID, path: str | None = None, *, skip_locked: bool = False
) -> Iterator[RunTransaction]:
    """Lock a run, give its state, write what was decided, commit, then announce.

    path: the step it is about, if it is about one; see `state_of`.
    Raises RunNotFound; RunBusy when `skip_locked` and another transaction holds the row.
    """
    with transaction.atomic():
        run = lock_run(run_id, skip_locked=skip_locked)
        tx = open_transaction(run, state_of(run, path))
        yield tx
        tx.write()
        tx.after_commit()


def lock_run(run_id: UUID, *, skip_locked: bool = False) -> Run:
    """Lock a run's row inside an open transaction (on SQLite the transaction itself is the lock).

    Raises RunNotFound; RunBusy when `skip_locked` and another transaction holds the row.
    """
    run = store.read_run(run_id, lock=True, skip_locked=skip_locked)
    if run is not None and run.removed_at is not None:
        run = None
    if run is None:
        if skip_locked and Run.objects.filter(id=run_id).exists():
            raise RunBusy
        raise RunNotFound(f"There is no run {run_id}.", next="List runs with `mn runs list`.")
    return run
