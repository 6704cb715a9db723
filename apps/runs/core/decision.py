"""What one decision collects, and the only ways to move a step or a run: by the tables of states."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from apps.runs.core.plan import Plan
from apps.runs.core.state import RunState, StepState
from apps.runs.core.states import RUN_MOVES, STEP_MOVES, RunStatus, StepStatus

Evaluate = Callable[[str, dict[str, Any]], Any]
"""(expression, extra names) → value; raises ValueError with a sentence when it cannot."""


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
    closed: list[str] = field(default_factory=list)
    """Paths whose open questions are void now."""

    @property
    def _is_stopping(self) -> bool:
        return self.state.cancel_requested or self.state.is_failing

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

    def _move(self, step: StepState, status: StepStatus, **fields: Any) -> None:
        if status not in STEP_MOVES[step.status]:
            raise IllegalMove(f"step {step.path}: {step.status} → {status}")
        self._expect(step)
        step.status = status
        self.updates.setdefault(step.path, {})["status"] = status
        self._change(step, **fields)

    def _change(self, step: StepState, **fields: Any) -> None:
        self._expect(step)
        for name, value in fields.items():
            setattr(step, name, value)
        if "taken" in fields:
            self.state.edges_taken()
        self.updates.setdefault(step.path, {}).update(fields)
