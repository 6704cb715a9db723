"""What the engine knows of a run while it decides: the run's flags and its steps, without their payloads."""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any
from uuid import UUID

from apps.runs.core.plan import Plan, path_of
from apps.runs.core.states import STEP_ENDED, RunStatus, StepStatus


@dataclass
class StepState:
    path: str
    node_id: str
    kind: str
    round: int
    status: StepStatus
    id: int = 0
    """Database id; 0 for a row this transaction inserts."""
    reason: str = ""
    port: str = ""
    taken: tuple[int, ...] = ()
    fence: int = 0
    attempt: int = 0
    failures: int = 0
    losses: int = 0
    worker: UUID | None = None
    ready_at: datetime | None = None
    started_at: datetime | None = None
    due_at: datetime | None = None
    deadline_at: datetime | None = None
    memo: dict[str, Any] | None = None
    labels: tuple[str, ...] = ()
    model_calls: int = 0
    tool_calls: int = 0
    cost_microusd: int = 0
    cost_unknown: bool = False

    @property
    def has_ended(self) -> bool:
        return self.status in STEP_ENDED


@dataclass
class RunState:
    """Exactly the run at entry `seq`; every transaction that changes it raises `seq`."""

    id: UUID
    workspace_id: UUID
    status: RunStatus
    seq: int
    pause_requested: bool = False
    cancel_requested: bool = False
    error: dict[str, Any] | None = None
    """Set as soon as the run is going to fail, while steps in flight still settle."""
    retries_used: int = 0
    cost_microusd: int = 0
    cost_unknown: bool = False
    started_at: datetime | None = None
    steps: dict[str, StepState] = field(default_factory=dict)
    _rounds: dict[str, int] | None = field(default=None, repr=False, compare=False)
    """Rounds by node, counted once until the next edge is taken; nodes outside every loop are left out."""

    def copy(self) -> RunState:
        """A state to decide on; the original stays true if the decision is not stored."""
        return replace(self, steps={path: copy(step) for path, step in self.steps.items()}, _rounds=None)

    @property
    def is_failing(self) -> bool:
        return self.error is not None

    def takes(self, edge_index: int) -> int:
        """How often an edge was taken."""
        return sum(edge_index in step.taken for step in self.steps.values())

    def round_of(self, plan: Plan, node: str) -> int:
        """The round a node is in: one more than the back edges taken around it (ENGINE rule 18)."""
        if not plan.back_edges:
            return 1
        if self._rounds is None:
            self._rounds = {}
            for edge in plan.back_edges:
                for member in plan.body[edge.index] if (takes := self.takes(edge.index)) else ():
                    self._rounds[member] = self._rounds.get(member, 1) + takes
        return self._rounds.get(node, 1)

    def edges_taken(self) -> None:
        """A step ended by edges: rounds have to be counted again."""
        self._rounds = None

    def current(self, plan: Plan, node: str) -> StepState | None:
        """The node's step in its current round; None while blocked."""
        return self.steps.get(path_of(node, self.round_of(plan, node)))

    def latest_ended(self, node: str) -> StepState | None:
        """What `steps.<node>` means in an expression: the latest finished round."""
        return self.all_latest_ended().get(node)

    def all_latest_ended(self) -> dict[str, StepState]:
        """`latest_ended` of every node that has one, in one pass."""
        latest: dict[str, StepState] = {}
        for step in self.steps.values():
            if step.has_ended and (step.node_id not in latest or latest[step.node_id].round < step.round):
                latest[step.node_id] = step
        return latest
