"""What one decision collects, and the only ways to move a step or a run: by the tables of states."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from apps.blueprints.core.document import Node
from apps.runs.core.plan import Plan, container_of, enclosing, pass_path
from apps.runs.core.state import RunState, StepState
from apps.runs.core.states import RUN_MOVES, STEP_MOVES, RunStatus, StepStatus

Evaluate = Callable[[str, dict[str, Any], str], Any]
"""(expression, extra names, scope) → value; raises ValueError with a sentence when it cannot."""
Result = Callable[[str], Any]
"""(scope) → what a finished pass hands over; raises ValueError with a sentence when it cannot be formed."""
Item = Callable[[str, int], Any]
"""(path of a map, index) → the item, as frozen when the map began."""


class IllegalMove(RuntimeError):
    """A state change that the table does not list: a bug, never a user's mistake."""


@dataclass(frozen=True)
class NewEntry:
    kind: str
    path: str
    attempt: int | None
    data: dict[str, Any]


@dataclass(frozen=True)
class ArchivedAttempt:
    """An attempt that ended without finishing its step; the next one takes over the step's row."""

    path: str
    number: int
    fence: int
    status: str
    worker: UUID | None
    ready_at: datetime | None
    started_at: datetime | None
    error: dict[str, Any] | None


@dataclass
class Decision:
    """Changes a `RunState` and keeps what the shell has to store."""

    plan: Plan
    state: RunState
    now: datetime
    evaluate: Evaluate
    jitter: float = 0.5
    learn: Callable[[str, Any], None] = lambda path, output: None
    """Told each output as it will be stored, before anything that follows is evaluated."""
    result_of: Result = lambda scope: None
    item_of: Item = lambda path, index: None
    learn_input: Callable[[str, Any], None] = lambda path, value: None
    """Told what a pass works on, before anything in it is evaluated."""
    updates: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Changed columns by step path."""
    expected: dict[str, tuple[StepStatus, int]] = field(default_factory=dict)
    """Status and fence each changed row must still have."""
    inserts: list[str] = field(default_factory=list)
    entries: list[NewEntry] = field(default_factory=list)
    attempts: list[ArchivedAttempt] = field(default_factory=list)
    run_updates: dict[str, Any] = field(default_factory=dict)
    needs_result: bool = False
    """The run has just succeeded: the shell computes its outputs and checks."""
    has_started: bool = False
    """A step was claimed or has ended in this decision."""
    touched: list[str] = field(default_factory=list)
    """Scopes of bodies in which a step has ended and that were not looked at yet."""
    _outputs: dict[str, Any] = field(default_factory=dict, repr=False)
    """What passes that ended in this decision handed over, by path."""
    closed: list[str] = field(default_factory=list)
    """Paths whose open questions are void now."""

    @property
    def _is_stopping(self) -> bool:
        """The run as a whole goes no further."""
        return self.state.cancel_requested or self.state.is_failing

    def _stops(self, scope: str) -> bool:
        """Whether nothing new may start in a scope: its run, or a pass around it, is failing or over."""
        if self._is_stopping:
            return True
        return any(around and self._pass_is_over(around) for around in (enclosing(scope) if scope else ()))

    def _pass_is_over(self, scope: str) -> bool:
        this = self.state.find(pass_path(scope))
        container = self.state.find(container_of(scope))
        return (
            this is None
            or this.has_ended
            or "error" in (this.memo or {})
            or container is None
            or container.has_ended
            or self._is_settled(container)
        )

    @staticmethod
    def _is_settled(container: StepState) -> bool:
        """A map whose result is fixed although items may still be under way."""
        return bool((container.memo or {}).get("settled"))

    def entry(self, kind: str, step: StepState | None = None, data: dict[str, Any] | None = None) -> None:
        self.entries.append(
            NewEntry(kind, step.path if step else "", step.attempt if step else None, data or {})
        )

    def _run_to(self, status: RunStatus) -> None:
        if status is self.state.status:
            return
        if status not in RUN_MOVES[self.state.status]:
            raise IllegalMove(f"run {self.state.id}: {self.state.status} → {status}")
        self.state.status = status
        self.run_updates["status"] = status
        if status is not RunStatus.QUEUED and self.state.started_at is None:
            self.state.started_at = self.now
            self.run_updates["started_at"] = self.now

    def _archive(self, step: StepState, status: str, error: dict[str, Any] | None) -> None:
        self.attempts.append(
            ArchivedAttempt(
                step.path,
                step.attempt,
                step.fence,
                status,
                step.worker,
                step.ready_at,
                step.started_at,
                error,
            )
        )

    def _expect(self, step: StepState) -> None:
        if step.path not in self.inserts:
            self.expected.setdefault(step.path, (step.status, step.fence))

    def _own(self, path: str) -> StepState:
        """The step to change. Raises KeyError when the run has no such step."""
        if self.state.find(path) is None:
            raise KeyError(path)
        return self.state.own(path)

    def _plan_of(self, step: StepState) -> Plan:
        return self.plan.for_scope(step.scope)

    def node_of(self, step: StepState) -> Node:
        """A step's node; a pass's is the map or loop it goes through."""
        scope = step.scope
        if step.is_pass:
            scope = container_of(scope).rpartition("/")[0]
        return self.plan.for_scope(scope).nodes[step.node_id]

    def _insert(self, step: StepState, **fields: Any) -> None:
        """A step comes into being, with columns the state does not know."""
        self.state.add(step)
        self.inserts.append(step.path)
        self.updates[step.path] = fields
        self._tally(step.counts, 1)
        if step.has_ended:
            self._ended(step)

    def _move(self, step: StepState, status: StepStatus, **fields: Any) -> None:
        if status not in STEP_MOVES[step.status]:
            raise IllegalMove(f"step {step.path}: {step.status} → {status}")
        self._expect(step)
        before = step.counts
        step.status = status
        self.updates.setdefault(step.path, {})["status"] = status
        self._set(step, fields)
        self._tally(before, -1)
        self._tally(step.counts, 1)
        if step.has_ended:
            self._ended(step)

    def _change(self, step: StepState, **fields: Any) -> None:
        self._expect(step)
        before = step.counts
        self._set(step, fields)
        if "due_at" in fields:
            self._tally(before, -1)
            self._tally(step.counts, 1)

    def _set(self, step: StepState, fields: dict[str, Any]) -> None:
        for name, value in fields.items():
            setattr(step, name, value)
        if "taken" in fields:
            self.state.edges_taken(step.scope)
        self.updates.setdefault(step.path, {}).update(fields)

    def _tally(self, counts: tuple[int, int, int], sign: int) -> None:
        active, idle, stuck = counts
        self.state.active += sign * active
        self.state.idle += sign * idle
        self.state.stuck += sign * stuck

    def _ended(self, step: StepState) -> None:
        """A step has ended; whatever its scope was waiting for may be over with it."""
        self.has_started = True
        if step.scope and step.scope not in self.touched:
            self.touched.append(step.scope)
